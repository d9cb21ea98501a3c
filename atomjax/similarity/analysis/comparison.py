"""Comparison of K upstream sets with M downstream sets, as one table for each measure."""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atomjax.similarity.analysis.bias import Extrapolation, extrapolate_table
from atomjax.similarity.analysis.columns import Column, all_columns
from atomjax.similarity.analysis.effective_rank import effective_rank
from atomjax.similarity.analysis.mixtures import mix_statistics, mixture_shares
from atomjax.similarity.analysis.uncertainty import (
    Gap,
    Noise,
    gap_between,
    halves_distance,
    interval,
    jackknife_table,
    noise_table,
)
from atomjax.similarity.features.cache import ExtractedSet
from atomjax.similarity.measures.elements import unseen_share
from atomjax.similarity.measures.measure import Measure, Values
from atomjax.similarity.measures.registry import DEFAULT
from atomjax.similarity.measures.resampling import Drawable


@dataclass(frozen=True)
class Table:
    """Values of one measure on one kind of features, beside those that chance would give."""

    column: Column
    values: Values
    noise: Noise | None = None  # with units exchanged at random; None: without resampling
    floor: np.ndarray | None = None  # [K, M] value exceeded by chance with probability 1 - level
    above: np.ndarray | None = None  # [K, M] whether a set is farther than chance explains
    lower: np.ndarray | None = None  # [K, M] ends of the intervals; for the deciding features
    upper: np.ndarray | None = None
    extrapolation: Extrapolation | None = None  # to infinitely many structures; likewise
    seconds: float = 0.0  # wall time that all of it took, without the features

    @property
    def measure(self) -> Measure:
        """The tabulated measure."""
        return self.column.measure

    @property
    def distance(self) -> np.ndarray:
        """[K, M] values."""
        return self.values.distance

    @property
    def far(self) -> np.ndarray:
        """[K, M] values, with a sign that makes them grow with the distance."""
        return self.measure.sign * self.values.distance

    def facts(self, i: int, j: int) -> dict[str, Any]:
        """Statistics of a pair beside its value, by the columns of ``csi.csv``."""
        known = {
            "lower": self.lower,
            "upper": self.upper,
            "noise_floor": self.floor,
            "distinguishable": self.above,
            **self.values.terms,
        }
        if self.extrapolation is not None:
            known["infinite"] = self.extrapolation.infinite
            known["infinite_uncertainty"] = self.extrapolation.uncertainty
        return {
            self.column.fact(name): array[i, j]
            for name, array in known.items()
            if array is not None
        }


@dataclass(frozen=True)
class Comparison:
    """The sets, and the tables computed from their features."""

    upstream: Sequence[ExtractedSet]  # K sets
    downstream: Sequence[ExtractedSet]  # M sets
    tables: Sequence[Table]  # one for each measure, variant and view; the deciding one first
    level: float  # confidence level
    gaps: Mapping[tuple[int, int], Gap]  # (task, candidate) → how much farther than the nearest
    unseen: np.ndarray  # [K, M] fraction of downstream atoms whose element a set lacks, or NaN
    mixtures: Mapping[str, np.ndarray]  # name → [M] of mixtures of the upstream sets
    ranks: Mapping[str, float]  # name of a set → effective rank of its features
    halves: Mapping[str, float]  # name of a set → value of two sets of its size and distribution
    # [M] distance of a single point at the mean of a downstream set; NaN where not known.
    limits: np.ndarray
    resamples: int  # exchanges behind every floor and gap

    @property
    def table(self) -> Table:
        """The deciding measure on the deciding features."""
        return self.tables[0]

    @property
    def sets(self) -> tuple[ExtractedSet, ...]:
        """All sets, upstream ones first."""
        return (*self.upstream, *self.downstream)

    def pairs(self) -> Iterator[tuple[int, int]]:
        """(upstream, downstream) places, one task after the other."""
        for j, i in itertools.product(range(len(self.downstream)), range(len(self.upstream))):
            yield i, j

    def records(self) -> list[dict[str, Any]]:
        """One flat mapping of plain values for each pair: the rows of ``csi.csv``."""
        return [self._record(i, j) for i, j in self.pairs()]

    def _record(self, i: int, j: int) -> dict[str, Any]:
        up, down = self.upstream[i], self.downstream[j]
        first, *others = self.tables
        record = {
            "upstream": up.name,
            "downstream": down.name,
            "variant": first.column.variant,
            first.column.name: first.distance[i, j],
            **first.facts(i, j),
            "unseen_share": self.unseen[i, j],
            **{table.column.name: table.distance[i, j] for table in others},
        }
        for table in others:
            record |= table.facts(i, j)
        record |= {
            "effective_rank": self.ranks[up.name],
            "structures": up.features.num_structures,
            "unit": up.unit,
            "units": up.units,
            "atoms": up.features.num_atoms,
        }
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in record.items()}


