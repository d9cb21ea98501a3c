"""Tiers of atoms: narrow slots for those with few neighbours, wide ones for the others.

Triplets take the square of an atom's slots. If all atoms had as many slots as the one with the most
neighbours, a fourth of the pairs of slots would be real in molecules, and a tenth in crystals.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from atomjax.graphs.batch import AtomToEdgeGraph, Leaf, Tiers
from atomjax.graphs.capacity import WIDTHS, Capacity, over
from atomjax.ops.gather import Slots, TieredSlots

# Two tiers are worth their kernels, which take a fourth longer to compile, where they have at most
# this fraction of the pairs of one.
_WORTH = 0.5


def tier_shapes(capacity: Capacity) -> list[tuple[int, int, int]]:
    """Atoms, main slots of each and a2ee2a slots of each, of the tiers of a shape, widest last."""
    n, k, j = capacity.n_node, capacity.max_neighbors, capacity.max_a2ee2a
    best, least = [(n, k, j)], _WORTH * n * k * (k + j)
    for width in WIDTHS:
        wide = min(getattr(capacity, over(width)), n)
        shapes = [(n - wide, min(width, k), min(width, j)), (wide, k, j)]
        pairs = sum(atoms * main * (main + other) for atoms, main, other in shapes)
        if pairs < least:
            best, least = shapes, pairs
    return best


def make_tiers(main: Slots, a2ee2a: AtomToEdgeGraph | None, capacity: Capacity) -> Tiers:
    """The tiers of a batch of NumPy arrays, from its slots of all atoms."""
    shapes = tier_shapes(capacity)
    other = None if a2ee2a is None else a2ee2a.slots
    both = [main] if other is None else [main, other]
    neighbors = np.max([(s.index < len(s.position)).sum(axis=1) for s in both], axis=0)
    # The wide tier has room for more atoms than need it: those with the most neighbours go there.
    bounds = np.cumsum([0, *(shape[0] for shape in shapes)])
    rising = np.argsort(neighbors, kind="stable").astype(np.int32)
    atoms = [np.sort(rising[start:stop]) for start, stop in pairwise(bounds)]
    together: Leaf = np.concatenate(atoms)
    place: Leaf = np.empty_like(rising)
    place[together] = np.arange(len(rising))
    return Tiers(
        atoms=together,
        place=place,
        main=_tiered(main, atoms, [shape[1] for shape in shapes]),
        a2ee2a=None if other is None else _tiered(other, atoms, [shape[2] for shape in shapes]),
    )


def _tiered(slots: Slots, atoms: Sequence[np.ndarray], widths: Sequence[int]) -> TieredSlots:
    index = tuple(slots.index[own, :width] for own, width in zip(atoms, widths, strict=True))
    flat = np.concatenate([tier.reshape(-1) for tier in index])
    real = np.flatnonzero(flat < len(slots.position))
    position: Leaf = np.full_like(slots.position, len(flat))
    position[flat[real]] = real
    return TieredSlots(index=index, position=position)
