"""Sums over the rows of each block of structures, from which any choice of blocks is made up.

Resampling and selection need the statistics of many different choices. A block is one structure,
or one group of structures that is drawn as a whole. Second moments of every block take q²/2
numbers, so where there are more than a few dozen features the rows are projected first, on fixed
random directions that all sets share.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np
from flax import struct

# Features up to which rows are taken as they are; and the number of directions beyond.
DIMENSIONS = 64


class Moments(NamedTuple):
    """Means [B, q] and covariances [B, q, q] of B choices of blocks."""

    mean: np.ndarray
    covariance: np.ndarray


@struct.dataclass
class StructureSums:
    """Sums over the rows of each of S blocks, of q projected features; rows may have weights.

    Attributes:
        counts: [S] rows, or the sum of their weights.
        sums: [S, q] of ``x - center``.
        products: [S, q (q + 1) / 2] of the upper triangle of ``(x - center)(x - center)ᵀ``.
        center: [q] near the mean, so that moments lose no digits.
        structures: [S] how many structures each block holds.
    """

    counts: np.ndarray
    sums: np.ndarray
    products: np.ndarray
    center: np.ndarray
    structures: np.ndarray

    @property
    def dimension(self) -> int:
        """Number q of projected features."""
        return self.sums.shape[1]

    def __len__(self) -> int:
        return len(self.counts)

    def choose(self, weights: np.ndarray) -> Moments:
        """Moments of weighted blocks; covariances divide by the rows less one.

        Args:
            weights: [B, S] how often each block is taken in each choice.
        """
        rows = weights @ self.counts
        offset = weights @ self.sums / rows[:, None]
        second = unpack(weights @ self.products / rows[:, None], self.dimension)
        central = second - offset[:, :, None] * offset[:, None, :]
        factor = np.where(rows > 1, rows / np.where(rows > 1, rows - 1, 1), 0)
        return Moments(offset + self.center, central * factor[:, None, None])

    def blockwise(self, change: Callable[[np.ndarray], np.ndarray]) -> Self:
        """The same with a function applied to the first axis of all sums."""
        arrays = (self.counts, self.sums, self.products, self.structures)
        counts, sums, products, structures = map(change, arrays)
        return type(self)(counts, sums, products, self.center, structures)

    def joined(self, other: Self) -> Self:
        """The blocks of both sets, these first, about the center of these."""
        i, j = np.triu_indices(self.dimension)
        shift = other.center - self.center
        moved = other.sums + other.counts[:, None] * shift
        cross = other.sums[:, i] * shift[j] + moved[:, j] * shift[i]
        return type(self)(
            np.concatenate([self.counts, other.counts]),
            np.concatenate([self.sums, moved]),
            np.concatenate([self.products, other.products + cross]),
            self.center,
            np.concatenate([self.structures, other.structures]),
        )


def random_projection(
    dimension: int, directions: int = DIMENSIONS, seed: int = 0
) -> np.ndarray | None:
    """Random orthonormal directions, or None where there are no more features than directions.

    Scaled by ``√(d / q)``, so that squared lengths keep their expected value. Distances between
    projected sets are not those of the sets: only their relative spread is used.

    Args:
        dimension: number d of features.
        directions: number q.
        seed: seed of the directions; use one for all sets.

    Returns:
        [d, q], or None.
    """
    if dimension <= directions:
        return None
    gaussian = np.random.default_rng(seed).normal(size=(dimension, directions))
    orthonormal, _ = np.linalg.qr(gaussian)
    return orthonormal * np.sqrt(dimension / directions)


class StructureSumsBuilder:
    """Collects :class:`StructureSums` batch by batch.

    Args:
        projection: [d, q] from :func:`random_projection`, or None.
    """

    def __init__(self, projection: np.ndarray | None):
        self.projection = projection
        self._center: np.ndarray | None = None
        # Grown by doubling; the first `_blocks` rows are in use.
        self._arrays: list[np.ndarray] = []
        self._blocks = 0

    def add(self, rows: np.ndarray, block: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Takes in the rows of some structures.

        Args:
            rows: [n, d] features.
            block: [n] number of the block each row belongs to.
            weights: [n] not negative; None gives every row weight 1.
        """
        if not len(rows):
            return
        if self.projection is not None:
            rows = rows @ self.projection.astype(rows.dtype)
        order = np.argsort(block, kind="stable")
        rows, block = np.asarray(rows, np.float64)[order], block[order]
        weighted = np.ones(len(rows)) if weights is None else weights[order]
        if self._center is None:
            self._center = rows.mean(axis=0)
        rows = rows - self._center
        first = np.flatnonzero(np.diff(block, prepend=block[0] - 1))
        i, j = np.triu_indices(rows.shape[1])
        scaled = weighted[:, None] * rows
        self._grow(int(block[-1]) + 1, rows.shape[1], len(i))
        for total, part in zip(
            self._arrays, (weighted, scaled, scaled[:, i] * rows[:, j]), strict=True
        ):
            total[block[first]] += np.add.reduceat(part, first)

    def result(self) -> StructureSums:
        """Sums of all blocks so far, in the order of their numbers.

        Raises:
            ValueError: there are none.
        """
        if self._center is None:
            raise ValueError("no structure was added; sample at least one")
        counts, sums, products = (array[: self._blocks].copy() for array in self._arrays)
        return StructureSums(counts, sums, products, self._center, np.ones(len(counts), int))

    def _grow(self, blocks: int, *widths: int) -> None:
        """Makes room for so many blocks."""
        if not self._arrays:
            shapes: list[Any] = [(), *((width,) for width in widths)]
            self._arrays = [np.zeros((blocks, *shape)) for shape in shapes]
        elif blocks > len(self._arrays[0]):
            more = max(blocks, 2 * len(self._arrays[0])) - len(self._arrays[0])
            self._arrays = [
                np.concatenate([array, np.zeros((more, *array.shape[1:]))])
                for array in self._arrays
            ]
        self._blocks = max(self._blocks, blocks)


def unpack(products: np.ndarray, dimension: int) -> np.ndarray:
    """Symmetric matrices [..., q, q] of their upper triangles [..., q (q + 1) / 2]."""
    i, j = np.triu_indices(dimension)
    matrices = np.empty((*products.shape[:-1], dimension, dimension))
    matrices[..., i, j] = matrices[..., j, i] = products
    return matrices
