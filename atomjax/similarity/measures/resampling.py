"""Choices of the blocks of a set: all, all but one, and random exchanges between two sets.

Everything here is NumPy on the host: matrices are at most some dozens wide, and there are hundreds
of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from atomjax.similarity.features.structure_sums import EachStructure
from atomjax.similarity.features.summaries import Arrays


class Drawable(Protocol):
    """Blocks of a set that choices are made of: ``StructureSums``, or ``Blocks`` of a summary."""

    @property
    def structures(self) -> np.ndarray:
        """[S] number of structures in each block."""
        ...

    @property
    def dimension(self) -> int:
        """Number of features."""
        ...

    def __len__(self) -> int: ...

    def choose(self, weights: np.ndarray) -> Any:
        """Statistics of B choices, for the weights [B, S] of the blocks in each."""
        ...

    def blockwise(self, change: Callable[[np.ndarray], np.ndarray]) -> Self:
        """The same with a function applied to the first axis of all sums."""
        ...

    def joined(self, other: Self) -> Self:
        """The blocks of both sets, these first."""
        ...


Drawn = TypeVar("Drawn", bound=Drawable)
# Statistics of B choices of either set, or of one for all → [B] values.
Distance = Callable[[Any, Any], np.ndarray]


def each_pair(value: Callable[[Arrays, Arrays], float]) -> Distance:
    """The distance of choices of rows, as of `BlockRows`, by the value of one pair of choices."""

    def distance(upstream: list[Arrays], downstream: list[Arrays]) -> np.ndarray:
        count = max(len(upstream), len(downstream))
        sides = (side * (count // len(side)) for side in (upstream, downstream))
        return np.array([value(theirs, ours) for theirs, ours in zip(*sides, strict=True)])

    return distance


def whole(blocks: Drawable) -> Any:
    """Statistics of all blocks, as one choice."""
    return blocks.choose(np.ones((1, len(blocks))))


def without_each(blocks: Drawable) -> Any:
    """Statistics of all blocks but one, for every one of them."""
    return blocks.choose(np.ones((len(blocks), len(blocks))) - np.eye(len(blocks)))


def merge_blocks(blocks: Drawn, count: int) -> Drawn:
    """The same rows in at most ``count`` blocks, to which the old ones are dealt in turn."""
    if len(blocks) <= count:
        return blocks
    dealt = np.arange(len(blocks)) % count
    order = np.argsort(dealt, kind="stable")
    first = np.flatnonzero(np.diff(dealt[order], prepend=-1))
    return blocks.blockwise(lambda array: np.add.reduceat(array[order], first))


def blocks_alike(first: Drawn, second: Drawn) -> tuple[Drawn, ...]:
    """Both sets in blocks of about as many structures, so that they may be exchanged.

    One set may be kept in larger blocks: those of the other are merged to that size.
    """
    sizes = [float(s.structures.mean()) for s in (first, second)]
    largest = max(sizes)
    return tuple(
        merge_blocks(s, max(int(len(s) * size / largest), 1))
        for s, size in zip((first, second), sizes, strict=True)
    )


def exchanges(first: int, second: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """[draws, first + second] ones for the pooled blocks that a draw puts into the first set."""
    chosen = rng.permuted(np.tile(np.arange(first + second) < first, (draws, 1)), axis=1)
    return chosen.astype(np.float64)


def check_comparable(sets: Sequence[Drawable | EachStructure]) -> None:
    """Raise ValueError where sets have different numbers of features."""
    sizes = sorted({s.dimension for s in sets})
    if len(sizes) > 1:
        raise ValueError(
            f"sums of {sizes} features cannot be compared; collect all sets with one extractor and "
            "one projection"
        )