def compare(
    upstream: Sequence[ExtractedSet],
    downstream: Sequence[ExtractedSet],
    *,
    measures: Sequence[Measure] = DEFAULT,
    mixtures: Sequence[str | float] = (),
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
    views: Sequence[Table] = (),
) -> Comparison:
    """Compares every upstream set with every downstream set.

    Args:
        upstream: K sets.
        downstream: M sets, of the same extractor.
        measures: measures, each on every variant of the features that it suits; the first decides.
        mixtures: mixtures of the upstream sets to add: "balanced" or temperatures.
        resamples: exchanges of units, by which noise is measured.
        level: confidence level.
        seed: seed of the exchanges.
        views: views of the deciding measure, to report beside.

    Raises:
        ValueError: the sets cannot be compared, or the deciding measure cannot decide.
    """
    measure, variants = measures[0], upstream[0].variants
    if measure.resampling is None:
        raise ValueError(f"{measure.label} has neither noise floor nor interval to decide by")
    chance: dict[str, Any] = {"resamples": resamples, "seed": seed}
    tables = [
        tabulate(column, upstream, downstream, level=level, **chance)
        for column in all_columns(measures, variants)
        if column.measure.suits(variants[column.variant])
    ]
    sums = _blocks(measure, upstream, downstream, next(iter(variants)))
    # A set too small for the measure has no value, and is no candidate.
    nearest = np.nan_to_num(tables[0].far, nan=np.inf, neginf=-np.inf).argmin(axis=0)
    sets = (*upstream, *downstream)
    return Comparison(
        upstream=upstream,
        downstream=downstream,
        tables=[*tables, *views],
        level=level,
        gaps={
            (j, i): gap_between(
                sums[0][nearest[j]], sums[0][i], sums[1][j], measure=measure, **chance
            )
            for j, i in np.ndindex(len(downstream), len(upstream))
            if i != nearest[j]
        },
        unseen=_unseen(upstream, downstream),
        mixtures=mixture_distances(upstream, downstream, mixtures, measure),
        ranks={s.name: effective_rank(s.features.statistics()) for s in sets},
        halves=_halves(sets, tables[0], seed),
        limits=np.array(
            [measure.limit(s.features) if measure.limit else np.nan for s in downstream]
        ),
        resamples=resamples,
    )


def tabulate(
    column: Column,
    upstream: Sequence[ExtractedSet],
    downstream: Sequence[ExtractedSet],
    *,
    resamples: int,
    level: float,
    seed: int,
) -> Table:
    """One measure on one variant of the features; see :func:`compare`.

    Intervals and limits of infinitely many structures are those of the deciding features.
    """
    began, measure, variant = time.monotonic(), column.measure, column.variant
    sides = [[s.variants[variant] for s in side] for side in (upstream, downstream)]
    table = Table(column, measure.tabulate(*sides))
    if measure.resampling is not None:
        sums = _blocks(measure, upstream, downstream, variant)
        noise = noise_table(*sums, measure=measure, resamples=resamples, seed=seed)
        floor, above = noise.floor(table.distance, level), noise.distinguishable(level)
        table = dataclasses.replace(table, noise=noise, floor=floor, above=above)
        if column.first:
            jackknife = jackknife_table(*sums, measure=measure)
            lower, upper = interval(jackknife, noise, table.distance, level)
            table = dataclasses.replace(table, lower=lower, upper=upper)
    if measure.extrapolates and column.first:
        found = extrapolate_table(sides[0], sides[1], measure)
        table = dataclasses.replace(table, extrapolation=found)
    return dataclasses.replace(table, seconds=time.monotonic() - began)


def _blocks(
    measure: Measure,
    upstream: Sequence[ExtractedSet],
    downstream: Sequence[ExtractedSet],
    variant: str,
) -> tuple[list[Drawable], list[Drawable]]:
    """Blocks that the measure resamples, of all upstream sets and of all downstream sets."""
    assert measure.resampling is not None
    blocks = measure.resampling.blocks
    first, second = ([blocks(s.variants[variant]) for s in side] for side in (upstream, downstream))
    return first, second


def _unseen(upstream: Sequence[ExtractedSet], downstream: Sequence[ExtractedSet]) -> np.ndarray:
    """[K, M] fraction of the downstream atoms whose element an upstream set lacks, or NaN."""
    elements = [[s.features.elements for s in side] for side in (upstream, downstream)]
    return np.array([[unseen_share(a, b) for b in elements[1]] for a in elements[0]], float)


def _halves(sets: Sequence[ExtractedSet], table: Table, seed: int) -> dict[str, float]:
    """Name → value of two sets of the same size and distribution, in units of the table.

    What was measured on projected features is scaled as the table's distances are, on average.
    """
    assert table.noise is not None
    assert table.measure.resampling is not None
    blocks, projected = table.measure.resampling.blocks, table.noise.estimate.sum()
    scale = table.distance.sum() / projected if projected > 0 else 1.0
    return {s.name: scale * halves_distance(blocks(s.features), seed, table.measure) for s in sets}


def mixture_distances(
    upstream: Sequence[ExtractedSet],
    downstream: Sequence[ExtractedSet],
    mixtures: Sequence[str | float],
    measure: Measure,
) -> dict[str, np.ndarray]:
    """Values [M] of mixtures of all upstream sets, by name; none unless moments determine them."""
    if not mixtures or len(upstream) < 2 or not measure.only_moments:
        return {}
    sizes = [s.available for s in upstream]
    features = [s.features for s in upstream]
    mixed = {}
    for m in mixtures:
        name, temperature = f"mixture, {m}", float("inf")
        if not isinstance(m, str):
            name, temperature = f"mixture, T = {m:g}", m
        statistics = mix_statistics(features, mixture_shares(sizes, temperature).tolist())
        mixed[name] = dataclasses.replace(features[0], parts=(statistics,))
    values = measure.tabulate(list(mixed.values()), [s.features for s in downstream])
    return dict(zip(mixed, values.distance, strict=True))
