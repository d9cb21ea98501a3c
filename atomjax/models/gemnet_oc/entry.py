"""GemNet-OC's registration as a backbone."""

from atomjax.graphs import GraphConfig
from atomjax.graphs.config import PUBLISHED_RULE, limits_in_proportion
from atomjax.models.backbone import Backbone
from atomjax.models.gemnet_oc.config import GEMNET_OC_SIZES, GemNetOCConfig
from atomjax.models.gemnet_oc.network import GemNetOC


def shared_parameters(config: GemNetOCConfig) -> tuple[tuple[str, int], ...]:
    """Parameters that several blocks read.

    The embedding of radii for the outputs is read by one output block more than there are
    interactions.
    """
    blocks = config.num_blocks
    return (("^backbone/bases/mlp_rbf_out/", blocks + 1), ("^backbone/bases/", blocks))


# JMP's.
PUBLISHED_GRAPH = GraphConfig(
    cutoff=12.0, cutoff_molecule=8.0, **limits_in_proportion(30), **PUBLISHED_RULE
)
GEMNET_OC = Backbone(
    name="gemnet_oc",
    sizes=GEMNET_OC_SIZES,
    network=GemNetOC,
    graph=GraphConfig(),
    published_graph=PUBLISHED_GRAPH,
    cutoff_fields={
        "main": "rbf_cutoff",
        "a2ee2a": "rbf_cutoff_a2ee2a",
        "qint": "rbf_cutoff_qint",
        "a2a": "rbf_cutoff_a2a",
    },
    smooth={"envelope_exponent": 5},
    first_element=1,
    block=lambda i: (f"int_blocks_{i}", f"out_blocks_{i + 1}"),
    before_blocks=("out_blocks_0",),
    # JMP (Shoghi et al., ICLR 2024), table 18.
    layer_rates={
        "jmp_small": (0.3, (0.35, 0.40, 0.55, 0.625)),
        "jmp_large": (0.3, (0.55, 0.40, 0.30, 0.40, 0.55, 0.625)),
    },
    shared=shared_parameters,
    free_fields=("dropout", "edge_dropout", "edge_output", "precision", "remat"),
    edge_field="edge_output",
    conformance={"num_blocks": 1},
)
