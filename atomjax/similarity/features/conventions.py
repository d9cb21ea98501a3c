"""What the code of arXiv:2502.11085 does differently, so that its values can be reproduced.

Some of it was hardly meant: see docs/csi.md. The mean of the features, which the original takes in
float32, is taken in float64 all the same.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atomjax.graphs import GraphConfig
from atomjax.graphs.config import PUBLISHED_RULE
from atomjax.models import backbone_config
from atomjax.models.equiformer_v2 import EquiformerV2Config
from atomjax.runtime.config import ConfigError
from atomjax.structures import Structure

NEIGHBORS = 30
CUTOFF, CUTOFF_MOLECULE = 12.0, 8.0  # Å
EDGE_DROPOUT = 0.1
# Smaller molecules and heavier elements are left out of downstream sets.
FEWEST_ATOMS = 4
HEAVIEST = 89
REVERSED = {
    "source_minus_target": "target_minus_source",
    "target_minus_source": "source_minus_target",
}


def check_conventions(config: Mapping[str, Any]) -> None:
    """Refuses backbones that the original does not extract with.

    Raises:
        ConfigError: the backbone is not an EquiformerV2.
    """
    if not isinstance(backbone_config(config), EquiformerV2Config):
        raise ConfigError(
            f'extractor.conventions="efficient_atom" is for EquiformerV2, not {config["name"]}; '
            "leave it out"
        )


def original_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The model's config with its edge vectors reversed."""
    direction = getattr(backbone_config(config), "edge_direction", "source_minus_target")
    return {**config, "edge_direction": REVERSED[direction]}


def upstream_graph(graph: GraphConfig) -> GraphConfig:
    """The graph of upstream sets; edges are dropped before the nearest are chosen."""
    return dataclasses.replace(
        graph,
        cutoff=CUTOFF,
        cutoff_molecule=CUTOFF_MOLECULE,
        max_neighbors=NEIGHBORS,
        edge_dropout=EDGE_DROPOUT,
        **PUBLISHED_RULE,
    )


def first_structures(structures: Sequence[Structure], size: int) -> np.ndarray:
    """[at most ``size``] indices of the first structures that the original does not leave out."""
    kept = []
    for index, structure in enumerate(structures):
        if len(structure.atomic_numbers) >= FEWEST_ATOMS and (
            structure.atomic_numbers.max() <= HEAVIEST
        ):
            kept.append(index)
        if len(kept) == size:
            break
    return np.array(kept, int)
