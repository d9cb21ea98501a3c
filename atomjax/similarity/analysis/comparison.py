"""Everything that is said about K upstream sets and M downstream sets, as one table."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from atomjax.similarity.analysis.bias import Extrapolation, extrapolate_table
from atomjax.similarity.analysis.effective_rank import effective_rank
from atomjax.similarity.analysis.elements import ElementComparison, compare_elements
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
from atomjax.similarity.measures.frechet import FrechetTable, frechet_table


@dataclasses.dataclass(frozen=True)
class Table:
    """Distances [K, M] of one variant or view, beside what chance gives.

    Attributes:
        frechet: the distances and their terms.
        noise: the same with units exchanged at random.
        floor: [K, M] distances that chance exceeds with probability 1 - level.
        above: [K, M] whether a distance is distinguishable from zero.
    """

    frechet: FrechetTable
    noise: Noise
    floor: np.ndarray
    above: np.ndarray

    @property
    def distance(self) -> np.ndarray:
        """[K, M] distances."""
        return self.frechet.distance


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The sets, and what follows from their features.

    Attributes:
        upstream: K sets.
        downstream: M sets.
        variants: name → table, the deciding one first.
        lower, upper: [K, M] ends of the intervals.
        level: confidence level.
        gaps: (task, other candidate) → how much farther that is than the nearest candidate.
        extrapolation: to infinitely many structures.
        elements: (upstream name, downstream name) → by element; empty unless atoms are rows.
        mixtures: name → [M] distances of mixtures of the upstream sets.
        ranks: name of a set → effective rank (entropy) of its features.
        halves: name of a set → distance of two sets of its size and distribution.
        spreads: [M] total variance of each downstream set, the squared distance from which a
            candidate is farther than a single point at the downstream mean.
        resamples: exchanges behind every floor and gap.
        views: name → table of another sample or backbone.
    """

    upstream: Sequence[ExtractedSet]
    downstream: Sequence[ExtractedSet]
    variants: Mapping[str, Table]
    lower: np.ndarray
    upper: np.ndarray
    level: float
    gaps: Mapping[tuple[int, int], Gap]
    extrapolation: Extrapolation
    elements: Mapping[tuple[str, str], ElementComparison]
    mixtures: Mapping[str, np.ndarray]
    ranks: Mapping[str, float]
    halves: Mapping[str, float]
    spreads: np.ndarray
    resamples: int
    views: Mapping[str, Table] = dataclasses.field(default_factory=dict)

    @property
    def table(self) -> Table:
        """The deciding variant."""
        return next(iter(self.variants.values()))

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
        by_element = self.elements.get((up.name, down.name))
        first, *others = self.variants
        frechet = self.table.frechet
        record = {
            "upstream": up.name,
            "downstream": down.name,
            "variant": first,
            "csi": frechet.distance[i, j],
            "lower": self.lower[i, j],
            "upper": self.upper[i, j],
            "noise_floor": self.table.floor[i, j],
            "distinguishable": self.table.above[i, j],
            "mean_term": frechet.mean_term[i, j],
            "covariance_term": frechet.covariance_term[i, j],
            "infinite": self.extrapolation.infinite[i, j],
            "infinite_uncertainty": self.extrapolation.uncertainty[i, j],
            "unseen_share": by_element.unseen_share if by_element else float("nan"),
            "within_elements": by_element.mean_distance if by_element else float("nan"),
            **{f"csi_{name}": self.variants[name].distance[i, j] for name in others},
            **{f"csi_{name}": table.distance[i, j] for name, table in self.views.items()},
            **{
                f"distinguishable_{name}": table.above[i, j]
                for name, table in (*self.variants.items(), *self.views.items())
                if name != first
            },
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
    mixtures: Sequence[str | float] = (),
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
    views: Mapping[str, Table] | None = None,
) -> Comparison:
    """Compares every upstream set with every downstream set.

    Args:
        upstream: K sets.
        downstream: M sets, of the same extractor.
        mixtures: of the upstream sets to add: "balanced" or temperatures.
        resamples: exchanges of units, by which noise is measured.
        level: confidence level.
        seed: of the exchanges.
        views: name → table to report beside.

    Raises:
        ValueError: the sets cannot be compared.
    """
    chance: dict[str, Any] = {"resamples": resamples, "seed": seed}
    variants = {
        name: measure(upstream, downstream, name, level=level, **chance)
        for name in upstream[0].variants
    }
    table = next(iter(variants.values()))
    sums = [[s.features.structures for s in side] for side in (upstream, downstream)]
    lower, upper = interval(jackknife_table(*sums), table.noise, table.distance, level)
    nearest = table.distance.argmin(axis=0)
    return Comparison(
        upstream=upstream,
        downstream=downstream,
        variants=variants,
        lower=lower,
        upper=upper,
        level=level,
        gaps={
            (j, i): gap_between(sums[0][nearest[j]], sums[0][i], sums[1][j], **chance)
            for j, i in np.ndindex(len(downstream), len(upstream))
            if i != nearest[j]
        },
        extrapolation=extrapolate_table(
            [s.features.parts for s in upstream], [s.features.parts for s in downstream]
        ),
        elements=_by_element(upstream, downstream),
        mixtures=mixture_distances(upstream, downstream, mixtures),
        ranks={
            s.name: effective_rank(s.features.statistics()).entropy
            for s in (*upstream, *downstream)
        },
        halves=_halves((*upstream, *downstream), table, seed),
        spreads=np.array([_total_variance(s) for s in downstream]),
        resamples=resamples,
        views=views or {},
    )


