"""Sums over the rows of each block of structures, from which any choice of blocks is made up.

Resampling and selection need the statistics of many different choices. A block is one structure,
or one group of structures that is drawn as a whole. Second moments of every block take q²/2
numbers, so where there are more than a few dozen features the rows are projected first, on fixed
random directions that all sets share. Where every structure of a set is a block, sums are kept in a
file, so that memory does not grow with the set:

sums.npy     [S, 1 + q + q (q + 1) / 2] float64: counts, sums, products of each structure
sums.json    their center; written last
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, Self

import numpy as np
from flax import struct

from atomjax.runtime.files import (
    PARSE_ERRORS,
    DamagedFile,
    append_checksum,
    compare_npy,
    read_json,
    replacing,
    write_json,
)

# Features up to which rows are taken as they are; and the number of directions beyond.
DIMENSIONS = 64
# Structures whose sums are in memory at a time: 17 MB.
CHUNK = 1024
SUMS, CENTER = "sums.npy", "sums.json"


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

    def take(self, indices: np.ndarray) -> "StructureSums":
        """The blocks of some numbers."""
        return self.blockwise(lambda array: array[indices])

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
        self._block_sums = BlockSums(projection)
        # Grown by doubling; the first `_blocks` rows are in use.
        self._sums = np.zeros((0, 0))
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
        numbers, summed = self._block_sums(rows, block, weights)
        self._grow(int(numbers[-1]) + 1, summed.shape[1])
        self._sums[numbers] += summed

    def result(self) -> StructureSums:
        """Sums of all blocks so far, in the order of their numbers.

        Raises:
            ValueError: there are none.
        """
        if self._block_sums.center is None:
            raise ValueError("no structure was added; sample at least one")
        return _split(self._sums[: self._blocks].copy(), self._block_sums.center)

    def _grow(self, blocks: int, width: int) -> None:
        """Makes room for so many blocks."""
        if blocks > len(self._sums):
            rows = max(blocks, 2 * len(self._sums))
            grown = np.zeros((rows, width))
            if self._blocks:
                grown[: self._blocks] = self._sums[: self._blocks]
            self._sums = grown
        self._blocks = max(self._blocks, blocks)


class BlockSums:
    """Sums over the rows of blocks, projected, about one center near the mean of the first rows.

    Args:
        projection: [d, q] from :func:`random_projection`, or None.

    Attributes:
        center: [q] of the projected rows; None before the first.
    """

    def __init__(self, projection: np.ndarray | None):
        self._projection = projection
        self.center: np.ndarray | None = None

    def __call__(
        self, rows: np.ndarray, block: np.ndarray, weights: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sums over the rows of each block.

        Args:
            rows: [n, d] features.
            block: [n] number of the block each row belongs to.
            weights: [n], or None for weights of 1.

        Returns:
            [b] the numbers of the blocks, ascending, and [b, 1 + q + q (q + 1) / 2] their counts,
            sums and products.
        """
        if self._projection is not None:
            rows = rows @ self._projection.astype(rows.dtype)
        center = self.center
        if center is None:
            center = self.center = rows.mean(axis=0, dtype=np.float64)
        order = np.argsort(block, kind="stable")
        block = block[order]
        moved = np.asarray(rows, np.float64)[order] - center
        weighted = np.ones(len(moved)) if weights is None else weights[order]
        first = np.flatnonzero(np.diff(block, prepend=block[0] - 1))
        i, j = np.triu_indices(moved.shape[1])
        scaled = weighted[:, None] * moved
        terms = np.concatenate([weighted[:, None], scaled, scaled[:, i] * moved[:, j]], axis=1)
        return block[first], np.add.reduceat(terms, first)


def _split(table: np.ndarray, center: np.ndarray) -> StructureSums:
    """Rows of counts, sums and products as sums of single structures."""
    q = len(center)
    counts, sums, products = table[:, 0], table[:, 1 : q + 1], table[:, q + 1 :]
    return StructureSums(counts, sums, products, center, np.ones(len(table), int))


