"""Rank correlation of distances with the errors after pretraining, and its uncertainty."""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

# Above so many sets, permutations are drawn instead of enumerated.
MOST_ENUMERATED = 7


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation of distances with errors over K upstream sets.

    Attributes:
        by_task: [M] correlations with the errors' means over seeds; 1 where the nearer set always
            led to the smaller error.
        mean: mean of these correlations.
        interval: confidence interval of the mean, from errors of seeds drawn with replacement. It
            covers the choice of seeds, not that of sets and tasks.
        p_value: fraction of the orders of the K sets, the same for all tasks, whose mean
            correlation is at least as large; 1/K! at best.
    """

    by_task: np.ndarray
    mean: float
    interval: tuple[float, float]
    p_value: float


def rank_correlation(
    distances: np.ndarray,
    errors: np.ndarray,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> RankCorrelation:
    """Correlates distances with errors.

    Args:
        distances: [K, M] of K upstream sets from M tasks.
        errors: [K, M, S] downstream errors of S seeds.
        level: confidence level of the interval.
        resamples: for the interval.
        seed: seed of the resampling.

    Raises:
        ValueError: there are fewer than three sets, or shapes do not agree.
    """
    sets = len(distances)
    if sets < 3 or errors.shape[:2] != distances.shape:
        raise ValueError(
            f"distances {distances.shape} and errors {errors.shape} must be [K, M] and [K, M, S] "
            "with at least three sets K; a rank correlation of two says nothing"
        )
    means = errors.mean(axis=2)
    by_task = spearman(distances, means)
    rng = np.random.default_rng(seed)
    # One draw for all tasks of a set: they start from the same pretrained weights.
    drawn = rng.integers(errors.shape[2], size=(resamples, sets, errors.shape[2]))
    resampled = [
        np.mean(spearman(distances, np.take_along_axis(errors, d[:, None], axis=2).mean(2)))
        for d in drawn
    ]
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    if sets <= MOST_ENUMERATED:
        orders = np.array(list(itertools.permutations(range(sets))))
    else:
        orders = np.array([rng.permutation(sets) for _ in range(resamples)])
    mean = float(np.mean(by_task))
    shuffled = np.array([np.mean(spearman(distances[order], means)) for order in orders])
    return RankCorrelation(
        by_task=by_task,
        mean=mean,
        interval=(float(low), float(high)),
        # Equal means differ by rounding.
        p_value=float(np.mean(shuffled >= mean - 1e-9)),
    )


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[M] rank correlations of the columns of two [K, M] arrays; 0 where a column is constant."""
    a, b = (rankdata(x, axis=0) - (len(x) + 1) / 2 for x in (first, second))
    norm = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.divide((a * b).sum(axis=0), norm, out=np.zeros(a.shape[1]), where=norm > 0)
