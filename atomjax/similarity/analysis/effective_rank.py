"""Effective rank: the number of directions that a set of features fills."""

import dataclasses

import jax
import numpy as np

from atomjax.similarity.measures.statistics import Statistics, covariance, host_float64, to_float64
from atomjax.similarity.measures.symmetric import eigenvalues, mirror


@dataclasses.dataclass(frozen=True)
class EffectiveRank:
    """Two counts of the directions that matter; both between 0 and the number of features."""

    # Exponential of the entropy of the normalised eigenvalues (Roy and Vetterli, EUSIPCO 2007): d
    # where all directions vary alike, 1 where one dominates.
    entropy: float
    participation: float  # ``(tr Σ)² / tr Σ²``, which small eigenvalues move less


def effective_rank(statistics: Statistics) -> EffectiveRank:
    """Effective rank of the covariance of a set; both zero where nothing varies."""
    with host_float64():
        values = jax.device_get(_spectrum(to_float64(statistics)))
    values = np.maximum(values, 0)
    if values.sum() == 0:
        return EffectiveRank(0.0, 0.0)
    shares = values[values > 0] / values.sum()
    entropy = float(np.exp(-(shares * np.log(shares)).sum()))
    return EffectiveRank(entropy, float(1 / (shares**2).sum()))


@jax.jit
def _spectrum(statistics: Statistics) -> jax.Array:
    return eigenvalues(mirror(covariance(statistics)))
