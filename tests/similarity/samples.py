"""Feature rows and structures for the tests of the similarity code."""

import numpy as np

from atomjax.similarity.features.collect import SetFeatures
from atomjax.similarity.features.structure_sums import (
    StructureSums,
    StructureSumsBuilder,
    random_projection,
)
from atomjax.similarity.measures.statistics import Statistics
from atomjax.similarity.measures.stream import StatisticsStream


def statistics_of(rows: np.ndarray) -> Statistics:
    stream = StatisticsStream(rows.shape[1], block=128)
    stream.add(rows)
    return stream.result()


def features_of(
    rows: np.ndarray, owner: np.ndarray, numbers: np.ndarray | None = None
) -> SetFeatures:
    """Summary of rows [n, d], of the structures ``owner`` and of atoms ``numbers`` [n]."""
    projection = random_projection(rows.shape[1])
    builder = StructureSumsBuilder(projection)
    builder.add(rows, owner)
    projected = rows if projection is None else rows @ projection
    structures = len(np.unique(owner))
    elements = {}
    if numbers is not None:
        elements = {z: statistics_of(projected[numbers == z]) for z in np.unique(numbers).tolist()}
    return SetFeatures(
        parts=tuple(statistics_of(rows[owner % 4 == part]) for part in range(4)),
        structures=builder.result(),
        elements=elements,
        num_atoms=len(rows),
        num_structures=structures,
        weight=float(structures),
    )


def exact(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance by NumPy."""
    return rows.mean(axis=0), np.cov(rows, rowvar=False)


class Population:
    """Structures of 2 to 5 atoms that are alike; features of all atoms are Gaussian.

    Args:
        dimension: number of features.
        seed: of the mean and the covariance.
    """

    def __init__(self, dimension: int, seed: int, shift: float = 0.3):
        rng = np.random.default_rng(seed)
        self.mean = shift * rng.normal(size=dimension)
        self.root = np.eye(dimension) + 0.3 * rng.normal(size=(dimension, dimension))

    @property
    def covariance(self) -> np.ndarray:
        return self.root @ self.root.T

    def draw(self, structures: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows [n, d] and the number of each row's structure [n]."""
        rng = np.random.default_rng(seed)
        counts = rng.integers(2, 6, structures)
        common = rng.normal(size=(structures, len(self.mean)))
        own = rng.normal(size=(counts.sum(), len(self.mean)))
        rows = np.sqrt(0.5) * (np.repeat(common, counts, axis=0) + own)
        return rows @ self.root.T + self.mean, np.repeat(np.arange(structures), counts)

    def sums(self, structures: int, seed: int) -> StructureSums:
        builder = StructureSumsBuilder(None)
        builder.add(*self.draw(structures, seed))
        return builder.result()


def true_distance(a: Population, b: Population) -> float:
    """Fréchet distance of the populations, by singular values of the factors."""
    fidelity = np.linalg.svd(a.root.T @ b.root, compute_uv=False).sum()
    gap = a.mean - b.mean
    return float(gap @ gap + np.trace(a.covariance) + np.trace(b.covariance) - 2 * fidelity)
