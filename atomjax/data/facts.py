"""Facts of a training set that settings can be chosen from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atomjax.data.labels import LabelCounts, elements_of, sizes_of
from atomjax.graphs import GraphConfig, build_many
from atomjax.structures import Structure

# Structures whose neighbours are counted.
SAMPLE = 50


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Size, elements, neighbours and labels of a training set."""

    structures: int  # labelled structures to train on
    elements: Sequence[str]  # symbols, by atomic number
    periodic: int  # structures with a periodic direction
    atoms: float  # mean number of atoms
    neighbors: Mapping[float, float]  # cutoff in Å → neighbours of an atom within it, on average
    # Structures that have such a label.
    energies: int
    forces: int
    stresses: int


def facts_of(structures: Sequence[Structure], cutoffs: Sequence[float]) -> Facts:
    """The facts of a training set.

    Args:
        structures: all of it; the neighbours are counted in up to 50 of them, and of a store no
            more are read than tell its elements.
        cutoffs: Å, distances within which neighbours are counted.
    """
    places = np.unique(np.linspace(0, len(structures) - 1, SAMPLE).astype(int))
    graph = GraphConfig(kind="nearest", cutoff=max(cutoffs))
    graphs = build_many([structures[i] for i in places], graph)
    distances = np.concatenate([g.main.distances for g in graphs])
    atoms = sum(g.n_node for g in graphs)
    labels = LabelCounts.of(structures)
    return Facts(
        structures=labels.structures,
        elements=elements_of(structures),
        periodic=labels.periodic,
        atoms=float(np.mean(sizes_of(structures))),
        neighbors={cutoff: float(np.sum(distances <= cutoff)) / atoms for cutoff in cutoffs},
        energies=labels.energy,
        forces=labels.forces,
        stresses=labels.stress,
    )
