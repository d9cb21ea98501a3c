"""Uncertainty of a measure: intervals, noise floors, and tests of which set is nearer.

All of it draws the independent units of the sets (see ``features.units``), whole.

Intervals are those of the jackknife of two samples: leaving out one unit after the other gives the
bias of the distance and its standard error (Efron and Stein, Ann. Stat. 9, 586 (1981)), and
quantiles of Student's t, with degrees of freedom by Satterthwaite's rule, account for the number of
units. Noise comes from exchange: if two sets are of one distribution, any division of their units
into two sets of these sizes is as likely, so other divisions give the distribution by chance
(Good, Permutation Tests, 2000). ``benchmarks.calibration`` measures how often both hold.

Where the features were projected (see ``structure_sums``), relative errors are carried over to the
full distance.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from atomjax.similarity.measures.csi import CSI
from atomjax.similarity.measures.measure import Measure, Resampling
from atomjax.similarity.measures.resampling import (
    Drawable,
    blocks_alike,
    check_comparable,
    exchanges,
    merge_blocks,
    whole,
    without_each,
)

# Groups of units that the jackknife leaves out, at most: more would be slow and hardly more exact.
GROUPS = 50
# An exchange that gives the sets themselves again differs from them by rounding alone.
ROUNDING = 1e-9
# Divisions of one set into two halves.
SPLITS = 40


@dataclasses.dataclass(frozen=True)
class Noise:
    """Distances of K upstream sets to M downstream sets, beside those that chance would give."""

    estimate: np.ndarray  # [K, M] the distances of the (projected) features
    exchanged: np.ndarray  # [R, K, M] with the units of both sets exchanged at random
    sign: int = 1  # 1 where small values mean near, -1 where large ones do
    largest: float = np.inf  # value that distances never exceed

    def floor(self, distance: np.ndarray | None = None, level: float = 0.95) -> np.ndarray:
        """[K, M] distances that chance exceeds with probability 1 - ``level``.

        Args:
            distance: [K, M] of the full features, to which the floor is scaled; ``estimate`` if
                None.
            level: confidence level.
        """
        far = np.quantile(self.sign * self.exchanged, level, axis=0)
        return self.sign * far * _scale(distance, self.estimate)

    def distinguishable(self, level: float = 0.95) -> np.ndarray:
        """[K, M] whether each set is farther than chance explains, at a confidence level."""
        return _chance(self.sign * self.exchanged, self.sign * self.estimate) <= 1 - level


@dataclasses.dataclass(frozen=True)
class Jackknife:
    """Estimates of quantities by leaving out units."""

    estimate: np.ndarray  # value with all units
    corrected: np.ndarray  # estimate without the bias
    error: np.ndarray  # standard error; NaN where a set has a single unit
    freedom: np.ndarray  # degrees of freedom of the error

    def margin(self, level: float = 0.95) -> np.ndarray:
        """Half of the width of the interval about ``corrected``."""
        return stats.t.ppf((1 + level) / 2, np.maximum(self.freedom, 1)) * self.error


@dataclasses.dataclass(frozen=True)
class Gap:
    """Difference between the distances of two upstream sets to one task."""

    jackknife: Jackknife  # jackknife of the difference
    # [R] the difference with the units of the two upstream sets exchanged at random.
    exchanged: np.ndarray

    @property
    def confidence(self) -> float:
        """Fraction of the exchanged differences that are smaller in size."""
        return float((self._sizes() < (1 - ROUNDING) * self._size()).mean())

    def clear(self, level: float = 0.95) -> bool:
        """Whether the other set is farther at a confidence level.

        The exchange has to give so large a difference too rarely, and the interval of the
        difference has to lie above zero. The first holds its level exactly for two sets of one
        distribution, whatever their size; the second covers sets that differ but are as far.
        """
        chance = _chance(self._sizes(), self._size())
        sure = self.jackknife.corrected - self.jackknife.margin(level) > 0
        return bool(chance <= 1 - level and sure)

    def times_more(self, level: float = 0.95) -> float:
        """Factor in the number of units that would make it clear, if the difference stays.

        Infinite where there is no difference to speak of, or no error is known.
        """
        if not self.jackknife.corrected > 0 or np.isnan(self.jackknife.error):
            return float("inf")
        return float((self.jackknife.margin(level) / self.jackknife.corrected) ** 2)

    def _sizes(self) -> np.ndarray:
        return np.abs(self.exchanged - np.median(self.exchanged))

    def _size(self) -> np.ndarray:
        return np.abs(self.jackknife.estimate - np.median(self.exchanged))


def noise_table(
    upstream: Sequence[Drawable],
    downstream: Sequence[Drawable],
    *,
    measure: Measure = CSI,
    resamples: int = 200,
    seed: int = 0,
) -> Noise:
    """Exchange the units of every pair of sets.

    200 exchanges of a pair of 64 features take about a second of one core.

    Args:
        upstream: blocks of K sets, collected alike.
        downstream: blocks of M sets.
        measure: one with resampling.
        resamples: number R of exchanges.
        seed: seed of the exchanges.

    Raises:
        ValueError: the sets were projected differently.
    """
    check_comparable([*upstream, *downstream])
    resampling, rng = _resampling(measure), np.random.default_rng(seed)
    distance = resampling.distance
    shape = (len(upstream), len(downstream))
    estimate, exchanged = np.empty(shape), np.empty((resamples, *shape))
    for i, first in enumerate(upstream):
        for j, second in enumerate(downstream):
            estimate[i, j] = distance(whole(first), whole(second))[0]
            exchanged[:, i, j] = distance(*_exchanged(first, second, resamples, rng))
    return Noise(estimate, exchanged, measure.sign, resampling.largest)


def jackknife_table(
    upstream: Sequence[Drawable], downstream: Sequence[Drawable], *, measure: Measure = CSI
) -> Jackknife:
    """Jackknife of the distance of every pair of sets, [K, M]; see :func:`noise_table`.

    Raises:
        ValueError: the sets were projected differently.
    """
    check_comparable([*upstream, *downstream])
    resampling = _resampling(measure)
    distance, debias = resampling.distance, resampling.about_infinite
    found = [[_jackknife(distance, (a, b), debias) for b in downstream] for a in upstream]
    return Jackknife(
        *(
            np.array([[getattr(one, field.name) for one in row] for row in found])
            for field in dataclasses.fields(Jackknife)
        )
    )


def interval(
    jackknife: Jackknife, noise: Noise, distance: np.ndarray | None = None, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the intervals about the distances of infinitely many structures.

    Args:
        jackknife: jackknife of a table.
        noise: noise of the same table.
        distance: [K, M] of the full features, to which the interval is scaled.
        level: confidence level.

    Returns:
        [K, M] and [K, M], not negative. Where small is near, the lower end is zero where a
        distance is not distinguishable from zero; both are NaN where a set has a single unit.
    """
    scale, margin = _scale(distance, jackknife.estimate), jackknife.margin(level)
    lower = np.maximum(jackknife.corrected - margin, 0) * scale
    upper = np.clip((jackknife.corrected + margin) * scale, 0, noise.largest)
    zero = ~noise.distinguishable(level) & np.isfinite(lower)
    return np.where(zero & (noise.sign > 0), 0, lower), upper


