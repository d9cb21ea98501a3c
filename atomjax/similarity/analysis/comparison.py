"""Everything that is said about K upstream sets and M downstream sets, as one table."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from atomjax.similarity.analysis.bias import Extrapolation, extrapolate_table
from atomjax.similarity.analysis.bootstrap import Bootstrap, bootstrap_table
from atomjax.similarity.analysis.effective_rank import effective_rank
from atomjax.similarity.analysis.elements import ElementComparison, compare_elements
from atomjax.similarity.analysis.mixtures import mix_statistics, mixture_shares
from atomjax.similarity.features.cache import ExtractedSet
from atomjax.similarity.measures.frechet import FrechetTable, frechet_table


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The sets, and what follows from their features.

    Attributes:
        upstream: K sets.
        downstream: M sets.
        table: distances of the deciding variant.
        lower, upper: [K, M] ends of the bootstrap intervals.
        level: of the intervals.
        bootstrap: the resampled tables.
        extrapolation: to infinitely many structures.
        elements: (upstream name, downstream name) → by element; empty unless atoms are rows.
        variants: name → [K, M] distances, the deciding one first.
        mixtures: name → [M] distances of mixtures of the upstream sets.
        ranks: name of a set → effective rank (entropy) of its features.
        spreads: [M] total variance of each downstream set, the squared distance from which a
            candidate is farther than a single point at the downstream mean.
        views: name → [K, M] distances from another sample or backbone.
    """

    upstream: Sequence[ExtractedSet]
    downstream: Sequence[ExtractedSet]
    table: FrechetTable
    lower: np.ndarray
    upper: np.ndarray
    level: float
    bootstrap: Bootstrap
    extrapolation: Extrapolation
    elements: Mapping[tuple[str, str], ElementComparison]
    variants: Mapping[str, np.ndarray]
    mixtures: Mapping[str, np.ndarray]
    ranks: Mapping[str, float]
    spreads: np.ndarray
    views: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

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
        record = {
            "upstream": up.name,
            "downstream": down.name,
            "variant": first,
            "csi": self.table.distance[i, j],
            "lower": self.lower[i, j],
            "upper": self.upper[i, j],
            "mean_term": self.table.mean_term[i, j],
            "covariance_term": self.table.covariance_term[i, j],
            "infinite": self.extrapolation.infinite[i, j],
            "infinite_uncertainty": self.extrapolation.uncertainty[i, j],
            "unseen_share": by_element.unseen_share if by_element else float("nan"),
            "within_elements": by_element.mean_distance if by_element else float("nan"),
            **{f"csi_{name}": self.variants[name][i, j] for name in others},
            **{f"csi_{name}": table[i, j] for name, table in self.views.items()},
            "effective_rank": self.ranks[up.name],
            "structures": up.features.num_structures,
            "distinct_structures": up.distinct,
            "atoms": up.features.num_atoms,
        }
        return {k: float(v) if isinstance(v, np.floating) else v for k, v in record.items()}


def compare(
    upstream: Sequence[ExtractedSet],
    downstream: Sequence[ExtractedSet],
    *,
    mixtures: Sequence[str | float] = (),
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
    views: Mapping[str, np.ndarray] | None = None,
) -> Comparison:
    """Compares every upstream set with every downstream set.

    Args:
        upstream: K sets.
        downstream: M sets, of the same extractor.
        mixtures: of the upstream sets to add: "balanced" or temperatures.
        resamples: of the bootstrap.
        level: of the intervals.
        seed: of the bootstrap.
        views: name → [K, M] distances to report beside.

    Raises:
        ValueError: the sets cannot be compared.
    """
    variants = {
        name: frechet_table(
            [s.variants[name].statistics() for s in upstream],
            [s.variants[name].statistics() for s in downstream],
        )
        for name in upstream[0].variants
    }
    table = next(iter(variants.values()))
    bootstrap = bootstrap_table(
        [s.features.structures for s in upstream],
        [s.features.structures for s in downstream],
        resamples=resamples,
        seed=seed,
    )
    lower, upper = bootstrap.interval(table.distance, level)
    return Comparison(
        upstream=upstream,
        downstream=downstream,
        table=table,
        lower=lower,
        upper=upper,
        level=level,
        bootstrap=bootstrap,
        extrapolation=extrapolate_table(
            [s.features.parts for s in upstream], [s.features.parts for s in downstream]
        ),
        elements=_by_element(upstream, downstream),
        variants={name: one.distance for name, one in variants.items()},
        mixtures=mixture_distances(upstream, downstream, mixtures),
        ranks={
            s.name: effective_rank(s.features.statistics()).entropy
            for s in (*upstream, *downstream)
        },
        spreads=np.array([_total_variance(s) for s in downstream]),
        views=views or {},
    )


def _total_variance(one: ExtractedSet) -> float:
    statistics = one.features.statistics()
    return float(np.trace(statistics.scatter)) / max(int(statistics.count) - 1, 1)


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
