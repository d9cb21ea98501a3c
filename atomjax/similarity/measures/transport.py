"""Sets as mixtures of Gaussians, of elements or of classes, compared by optimal transport.

The distance of two mixtures is the least cost of carrying the parts of one to those of the other,
at the Fréchet distance between the two Gaussians: the squared Wasserstein distance of mixtures
(Delon and Desolneux, SIAM J. Imaging Sci. 13, 936 (2020)).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import linprog
from scipy.spatial.distance import cdist

from atomjax.similarity.features.collect import SetFeatures
from atomjax.similarity.features.structure_sums import Moments
from atomjax.similarity.measures.composition import FORMULA_OVERLAP
from atomjax.similarity.measures.frechet import frechet_distance, moment_distances
from atomjax.similarity.measures.measure import Measure, Sets, Values
from atomjax.similarity.measures.neighbors import COVERAGE
from atomjax.similarity.measures.statistics import Statistics

# Classes of a set that are compared, those with the largest weights.
CLASSES = 128


def transport_cost(costs: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> float:
    """Least cost of carrying weights from n points to m others, by linear programming.

    Args:
        costs: [n, m] cost of carrying a unit.
        ours: [n] weights.
        theirs: [m] weights; either side is taken as fractions of its sum.
    """
    rows, columns = costs.shape
    # Of the plan [rows, columns], sums over columns and over rows; one of these follows.
    sums = sparse.vstack(
        [
            sparse.kron(sparse.eye(rows), np.ones((1, columns))),
            sparse.kron(np.ones((1, rows)), sparse.eye(columns)),
        ]
    ).tocsr()[:-1]
    given = np.concatenate([ours / ours.sum(), theirs / theirs.sum()])[:-1]
    return float(linprog(costs.ravel(), A_eq=sums, b_eq=given, method="highs").fun)


def element_distance(
    upstream: Mapping[int, Statistics], downstream: Mapping[int, Statistics]
) -> float:
    """Distance of two sets as mixtures of Gaussians, one for each element.

    Elements that one set lacks count by how near their features are to those of others.
    """
    sides = list(upstream.values()), list(downstream.values())
    costs = np.array([[frechet_distance(a, b) for b in sides[1]] for a in sides[0]])
    return transport_cost(costs, *(np.array([float(s.total) for s in side]) for side in sides))


class ClassMixture(NamedTuple):
    """A Gaussian for each of C classes, with means of their own and one covariance for all."""

    weights: np.ndarray  # [C]
    means: np.ndarray  # [C, q]
    covariance: np.ndarray  # [q, q] within classes


def class_mixture(features: SetFeatures) -> ClassMixture:
    """The mixture of a set's formulas, from the points of its structures."""
    rows = features.blocks["points"].arrays
    points, weights = rows["point"].astype(float), rows["weight"].astype(float)
    owner = np.unique(features.blocks["formulas"].arrays["formula"], return_inverse=True)[1]
    largest = np.argsort(-np.bincount(owner, weights), kind="stable")[:CLASSES]
    kept = np.isin(owner, largest)
    points, weights = points[kept], weights[kept]
    owner = np.unique(owner[kept], return_inverse=True)[1]
    totals = np.bincount(owner, weights)
    means = np.zeros((len(totals), points.shape[1]))
    np.add.at(means, owner, weights[:, None] * points)
    means /= totals[:, None]
    apart = points - means[owner]
    return ClassMixture(totals, means, (apart * weights[:, None]).T @ apart / weights.sum())


def class_distance(upstream: ClassMixture, downstream: ClassMixture) -> float:
    """Distance of two sets as mixtures of Gaussians, one for each class.

    The part of the covariances is the same for every pair of classes.
    """
    costs = cdist(upstream.means, downstream.means, "sqeuclidean")
    centered = [
        Moments(np.zeros_like(side.means[:1]), side.covariance[None])
        for side in (upstream, downstream)
    ]
    carried = transport_cost(costs, upstream.weights, downstream.weights)
    return carried + float(moment_distances(*centered)[0])


def _table(mixture: Callable, distance: Callable[..., float]) -> Callable[[Sets, Sets], Values]:
    """The table of a distance of mixtures, and of what makes the mixture of a set."""

    def table(upstream: Sets, downstream: Sets) -> Values:
        theirs, ours = ([mixture(one) for one in side] for side in (upstream, downstream))
        return Values(np.array([[distance(u, d) for d in ours] for u in theirs]))

    return table


ELEMENT_MIXTURES = Measure(
    name="element_mixtures",
    label="mixtures by element",
    about="the Fréchet distance between sets as mixtures of a Gaussian for each element: the cost "
    "of carrying atoms from element to element, at the CSI between these; it has no interval and "
    "no floor",
    rows="atoms",
    table=_table(lambda features: features.elements, element_distance),
)
CLASS_MIXTURES = Measure(
    name="class_mixtures",
    label="mixtures by class",
    about="the Fréchet distance between sets as mixtures of a Gaussian for each formula, of the "
    f"{CLASSES} formulas with the most structures: the cost of carrying structures from formula to "
    "formula; it has no interval and no floor",
    rows="atoms",
    needs=(*COVERAGE.needs, *FORMULA_OVERLAP.needs),
    table=_table(class_mixture, class_distance),
)
