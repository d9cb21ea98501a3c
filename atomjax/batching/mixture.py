"""Mixtures: how often an epoch draws from each data set, and which structures it draws.

Shares follow JMP (Shoghi et al., ICLR 2024, section 3.1): with temperature T a data set of n
structures gets n^(1/T) / Σ n^(1/T), so T = 1 keeps the proportions and T → ∞ balances.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from atomjax.batching.shuffling import shuffled

MixtureKind = Literal["single", "balanced", "temperature", "proportional"]

# Apart from every other use of a run's seed.
_STREAM = 0x313E


def mixture_shares(sizes: Sequence[int], kind: MixtureKind, temperature: float = 2.0) -> np.ndarray:
    """Fraction of an epoch's samples that each data set gets.

    Args:
        sizes: structures of each of the D data sets.
        kind: "single" (there is only one), "balanced" (equal shares), "temperature", or
            "proportional" to the sizes.
        temperature: T of kind "temperature".

    Returns:
        [D] float64, of sum 1.

    Raises:
        ValueError: kind "single" with several data sets, or a temperature that is not positive.
    """
    if kind == "single" and len(sizes) != 1:
        raise ValueError(
            f'mixture "single" is for one data set, and there are {len(sizes)}; write "balanced", '
            '"temperature" or "proportional"'
        )
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} of the mixture must be positive")
    exponents = {"balanced": 0.0, "temperature": 1.0 / temperature}
    # Divided by the largest first, so that a low temperature does not overflow.
    weights = (np.asarray(sizes, np.float64) / max(sizes)) ** exponents.get(kind, 1.0)
    return weights / weights.sum()


def share_out(total: int, weights: Sequence[float] | np.ndarray) -> list[int]:
    """``total`` divided in proportion to ``weights``, by largest remainder."""
    given = np.asarray(weights, dtype=np.float64)
    exact = given * total / given.sum()
    counts = np.floor(exact).astype(int)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return counts.tolist()


def epoch_members(
    sizes: Sequence[int],
    samples: Sequence[int],
    seed: int,
    epoch: int,
    places: np.ndarray | None = None,
) -> np.ndarray:
    """Structures of an epoch, in random order; a structure may come more than once.

    An epoch takes each data set whole as often as its samples allow. For the rest r of them, the
    set is an endless stream of shuffled passes, of which epoch e takes the samples e·r to
    (e + 1)·r. So all structures of a set are seen equally often, to within one. Any part of any
    epoch can be had without those before: nothing of the order is kept.

    Args:
        sizes: structures of each data set.
        samples: c of each data set, the samples that every epoch takes of it.
        seed: seed of the run.
        epoch: number of the epoch.
        places: [K] samples of the epoch to look up, numbers below Σ samples; None for all.

    Returns:
        [K] int64 global indices, data set after data set.
    """
    total, first = sum(samples), np.cumsum([0, *sizes])
    places = np.arange(total) if places is None else places
    order = shuffled(places, total, (seed, _STREAM, len(sizes), epoch))
    begins = np.cumsum([0, *samples])
    dataset = np.searchsorted(begins, order, side="right") - 1
    members = np.empty(len(places), dtype=np.int64)
    for d, (size, count) in enumerate(zip(sizes, samples, strict=True)):
        own = np.flatnonzero(dataset == d)
        drawn = _drawn(order[own] - begins[d], size, count, (seed, _STREAM, d), epoch)
        members[own] = first[d] + drawn
    return members


def spread_members(weights: Sequence[np.ndarray], samples: Sequence[int]) -> np.ndarray:
    """Members of an imagined epoch that is spread evenly over the weights, the heaviest included.

    Returns:
        [Σ samples] global indices.
    """
    first = np.cumsum([0, *(len(w) for w in weights)])
    parts = []
    for d, (own, count) in enumerate(zip(weights, samples, strict=True)):
        order = np.argsort(-own, kind="stable")
        places = np.linspace(0, len(own) - 1, count).round().astype(np.int64)
        parts.append(first[d] + order[places])
    return np.concatenate(parts)


def _drawn(
    numbers: np.ndarray, size: int, count: int, key: tuple[int, ...], epoch: int
) -> np.ndarray:
    """Structures of samples ``numbers`` of an epoch of ``count``: whole passes, then the rest."""
    whole, rest = divmod(count, size)
    drawn = numbers % size
    of_stream = np.flatnonzero(numbers >= whole * size)
    passes, places = np.divmod(epoch * rest + numbers[of_stream] - whole * size, size)
    for number in np.unique(passes).tolist():
        own = passes == number
        drawn[of_stream[own]] = shuffled(places[own], size, (*key, number))
    return drawn
