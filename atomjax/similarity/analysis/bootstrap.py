"""How sure a CSI is: resampling the structures of every set with replacement.

Structures, not atoms, are drawn, since the atoms of a structure are alike. The intervals are the
"basic" ones (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 5.2),
which reflect the resampled values about the estimate: resampling adds the noise of a finite sample
a second time, so the values lie above the estimate by about as much as it lies above the truth.

Where the features were projected (see ``structure_sums``), what is carried over to the full
distance is the relative spread.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from atomjax.similarity.features.structure_sums import StructureSums, check_comparable
from atomjax.similarity.measures.frechet import Gaussians, frechet_terms
from atomjax.similarity.measures.precision import host_float64


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """Distances of B resampled tables, K upstream sets by M downstream sets.

    Attributes:
        distance: [B, K, M]. All entries of a table share one draw of each set.
        estimate: [K, M] the distances of the sets themselves, of the same (projected) features.
    """

    distance: np.ndarray
    estimate: np.ndarray

    def interval(
        self, distance: np.ndarray | None = None, level: float = 0.95
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of the interval about each distance.

        Args:
            distance: [K, M] distances of the full features, to which the relative spread of the
                projected ones is applied; ``estimate`` if None.
            level: probability that the interval holds the distance of infinitely many structures.

        Returns:
            [K, M] and [K, M], not below zero.
        """
        tail = (1 - level) / 2
        low, high = np.quantile(self.distance, [tail, 1 - tail], axis=0)
        about = self.estimate if distance is None else distance
        scale = about / np.where(self.estimate > 0, self.estimate, 1)
        lower, upper = (np.maximum(2 * self.estimate - end, 0) * scale for end in (high, low))
        return lower, upper

    def probability_closer(self, upstream: int, other: int, downstream: int) -> float:
        """Share of the resampled tables in which one upstream set is closer than another.

        The draws of the downstream set are common to both, so this is sharper than a comparison
        of their intervals.
        """
        first, second = (self.distance[:, i, downstream] for i in (upstream, other))
        # About the estimates, as the intervals are: the resampled values are all too large.
        gap = 2 * (self.estimate[upstream, downstream] - self.estimate[other, downstream])
        return float((gap - (first - second) < 0).mean())


def bootstrap_table(
    upstream: Sequence[StructureSums],
    downstream: Sequence[StructureSums],
    *,
    resamples: int = 200,
    seed: int = 0,
) -> Bootstrap:
    """Resamples the structures of every set and computes a table of distances each time.

    One compiled call for all resamples; 200 tables of 4 × 6 sets of 10,000 structures and 64
    features take some ten seconds on two cores.

    Args:
        upstream: K sets, projected alike.
        downstream: M sets.
        resamples: number B of tables.
        seed: of the draws.

    Raises:
        ValueError: the sets were projected differently.
    """
    check_comparable([*upstream, *downstream])
    rng = np.random.default_rng(seed)
    with host_float64():
        first, second = (
            _stack([_resampled(s, resamples, rng) for s in sets]) for sets in (upstream, downstream)
        )
        distance = jax.device_get(_tables(first, second))
    # The first table is that of the sets themselves.
    return Bootstrap(distance=distance[1:], estimate=distance[0])


def _resampled(sums: StructureSums, resamples: int, rng: np.random.Generator) -> Gaussians:
    """Gaussians of the set itself and of its resamples, stacked along B + 1."""
    structures = len(sums.counts)
    even = np.full(structures, 1 / structures)
    weights = rng.multinomial(structures, even, size=resamples).astype(np.float64)
    weights = np.concatenate([np.ones((1, structures)), weights])
    return _moments(weights, sums)


@jax.jit
def _moments(weights: jax.Array, sums: StructureSums) -> Gaussians:
    """Gaussians of weighted structures, [B, S] weights; covariances divide by rows - 1."""
    d = sums.sums.shape[1]
    rows = (weights @ sums.counts.astype(weights.dtype))[:, None]
    mean = weights @ sums.sums / rows
    i, j = np.triu_indices(d)
    second = weights @ sums.products / rows
    central = (second - mean[:, i] * mean[:, j]) * rows / jnp.maximum(rows - 1, 1)
    covariance = jnp.zeros((len(rows), d, d)).at[:, i, j].set(central).at[:, j, i].set(central)
    rank = jnp.clip(rows[:, 0].astype(int) - 1, 0, d)
    return Gaussians(mean + sums.center, covariance, rank)


def _stack(sets: Sequence[Gaussians]) -> Gaussians:
    """[B, K, …] of K sets of [B, …]."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *sets)


@jax.jit
def _tables(first: Gaussians, second: Gaussians) -> jax.Array:
    return lax.map(lambda pair: frechet_terms(*pair).distance, (first, second))
