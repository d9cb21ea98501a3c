"""Effective rank: the number of directions that a set of features fills."""

import jax
import numpy as np

from atomjax.similarity.measures.statistics import Statistics, covariance, host_float64, to_float64
from atomjax.similarity.measures.symmetric import eigenvalues, mirror


def effective_rank(statistics: Statistics) -> float:
    """Exponential of the entropy of the covariance's normalised eigenvalues.

    As many as there are features where all directions vary alike, 1 where one dominates, and 0
    where nothing varies (Roy and Vetterli, EUSIPCO 2007).
    """
    with host_float64():
        values = jax.device_get(_spectrum(to_float64(statistics)))
    values = np.maximum(values, 0)
    if values.sum() == 0:
        return 0.0
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


@jax.jit
def _spectrum(statistics: Statistics) -> jax.Array:
    return eigenvalues(mirror(covariance(statistics)))
