"""Sums over the rows of each structure, from which any choice of structures is made up.

The bootstrap and sample selection need the statistics of many different choices of structures.
Second moments of every structure take S · q²/2 numbers, so where there are more than a few dozen
features the rows are projected first, on fixed random directions that all sets share.
"""

from collections.abc import Sequence

import numpy as np
from flax import struct

# Features up to which rows are taken as they are; and the number of directions beyond.
DIMENSIONS = 64


@struct.dataclass
class StructureSums:
    """Sums over the rows of each of S structures, of q projected features.

    Attributes:
        counts: [S] rows.
        sums: [S, q] of ``x - center``.
        products: [S, q (q + 1) / 2] of the upper triangle of ``(x - center)(x - center)ᵀ``.
        center: [q] near the mean, so that moments lose no digits.
    """

    counts: np.ndarray
    sums: np.ndarray
    products: np.ndarray
    center: np.ndarray

    @property
    def dimension(self) -> int:
        """Number q of projected features."""
        return self.sums.shape[1]


def random_projection(
    dimension: int, directions: int = DIMENSIONS, seed: int = 0
) -> np.ndarray | None:
    """Random orthonormal directions, or None where there are no more features than directions.

    Scaled by ``√(d / q)``, so that squared lengths keep their expected value. Distances between
    projected sets are not those of the sets: only their relative spread is used.

    Args:
        dimension: number d of features.
        directions: number q.
        seed: of the directions; use one for all sets.

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
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, rows: np.ndarray, structure: np.ndarray) -> None:
        """Takes in whole structures.

        Args:
            rows: [n, d] features.
            structure: [n] ascending number of the structure each row belongs to.
        """
        if not len(rows):
            return
        if self.projection is not None:
            rows = rows @ self.projection.astype(rows.dtype)
        rows = np.asarray(rows, np.float64)
        if self._center is None:
            self._center = rows.mean(axis=0)
        rows = rows - self._center
        first = np.flatnonzero(np.diff(structure, prepend=structure[0] - 1))
        i, j = np.triu_indices(rows.shape[1])
        self._parts.append(
            (
                np.diff(first, append=len(rows)),
                np.add.reduceat(rows, first),
                np.add.reduceat(rows[:, i] * rows[:, j], first),
            )
        )

    def result(self) -> StructureSums:
        """Sums of all structures so far, in their order.

        Raises:
            ValueError: there are none.
        """
        if self._center is None:
            raise ValueError("no structure was added; sample at least one")
        counts, sums, products = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        return StructureSums(counts, sums, products, self._center)


def check_comparable(sets: Sequence[StructureSums]) -> None:
    """Checks that sets were projected alike.

    Raises:
        ValueError: they have different numbers of features.
    """
    sizes = sorted({s.dimension for s in sets})
    if len(sizes) > 1:
        raise ValueError(
            f"structure sums of {sizes} features cannot be compared; collect all sets with one "
            "extractor and one projection"
        )


def unpack(products: np.ndarray, dimension: int) -> np.ndarray:
    """Symmetric matrices [..., q, q] of their upper triangles [..., q (q + 1) / 2]."""
    i, j = np.triu_indices(dimension)
    matrices = np.empty((*products.shape[:-1], dimension, dimension))
    matrices[..., i, j] = matrices[..., j, i] = products
    return matrices
