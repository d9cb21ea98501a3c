"""Distances within and between elements, and elements that the upstream set lacks."""

from collections.abc import Mapping

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from atomjax.similarity.measures.frechet import frechet_distance
from atomjax.similarity.measures.measure import Measure, Parts, Sets, Values
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


def mixture_distance(
    upstream: Mapping[int, Statistics], downstream: Mapping[int, Statistics]
) -> float:
    """Distance of two sets as mixtures of Gaussians, one for each element.

    The least cost of carrying one set's atoms to the other's places, where an atom of one element
    that takes the place of another's costs the CSI between the two: the squared Wasserstein
    distance of mixtures (Delon and Desolneux, SIAM J. Imaging Sci. 13, 936 (2020)). Elements that
    one set lacks count by how near their features are to those of others.
    """
    sides = list(upstream.values()), list(downstream.values())
    costs = np.array([[frechet_distance(a, b) for b in sides[1]] for a in sides[0]])
    shares = [np.array([float(one.total) for one in side]) for side in sides]
    rows, columns = costs.shape
    # Of the plan [rows, columns], sums over columns and over rows; one of these follows.
    sums = sparse.vstack(
        [
            sparse.kron(sparse.eye(rows), np.ones((1, columns))),
            sparse.kron(np.ones((1, rows)), sparse.eye(columns)),
        ]
    ).tocsr()[:-1]
    given = np.concatenate([share / share.sum() for share in shares])[:-1]
    return float(linprog(costs.ravel(), A_eq=sums, b_eq=given, method="highs").fun)


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


def _mixtures(upstream: Sets, downstream: Sets) -> Values:
    return Values(
        np.array([[mixture_distance(u.elements, d.elements) for d in downstream] for u in upstream])
    )


ELEMENT_MIXTURES = Measure(
    name="element_mixtures",
    label="mixtures by element",
    about="the Fréchet distance between sets as mixtures of a Gaussian for each element: the cost "
    "of carrying atoms from element to element, at the CSI between these; it has no interval and "
    "no floor",
    rows="atoms",
    table=_mixtures,
)
