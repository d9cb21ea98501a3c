"""Deviating conventions of the code of arXiv:2502.11085, for reproducing its values.

Some of them are probably unintended: see docs/csi.md. The mean of the features, which the original
takes in float32, is taken in float64 all the same.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atomjax.graphs import GraphConfig
from atomjax.graphs.config import PUBLISHED_RULE
from atomjax.models import backbone_config, find_backbone
from atomjax.runtime.config import ConfigError
from atomjax.structures import Structure

NEIGHBORS = 30
CUTOFF, CUTOFF_MOLECULE = 12.0, 8.0  # Å
EDGE_DROPOUT = 0.1
# Smaller molecules and heavier elements are left out of downstream sets.
FEWEST_ATOMS = 4
HEAVIEST = 89


def original_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The model's config as the original uses such a model: EquiformerV2 with edges reversed.

    Raises:
        ConfigError: the original does not extract with this backbone.
    """
    differing = find_backbone(config).conventions.get("efficient_atom")
    if differing is None:
        raise ConfigError(
            f'extractor.conventions="efficient_atom" is for EquiformerV2, not {config["name"]}; '
            "leave it out"
        )
    return {**config, **differing(backbone_config(config))}


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
    """[at most ``size``] first structures, less those that the original leaves out, by index."""
    kept = [
        index
        for index, structure in zip(range(size), structures, strict=False)
        if len(structure.atomic_numbers) >= FEWEST_ATOMS
        and structure.atomic_numbers.max() <= HEAVIEST
    ]
    return np.array(kept, int)
