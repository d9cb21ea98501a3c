"""EquiformerV2's registration as a backbone."""

from typing import Any

from atomjax.graphs import GraphConfig
from atomjax.graphs.config import PUBLISHED_RULE, limits_in_proportion
from atomjax.models.backbone import Backbone
from atomjax.models.equiformer_v2.config import EQUIFORMER_V2_SIZES, EquiformerV2Config
from atomjax.models.equiformer_v2.network import EquiformerV2

REVERSED = {
    "source_minus_target": "target_minus_source",
    "target_minus_source": "source_minus_target",
}


def reversed_edges(config: EquiformerV2Config) -> dict[str, Any]:
    """The direction of the edges that efficient-atom feeds a model which was trained with another.

    The code of arXiv:2502.11085.
    """
    return {"edge_direction": REVERSED[config.edge_direction]}


def published_graph(cutoff: float = 12.0, max_neighbors: int = 20) -> GraphConfig:
    """The graph of fairchem's checkpoints.

    It carries JMP's limits of graphs that it does not have: they are in the names of caches.

    Args:
        cutoff: Å, of all structures.
        max_neighbors: limit.
    """
    fields = {**limits_in_proportion(30), **PUBLISHED_RULE, "max_neighbors": max_neighbors}
    return GraphConfig(kind="nearest", cutoff=cutoff, cutoff_molecule=cutoff, **fields)


EQUIFORMER_V2 = Backbone(
    name="equiformer_v2",
    sizes=EQUIFORMER_V2_SIZES,
    network=EquiformerV2,
    graph=GraphConfig(kind="nearest"),
    published_graph=published_graph(),
    cutoff_fields={"main": "cutoff"},
    smooth={"envelope_exponent": 5},
    element_embedding="sphere_embedding",
    block=lambda i: (f"blocks_{i}",),
    head_sizes=("hidden_channels", "force_hidden_channels"),
    free_fields=("dropout", "drop_path", "edge_dropout", "edge_chunk", "precision"),
    lmax=lambda config: config.lmax,
    conventions={"efficient_atom": reversed_edges},
    # On a grid that fine the rotation error of its activations is rounding.
    conformance={"num_blocks": 1, "grid_resolution": 36},
)