def gap_between(
    nearer: Drawable,
    other: Drawable,
    downstream: Drawable,
    *,
    measure: Measure = CSI,
    resamples: int = 200,
    seed: int = 0,
) -> Gap:
    """The gap between two upstream sets to one task; options are those of :func:`noise_table`."""
    check_comparable([nearer, other, downstream])
    resampling = _resampling(measure)
    distance = resampling.distance

    def difference(a: Any, b: Any, task: Any) -> np.ndarray:
        return measure.sign * (distance(b, task) - distance(a, task))

    sides = _exchanged(nearer, other, resamples, np.random.default_rng(seed))
    return Gap(
        jackknife=_jackknife(difference, (nearer, other, downstream), resampling.about_infinite),
        exchanged=difference(*sides, whole(downstream)),
    )


def halves_distance(sums: Drawable, seed: int = 0, measure: Measure = CSI) -> float:
    """Mean distance of two sets of this size and distribution, from random halves of one set.

    The distance of two halves is all bias, which is inversely proportional to the number of units;
    so it is scaled from halves to sets of this size. NaN for a single unit, and for measures whose
    bias is another.
    """
    blocks = len(sums)
    if blocks < 2 or not measure.extrapolates:
        return float("nan")
    half = blocks // 2
    chosen = exchanges(half, blocks - half, SPLITS, np.random.default_rng(seed))
    distances = _resampling(measure).distance(sums.choose(chosen), sums.choose(1 - chosen))
    return float(distances.mean() * (2 / blocks) / (1 / half + 1 / (blocks - half)))


def _resampling(measure: Measure) -> Resampling:
    if measure.resampling is None:
        raise ValueError(f"{measure.label} cannot be drawn again; give it a resampling")
    return measure.resampling


def _exchanged(
    first: Drawable, second: Drawable, draws: int, rng: np.random.Generator
) -> tuple[Any, Any]:
    """Statistics of both sets after random exchanges of their units."""
    first, second = blocks_alike(first, second)
    chosen = exchanges(len(first), len(second), draws, rng)
    together = first.joined(second)
    return together.choose(chosen), together.choose(1 - chosen)


def _jackknife(
    quantity: Callable[..., np.ndarray], samples: Sequence[Drawable], debias: bool
) -> Jackknife:
    """Jackknife of a function of several independent sets; ``debias`` takes its bias out."""
    samples = [merge_blocks(sample, GROUPS) for sample in samples]
    full = [whole(sample) for sample in samples]
    estimate = quantity(*full)[0]
    bias, variances, freedoms = 0.0, [], []
    for place, sample in enumerate(samples):
        blocks = len(sample)
        if blocks < 2:
            nan = np.asarray(np.nan)
            return Jackknife(np.asarray(estimate), nan, nan, nan)
        left = quantity(*full[:place], without_each(sample), *full[place + 1 :])
        bias += (blocks - 1) * (left.mean() - estimate)
        variances.append((blocks - 1) / blocks * ((left - left.mean()) ** 2).sum())
        freedoms.append(blocks - 1)
    parts, total = np.array(variances), sum(variances)
    # Satterthwaite's rule; without any variance, the fewest.
    freedom = total**2 / (parts**2 / freedoms).sum() if total > 0 else min(freedoms)
    corrected = estimate - bias if debias else estimate
    return Jackknife(*map(np.asarray, (estimate, corrected, np.sqrt(total), freedom)))


def _chance(exchanged: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Probability that chance gives at least the estimate."""
    as_large = exchanged >= estimate - ROUNDING * np.abs(estimate)
    return (1 + as_large.sum(axis=0)) / (len(exchanged) + 1)


def _scale(distance: np.ndarray | None, estimate: np.ndarray) -> np.ndarray:
    """Factor to values of the full features; 1 where an estimate is not positive."""
    if distance is None:
        return np.ones_like(estimate)
    positive = estimate > 0
    return np.where(positive, distance / np.where(positive, estimate, 1), 1.0)
