"""Statistics of mixtures of sets, from those of the sets: nothing is extracted again."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from atomjax.similarity.features.collect import SetFeatures
from atomjax.similarity.measures.statistics import Statistics


def mixture_shares(sizes: Sequence[int], temperature: float = 1.0) -> np.ndarray:
    """Fraction of each set in a mixture, ``∝ size^(1/T)`` (Devlin et al., 2018; JMP uses T = 2).

    Args:
        sizes: [K] structures of each whole set, not of its sample.
        temperature: T. One keeps the proportions, more favours small sets, ``inf`` is balanced.

    Returns:
        [K], adding to one.

    Raises:
        ValueError: a size or the temperature is not positive.
    """
    if not temperature > 0 or not len(sizes) or min(sizes) < 1:
        raise ValueError(
            f"sizes {list(sizes)} and temperature {temperature} must be positive; "
            "leave empty sets out of the mixture"
        )
    logarithms = np.log(np.asarray(sizes, np.float64)) / temperature
    powers = np.exp(logarithms - logarithms.max())
    return powers / powers.sum()


def mix_statistics(sets: Sequence[SetFeatures], shares: Sequence[float]) -> Statistics:
    """Statistics of the features of a mixture.

    Args:
        sets: K sets with the same extractor and aggregation.
        shares: [K] fraction of the structures of the mixture that are from each set; only their
            proportions matter. Sets with more atoms weigh more where every atom is a row.

    Returns:
        NumPy arrays; the rows of the sets with a share, with the weights they have there.

    Raises:
        ValueError: the shares do not fit the sets.
    """
    weights = np.asarray(shares, np.float64)
    if weights.shape != (len(sets),) or not (weights >= 0).all() or not weights.sum() > 0:
        raise ValueError(
            f"shares {list(shares)} do not fit {len(sets)} sets; give one for each, none negative "
            "and at least one positive"
        )
    chosen = [
        (features.statistics(), features.weight, weight)
        for features, weight in zip(sets, weights, strict=True)
        if weight
    ]
    totals = np.array([float(statistics.total) for statistics, _, _ in chosen])
    rows = np.array([w / structures for _, structures, w in chosen]) * totals
    rows = rows / rows.sum()
    means = np.stack([np.asarray(statistics.mean) for statistics, _, _ in chosen])
    mean: Any = rows @ means
    second: Any = np.zeros((len(mean), len(mean)))
    for (statistics, _, _), share, own_total, own in zip(chosen, rows, totals, means, strict=True):
        gap = own - mean
        second += share * (np.asarray(statistics.scatter) / own_total + np.outer(gap, gap))
    count: Any = np.sum([int(statistics.count) for statistics, _, _ in chosen])
    weight: Any = totals.sum()
    return Statistics(count, mean, second * weight, weight=weight)