class EachStructure(Protocol):
    """Sums of each structure of a set, in memory or on disk."""

    @property
    def center(self) -> np.ndarray:
        """[q] near the mean."""
        ...

    @property
    def dimension(self) -> int:
        """Number q of features."""
        ...

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> StructureSums:
        """Those of some structures."""
        ...


def in_chunks(sums: EachStructure, indices: np.ndarray | None = None) -> Iterator[StructureSums]:
    """Sums of all structures, or of some, of at most `CHUNK` at a time."""
    count = len(sums) if indices is None else len(indices)
    for start in range(0, count, CHUNK):
        places = np.arange(start, min(start + CHUNK, count))
        yield sums.take(places if indices is None else indices[places])


class StoredSums:
    """Sums of each structure of a set, in the folder that a :class:`SumsWriter` filled.

    Args:
        folder: folder of ``sums.npy`` and ``sums.json``.
        mend: remedy for damaged files, for messages.

    Raises:
        DamagedFile: a file is not as it was written.
    """

    def __init__(self, folder: Path, mend: str):
        self.path = folder / SUMS
        try:
            self.center = np.array(read_json(folder / CENTER, mend)["center"], dtype=np.float64)
            (self._count, self._width), self._offset = compare_npy(self.path, mend)
        except DamagedFile:
            raise
        except PARSE_ERRORS as error:
            raise DamagedFile(f"{folder} is damaged ({error!r}); {mend}") from error

    def __len__(self) -> int:
        return self._count

    @property
    def dimension(self) -> int:
        """Number q of features."""
        return len(self.center)

    def take(self, indices: np.ndarray) -> StructureSums:
        """Sums of some structures, read from the file: mapped pages would count as memory."""
        table = np.empty((len(indices), self._width))
        with self.path.open("rb") as file:
            for row, index in zip(table, indices.tolist(), strict=True):
                file.seek(self._offset + index * row.nbytes)
                file.readinto(row.data)
        return _split(table, self.center)


class SumsWriter:
    """Writes the sums of each structure of a set, in whatever order they come."""

    def __init__(self, file: BinaryIO, count: int, seed: int):
        self._file, self._count, self._seed = file, count, seed
        # Made with the first rows, which tell how many features there are.
        self._block_sums: BlockSums | None = None
        self._offset = 0

    @property
    def center(self) -> np.ndarray | None:
        """[q] that the sums are about; None before the first rows."""
        return None if self._block_sums is None else self._block_sums.center

    def add(self, rows: np.ndarray, structure: np.ndarray) -> None:
        """Takes in all rows [n, d] of some structures, whose places in the set are [n]."""
        if self._block_sums is None:
            self._block_sums = BlockSums(random_projection(rows.shape[1], seed=self._seed))
        numbers, summed = self._block_sums(rows, structure)
        if not self._offset:
            described = {"descr": "<f8", "fortran_order": False}
            shape = (self._count, summed.shape[1])
            np.lib.format.write_array_header_1_0(self._file, {**described, "shape": shape})
            self._offset = self._file.tell()
        for number, row in zip(numbers.tolist(), summed, strict=True):
            self._file.seek(self._offset + number * row.nbytes)
            self._file.write(row.data)


@contextlib.contextmanager
def writing_sums(folder: Path, count: int, seed: int) -> Iterator[SumsWriter]:
    """A writer whose files are there when all structures were added, or never."""
    with replacing(folder / SUMS) as file:
        writer = SumsWriter(file, count, seed)
        yield writer
        append_checksum(file)
    assert writer.center is not None
    write_json(folder / CENTER, {"center": writer.center.tolist()})


def unpack(products: np.ndarray, dimension: int) -> np.ndarray:
    """Symmetric matrices [..., q, q] of their upper triangles [..., q (q + 1) / 2]."""
    i, j = np.triu_indices(dimension)
    matrices = np.empty((*products.shape[:-1], dimension, dimension))
    matrices[..., i, j] = matrices[..., j, i] = products
    return matrices
