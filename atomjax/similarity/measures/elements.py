"""Distances within and between elements, and elements that the upstream set lacks."""

from collections.abc import Mapping

from atomjax.similarity.measures.frechet import frechet_distance
from atomjax.similarity.measures.measure import Measure, Parts
from atomjax.similarity.measures.statistics import Statistics
from atomjax.structures.elements import SYMBOLS


def compare_elements(
    upstream: Mapping[int, Statistics], downstream: Mapping[int, Statistics]
) -> Parts:
    """Compares two sets element by element, each by the CSI between its atoms in both sets.

    Args:
        upstream: atomic number → statistics of the features of its atoms.
        downstream: the same of the other set.

    Raises:
        ValueError: the downstream set has no atoms.
    """
    if not sum(float(s.total) for s in downstream.values()):
        raise ValueError(
            "the downstream set has no atoms to compare; sample at least one structure"
        )
    shared = sorted(set(upstream) & set(downstream))
    return Parts(
        distance={SYMBOLS[z]: frechet_distance(upstream[z], downstream[z]) for z in shared},
        share=element_shares(downstream),
        unseen=tuple(SYMBOLS[z] for z in sorted(set(downstream) - set(upstream))),
    )


def element_shares(statistics: Mapping[int, Statistics]) -> dict[str, float]:
    """Symbol → fraction of the atoms of a set."""
    counts = {z: float(s.total) for z, s in sorted(statistics.items())}
    total = sum(counts.values())
    return {SYMBOLS[z]: n / total for z, n in counts.items()}


def unseen_share(upstream: Mapping[int, Statistics], downstream: Mapping[int, Statistics]) -> float:
    """Fraction of the downstream atoms whose element the upstream set lacks.

    NaN where that is not known, since rows are not atoms.
    """
    if not upstream or not downstream:
        return float("nan")
    seen = element_shares(upstream)
    return sum(share for symbol, share in element_shares(downstream).items() if symbol not in seen)


WITHIN_ELEMENTS = Measure(
    name="within_elements",
    label="within elements",
    about="the mean CSI between atoms of one element, over the elements that both sets have and "
    "weighted by the task's atoms; it has no interval and no floor",
    symmetric=False,
    rows="atoms",
    parts=lambda upstream, downstream: compare_elements(upstream.elements, downstream.elements),
    parts_name="element",
)