def measure(
    upstream: Sequence[ExtractedSet],
    downstream: Sequence[ExtractedSet],
    variant: str,
    *,
    resamples: int,
    level: float,
    seed: int,
) -> Table:
    """The table of one variant; see :func:`compare`."""
    sides = [[s.variants[variant] for s in side] for side in (upstream, downstream)]
    frechet = frechet_table(*([one.statistics() for one in side] for side in sides))
    sums = ([one.structures for one in side] for side in sides)
    noise = noise_table(*sums, resamples=resamples, seed=seed)
    return Table(frechet, noise, noise.floor(frechet.distance, level), noise.distinguishable(level))


def _halves(sets: Sequence[ExtractedSet], table: Table, seed: int) -> dict[str, float]:
    """Name → distance of two sets of the same size and distribution, in units of the table.

    What was measured on projected features is scaled as the table's distances are, on average.
    """
    projected = table.noise.estimate.sum()
    scale = table.distance.sum() / projected if projected > 0 else 1.0
    return {s.name: scale * halves_distance(s.features.structures, seed) for s in sets}


def _total_variance(one: ExtractedSet) -> float:
    statistics = one.features.statistics()
    return float(np.trace(statistics.scatter)) / max(float(statistics.total) - 1, 1)


def _by_element(
    upstream: Sequence[ExtractedSet], downstream: Sequence[ExtractedSet]
) -> dict[tuple[str, str], ElementComparison]:
    """Names of a pair → its comparison; empty where rows are not atoms."""
    return {
        (up.name, down.name): compare_elements(up.features.elements, down.features.elements)
        for up, down in itertools.product(upstream, downstream)
        if up.features.elements and down.features.elements
    }


def mixture_distances(
    upstream: Sequence[ExtractedSet],
    downstream: Sequence[ExtractedSet],
    mixtures: Sequence[str | float],
) -> dict[str, np.ndarray]:
    """Distances [M] of mixtures of all upstream sets, by name.

    Args:
        upstream: K sets.
        downstream: M sets.
        mixtures: "balanced", or temperatures of :func:`mixture_shares`.
    """
    if not mixtures or len(upstream) < 2:
        return {}
    sizes = [s.available for s in upstream]
    mixed = {
        f"mixture, {m}" if isinstance(m, str) else f"mixture, T = {m:g}": mix_statistics(
            [s.features for s in upstream],
            mixture_shares(sizes, float("inf") if isinstance(m, str) else m).tolist(),
        )
        for m in mixtures
    }
    table = frechet_table(list(mixed.values()), [s.features.statistics() for s in downstream])
    return dict(zip(mixed, table.distance, strict=True))
