"""Selection of structures of an upstream set to pretrain on, for a given downstream set.

The paper chooses whole data sets; these choose inside one. All work on the sums over structures
(projected features), in coordinates where the downstream set has zero mean and unit covariance:
there a mean m and covariance C are at the squared Fréchet distance ``‖m‖² + ‖C^½ - 1‖²`` from it,
which is ``‖m‖² + ¼ ‖C - 1‖²`` to leading order. Those after the first two see of each structure the
mean of its atoms alone.
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

# Number q of whitened directions, those in which the downstream set varies most.
DIRECTIONS = 16
# Directions in which the variance is a smaller fraction of the largest one count as noise.
NOISE = 1e-6
# Variance of the labels' noise in a linear model of features that vary by 1 in the task.
LABEL_NOISE = 0.01
# Structures of the task that are to be covered: 2 kB of distances for each candidate.
COVERED = 500
# Candidates whose moments are in memory at a time: 5 MB, which processors keep close.
ROWS = 4096


def select_nearest(upstream: EachStructure, downstream: StructureSums, size: int) -> np.ndarray:
    """The structures whose atoms lie nearest to the middle of the downstream set.

    Nearest by the mean squared whitened distance of their atoms. Costs S · q³ operations for S
    structures. It favours typical structures, so the spread of what it picks is too small.

    Args:
        upstream: candidates.
        downstream: the target.
        size: number of structures to pick.

    Returns:
        [size] indices of structures in the order of picking, here the nearest first.

    Raises:
        ValueError: there are fewer candidates, or the sets were projected differently.
    """
    _check(upstream, downstream, size)
    coordinates = _Coordinates.of(downstream, upstream.center)
    distances = []
    for chunk in in_chunks(upstream):
        counts, _, second = coordinates.moments(chunk)
        distances.append(np.trace(second, axis1=1, axis2=2) / counts)
    return np.argsort(np.concatenate(distances), kind="stable")[:size]


def select_greedily(
    upstream: EachStructure, downstream: StructureSums, size: int, scratch: Path | None = None
) -> np.ndarray:
    """Structures picked one by one, each the one that lowers the distance of the choice most.

    Herding (Welling, ICML 2009) of mean and covariance together: the distance is the quadratic
    form above, of q + q (q + 1)/2 moments. Costs S · q² operations a pick, and S · q² numbers in a
    file, which is gone through for every pick.

    Args:
        upstream: candidates.
        downstream: the target.
        size: number of structures to pick.
        scratch: folder of the file; None for the system's own.

    Result and errors are those of :func:`select_nearest`.
    """
    _check(upstream, downstream, size)
    coordinates = _Coordinates.of(downstream, upstream.center)
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


def select_farthest(upstream: EachStructure, downstream: StructureSums, size: int) -> np.ndarray:
    """Structures picked one by one, each the farthest from all that were picked before.

    Gonzalez (Theor. Comput. Sci. 1985). The first is the one nearest to the middle of the
    downstream set, which counts no further: outliers are picked early. Costs S · q operations a
    pick.

    Arguments, result and errors are those of :func:`select_nearest`.
    """
    points, _ = _means(upstream, downstream, size)
    gaps, chosen = np.full(len(points), np.inf), np.empty(size, np.int64)
    chosen[0] = np.argmin((points**2).sum(axis=1))
    for pick in range(1, size):
        before = chosen[pick - 1]
        np.minimum(gaps, ((points - points[before]) ** 2).sum(axis=1), out=gaps)
        gaps[before] = -np.inf
        chosen[pick] = np.argmax(gaps)
    return chosen


def select_by_variance(upstream: EachStructure, downstream: StructureSums, size: int) -> np.ndarray:
    """Structures picked one by one, each of which a linear model of the others knows least.

    The posterior variance of Bayesian linear regression on the means of structures and a constant,
    with a unit prior; the greedy way to a large log-determinant. Costs S · q operations a pick.

    Arguments, result and errors are those of :func:`select_nearest`.
    """
    points, _ = _means(upstream, downstream, size)
    points = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    covariance, variances = np.eye(points.shape[1]), (points**2).sum(axis=1)
    chosen = np.empty(size, np.int64)
    for pick in range(size):
        best = chosen[pick] = np.argmax(variances)
        known = covariance @ points[best]
        scale = points[best] @ known + LABEL_NOISE
        covariance -= np.outer(known, known) / scale
        variances -= (points @ known) ** 2 / scale
        variances[best] = -np.inf
    return chosen


def select_covering(upstream: EachStructure, downstream: StructureSums, size: int) -> np.ndarray:
    """Structures picked one by one, so that each of the task's structures has one near it.

    Each lowers the sum over the task's structures of the distance to the nearest one picked by as
    much as it can (facility location, Nemhauser et al. 1978, where a greedy choice reaches 63 % of
    the best). Where none lowers it any further, the task is covered once more by the others. Costs
    S · T operations a pick for T structures of the task, of which at most 500 are taken.

    Arguments, result and errors are those of :func:`select_nearest`.
    """
    points, coordinates = _means(upstream, downstream, size)
    spaced = np.linspace(0, len(downstream) - 1, min(COVERED, len(downstream))).astype(int)
    task = coordinates.means(downstream.take(spaced), downstream.center - upstream.center)
    squares = (task**2).sum(axis=1)[:, None] + (points**2).sum(axis=1) - 2 * task @ points.T
    distances = np.sqrt(np.maximum(squares, 0)).astype(np.float32)
    chosen, free = np.empty(size, np.int64), np.ones(len(points), bool)
    # Before any is picked all structures of the task are as far as the farthest candidate.
    farthest = distances.max()
    reached = np.full(len(task), farthest)
    for pick in range(size):
        gains = _gains(distances, reached, free)
        if gains.max() <= 0:
            reached[:] = farthest
            gains = _gains(distances, reached, free)
        best = chosen[pick] = np.argmax(gains)
        free[best] = False
        np.minimum(reached, distances[:, best], out=reached)
    return chosen


def _gains(distances: np.ndarray, reached: np.ndarray, free: np.ndarray) -> np.ndarray:
    """[S] gain in the sum of distances to the nearest one picked, -1 for what is not free."""
    return np.where(free, np.maximum(reached[:, None] - distances, 0).sum(axis=0), -1)


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
    """The downstream set's coordinates, in which it has zero mean and unit covariance."""

    whiten: np.ndarray  # [d, q] from the features to the coordinates
    shift: np.ndarray  # [q] mean of the downstream set there, from the upstream set's center

    @classmethod
    def of(cls, downstream: StructureSums, center: np.ndarray) -> Self:
        rows = downstream.counts.sum()
        offset = downstream.sums.sum(axis=0) / rows
        products = unpack(downstream.products.sum(axis=0), downstream.dimension)
        values, vectors = np.linalg.eigh(products / rows - np.outer(offset, offset))
        kept = np.argsort(-values)[:DIRECTIONS]
        kept = kept[values[kept] > NOISE * values.max()]
        if not len(kept):
            raise ValueError("the downstream features do not vary; nothing can be selected by them")
        whiten = vectors[:, kept] / np.sqrt(values[kept])
        return cls(whiten, (downstream.center + offset - center) @ whiten)

    def means(self, sums: StructureSums, offset: np.ndarray | float = 0.0) -> np.ndarray:
        """[S, q] means of structures whose center lies ``offset`` from the upstream set's."""
        return (sums.sums / sums.counts[:, None] + offset) @ self.whiten - self.shift

    def moments(self, upstream: StructureSums) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows [S], sums [S, q] and second moments [S, q, q] of structures."""
        counts, sums = upstream.counts, upstream.sums @ self.whiten
        second = self.whiten.T @ unpack(upstream.products, upstream.dimension) @ self.whiten
        cross = sums[:, :, None] * self.shift
        second = second - cross - cross.transpose(0, 2, 1)
        second = second + counts[:, None, None] * np.outer(self.shift, self.shift)
        return counts, sums - counts[:, None] * self.shift, second


def _means(
    upstream: EachStructure, downstream: StructureSums, size: int
) -> tuple[np.ndarray, _Coordinates]:
    """[S, q] means of the candidates in the downstream set's coordinates, and these."""
    _check(upstream, downstream, size)
    coordinates = _Coordinates.of(downstream, upstream.center)
    return np.concatenate([coordinates.means(chunk) for chunk in in_chunks(upstream)]), coordinates


def _check(upstream: EachStructure, downstream: StructureSums, size: int) -> None:
    check_comparable([upstream, downstream])
    if not 1 <= size <= len(upstream):
        raise ValueError(
            f"cannot select {size} of {len(upstream)} structures; lower the size or add candidates"
        )
