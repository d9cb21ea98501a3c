"""Why a set is far: the distance within each element, and elements the upstream set lacks."""

import dataclasses
from collections.abc import Mapping

from atomjax.similarity.measures.frechet import frechet_table
from atomjax.similarity.measures.statistics import Statistics
from atomjax.structures.elements import SYMBOLS


@dataclasses.dataclass(frozen=True)
class ElementComparison:
    """One upstream set against one downstream set, element by element.

    Attributes:
        distance: symbol → CSI between the atoms of this element in both sets.
        share: symbol → share of the downstream atoms that are of this element, all elements.
        unseen: symbols of downstream elements that the upstream set does not have.
    """

    distance: dict[str, float]
    share: dict[str, float]
    unseen: tuple[str, ...]

    @property
    def unseen_share(self) -> float:
        """Share of the downstream atoms whose element the upstream set never saw."""
        return sum(self.share[symbol] for symbol in self.unseen)

    @property
    def mean_distance(self) -> float:
        """Distance within elements, weighted by the downstream atoms of the shared ones.

        NaN where the sets share no element.
        """
        weight = sum(self.share[symbol] for symbol in self.distance)
        total = sum(self.share[symbol] * value for symbol, value in self.distance.items())
        return total / weight if weight else float("nan")


def compare_elements(
    upstream: Mapping[int, Statistics], downstream: Mapping[int, Statistics]
) -> ElementComparison:
    """Compares two sets element by element.

    Args:
        upstream: atomic number → statistics of the features of its atoms.
        downstream: the same of the other set.

    Raises:
        ValueError: the downstream set has no atoms.
    """
    total = sum(float(s.total) for s in downstream.values())
    if not total:
        raise ValueError(
            "the downstream set has no atoms to compare; sample at least one structure"
        )
    shared = sorted(set(upstream) & set(downstream))
    return ElementComparison(
        distance={
            SYMBOLS[z]: float(frechet_table([upstream[z]], [downstream[z]]).distance[0, 0])
            for z in shared
        },
        share={SYMBOLS[z]: float(downstream[z].total) / total for z in sorted(downstream)},
        unseen=tuple(SYMBOLS[z] for z in sorted(set(downstream) - set(upstream))),
    )


def element_shares(statistics: Mapping[int, Statistics]) -> dict[str, float]:
    """Symbol → share of the atoms of a set."""
    counts = {z: float(s.total) for z, s in sorted(statistics.items())}
    total = sum(counts.values())
    return {SYMBOLS[z]: n / total for z, n in counts.items()}
