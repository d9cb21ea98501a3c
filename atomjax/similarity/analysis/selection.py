"""Selection of structures of an upstream set to pretrain on, for a given downstream set.

The paper chooses whole data sets; these choose inside one. Both work on the sums over structures
(projected features), in coordinates where the downstream set has zero mean and unit covariance:
there a mean m and covariance C are at the squared Fréchet distance ``‖m‖² + ‖C^½ - 1‖²`` from it,
which is ``‖m‖² + ¼ ‖C - 1‖²`` to leading order.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Self

import numpy as np

from atomjax.similarity.features.structure_sums import (
    EachStructure,
    StructureSums,
    in_chunks,
    unpack,
)
from atomjax.similarity.measures.resampling import check_comparable

# Whitened directions; those in which the downstream set varies most.
DIRECTIONS = 16
# Directions in which the variance is a smaller fraction of the largest one count as noise.
NOISE = 1e-6
# Candidates whose moments are in memory at a time: 5 MB, which processors keep close.
ROWS = 4096


def select_nearest(
    upstream: EachStructure, downstream: StructureSums, size: int, directions: int = DIRECTIONS
) -> np.ndarray:
    """The structures whose atoms lie nearest to the middle of the downstream set.

    Nearest by the mean squared whitened distance of their atoms. Costs S · q³ operations for S
    structures. It favours typical structures, so the spread of what it picks is too small.

    Args:
        upstream: candidates.
        downstream: the target.
        size: number of structures to pick.
        directions: whitened directions to compare in.

    Returns:
        [size] indices of structures, nearest first.

    Raises:
        ValueError: there are fewer candidates, or the sets were projected differently.
    """
    _check(upstream, downstream, size)
    coordinates = _Coordinates.of(downstream, upstream.center, directions)
    distances = []
    for chunk in in_chunks(upstream):
        counts, _, second = coordinates.moments(chunk)
        distances.append(np.trace(second, axis1=1, axis2=2) / counts)
    return np.argsort(np.concatenate(distances), kind="stable")[:size]


def select_greedily(
    upstream: EachStructure,
    downstream: StructureSums,
    size: int,
    directions: int = DIRECTIONS,
    scratch: Path | None = None,
) -> np.ndarray:
    """Structures picked one by one, each the one that lowers the distance of the choice most.

    Herding (Welling, ICML 2009) of mean and covariance together: the distance is the quadratic
    form above, of q + q (q + 1)/2 moments. Costs S · q² operations a pick, and S · q² numbers in a
    file, which is gone through for every pick.

    Args:
        upstream: candidates.
        downstream: the target.
        size: number of structures to pick.
        directions: q, whitened directions to compare in.
        scratch: folder of the file; None for the system's own.

    Returns:
        [size] indices of structures in the order of picking.

    Raises:
        ValueError: there are fewer candidates, or the sets were projected differently.
    """
    _check(upstream, downstream, size)
    coordinates = _Coordinates.of(downstream, upstream.center, directions)
    q = coordinates.whiten.shape[1]
    i, j = np.triu_indices(q)
    # Off-diagonal elements stand twice in the norm; the factor ¼ is that of the expansion.
    weight = np.sqrt(np.where(i == j, 0.25, 0.5))
    target = np.concatenate([np.zeros(q), (i == j) * weight])
    with tempfile.TemporaryFile(dir=scratch) as file:
        rows = _Rows(file, len(upstream), len(target))
        for chunk in in_chunks(upstream):
            counts, sums, second = coordinates.moments(chunk)
            moments = np.concatenate([sums, second[:, i, j] * weight], axis=1)
            # ‖(A + a)/(N + n) - t‖² with a and n of the candidate, expanded so that a pick costs
            # one matrix-vector product.
            rows.append(moments - counts[:, None] * target, counts)
        return rows.herd(size)


class _Rows:
    """Rows of all candidates in a file, with their counts and squared lengths in memory."""

    def __init__(self, file: BufferedRandom, count: int, width: int):
        self._file, self._used = file, 0
        self._counts, self._squares = np.zeros(count), np.zeros(count)
        self._buffer = np.empty((min(ROWS, count), width))

    def append(self, rows: np.ndarray, counts: np.ndarray) -> None:
        place = slice(self._used, self._used + len(rows))
        self._counts[place], self._squares[place] = counts, (rows**2).sum(axis=1)
        self._file.write(np.ascontiguousarray(rows).data)
        self._used += len(rows)

    def herd(self, size: int) -> np.ndarray:
        """[size] places of the rows picked, each the one that keeps the mean nearest to zero."""
        total, picked, products = np.zeros(self._buffer.shape[1]), 0.0, np.empty(self._used)
        chosen = np.empty(size, np.int64)
        for pick in range(size):
            for place, rows in self._blocks():
                np.matmul(rows, total, out=products[place])
            gaps = total @ total + 2 * products + self._squares
            gaps /= (picked + self._counts) ** 2
            gaps[chosen[:pick]] = np.inf
            best = chosen[pick] = int(np.argmin(gaps))
            total = total + self._read(best, 1)[0]
            picked += self._counts[best]
        return chosen

    def _blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        for start in range(0, self._used, ROWS):
            stop = min(start + ROWS, self._used)
            yield slice(start, stop), self._read(start, stop - start)

    def _read(self, start: int, count: int) -> np.ndarray:
        """Rows of the file; valid until others are read."""
        rows = self._buffer[:count]
        self._file.seek(start * rows.strides[0])
        self._file.readinto(rows.data)
        return rows


@dataclass(frozen=True)
class _Coordinates:
    """The downstream set's coordinates, in which it has zero mean and unit covariance.

    Attributes:
        whiten: [d, q] from the features to the coordinates.
        shift: [q] mean of the downstream set there, from the upstream set's center.
    """

    whiten: np.ndarray
    shift: np.ndarray

    @classmethod
    def of(cls, downstream: StructureSums, center: np.ndarray, directions: int) -> Self:
        rows = downstream.counts.sum()
        offset = downstream.sums.sum(axis=0) / rows
        products = unpack(downstream.products.sum(axis=0), downstream.dimension)
        values, vectors = np.linalg.eigh(products / rows - np.outer(offset, offset))
        kept = np.argsort(-values)[:directions]
        kept = kept[values[kept] > NOISE * values.max()]
        if not len(kept):
            raise ValueError("the downstream features do not vary; nothing can be selected by them")
        whiten = vectors[:, kept] / np.sqrt(values[kept])
        return cls(whiten, (downstream.center + offset - center) @ whiten)

    def moments(self, upstream: StructureSums) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows [S], sums [S, q] and second moments [S, q, q] of structures."""
        counts, sums = upstream.counts, upstream.sums @ self.whiten
        second = self.whiten.T @ unpack(upstream.products, upstream.dimension) @ self.whiten
        cross = sums[:, :, None] * self.shift
        second = second - cross - cross.transpose(0, 2, 1)
        second = second + counts[:, None, None] * np.outer(self.shift, self.shift)
        return counts, sums - counts[:, None] * self.shift, second


def _check(upstream: EachStructure, downstream: StructureSums, size: int) -> None:
    check_comparable([upstream, downstream])
    if not 1 <= size <= len(upstream):
        raise ValueError(
            f"cannot select {size} of {len(upstream)} structures; lower the size or add candidates"
        )
