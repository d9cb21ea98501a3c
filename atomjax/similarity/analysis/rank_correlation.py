"""Rank correlation of distances with the errors after pretraining, its uncertainty, and regret."""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

# Above so many sets, permutations are drawn instead of enumerated.
MOST_ENUMERATED = 7


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation of distances with errors over K upstream sets."""

    # [M] correlations with the errors' means over seeds; 1 where the nearer set always led to the
    # smaller error.
    by_task: np.ndarray
    mean: float  # mean of these correlations
    # Confidence interval of the mean, from tasks, upstream sets and seeds drawn with replacement;
    # the seeds of every set are drawn by themselves.
    interval: tuple[float, float]
    # Fraction of the orders of the K sets, the same for all tasks, whose mean correlation is at
    # least as large; 1/K! at best.
    p_value: float
    # [M] how much larger the error of the nearest set is than that of the best one, as a fraction
    # of the latter.
    regret: np.ndarray


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
    resampled = [_resample(distances, errors, rng) for _ in range(resamples)]
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
        regret=regret(means, distances == distances.min(axis=0)),
    )


def _resample(distances: np.ndarray, errors: np.ndarray, rng: np.random.Generator) -> float:
    """The mean correlation of one draw of at least three different sets, of tasks and of seeds."""
    count, tasks, seeds = errors.shape
    sets = rng.integers(count, size=count)
    while len(np.unique(sets)) < 3:
        sets = rng.integers(count, size=count)
    chosen = rng.integers(tasks, size=tasks)
    # The same seeds for all tasks of a set: they start from the same pretrained weights.
    drawn = rng.integers(seeds, size=(count, 1, seeds))
    means = np.take_along_axis(errors, drawn, axis=2).mean(axis=2)
    places = np.ix_(sets, chosen)
    return float(np.mean(spearman(distances[places], means[places])))


def regret(errors: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """[M] how much larger the mean error of the chosen sets is than the least, as a fraction of it.

    Args:
        errors: [K, M] errors.
        chosen: [K, M] which sets may be chosen, at least one for every task; all of them for a
            choice at random.
    """
    least = errors.min(axis=0)
    return np.mean(errors, axis=0, where=chosen) / least - 1


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[M] rank correlations of the columns of two [K, M] arrays; 0 where a column is constant."""
    a, b = (rankdata(x, axis=0) - (len(x) + 1) / 2 for x in (first, second))
    norm = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.divide((a * b).sum(axis=0), norm, out=np.zeros(a.shape[1]), where=norm > 0)
