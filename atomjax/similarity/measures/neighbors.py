"""Coverage of a task by a candidate, and the candidate's density where the task is.

Points are structures: the means of their rows along fixed random directions, in units in which the
task's points have unit covariance. A task's point is covered if a candidate's point lies no farther
from it than its fifth nearest neighbour within the task (Naeem et al., ICML 2020, with the task for
the real images). More of the candidate covers more, so sets are compared at equal numbers.
"""

import functools
from collections.abc import Iterator

import numpy as np

from atomjax.similarity.features.collect import SetFeatures
from atomjax.similarity.features.structure_sums import random_projection
from atomjax.similarity.features.summaries import Arrays, SetRows, Summary
from atomjax.similarity.measures.measure import Measure, Sets, Values

NEIGHBORS = 5
# Points whose distances are computed at a time.
CHUNK = 512
# Directions along which the task's points vary less, relative to the widest, are left out.
FLAT = 1e-6


# Drawn once, not for every batch.
_projection = functools.lru_cache(maxsize=8)(random_projection)


def points(rows: SetRows) -> Arrays:
    """Point and weight of each structure."""
    projection = _projection(rows.values.shape[1])
    values = rows.values if projection is None else rows.values @ projection
    places, owner = np.unique(rows.structure, return_inverse=True)
    count = np.bincount(owner)
    sums = np.zeros((len(places), values.shape[1]))
    np.add.at(sums, owner, values)
    weight = np.bincount(owner, rows.weights) / count
    return {"point": (sums / count[:, None]).astype(np.float32), "weight": weight}


def join_points(first: Arrays, second: Arrays) -> Arrays:
    """The points of both."""
    return {name: np.concatenate([first[name], second[name]]) for name in ("point", "weight")}


def whitening(values: np.ndarray) -> np.ndarray:
    """[q, p] transform after which points have unit covariance, without flat directions."""
    variances, vectors = np.linalg.eigh(np.atleast_2d(np.cov(values, rowvar=False)))
    wide = variances > FLAT * max(variances.max(), 1e-300)
    return vectors[:, wide] / np.sqrt(variances[wide])


def counts_in_reach(candidate: np.ndarray, task: np.ndarray) -> np.ndarray:
    """[S] candidate points within reach of each of more than ``NEIGHBORS`` points of a task."""
    change = whitening(task)
    task, candidate = task @ change, candidate @ change
    found = []
    for to_theirs, to_ours in zip(_squares(task, candidate), _squares(task, task), strict=True):
        # The nearest of a task's points is the point itself.
        reach = np.partition(to_ours, NEIGHBORS, axis=1)[:, NEIGHBORS]
        found.append((to_theirs <= reach[:, None]).sum(axis=1))
    return np.concatenate(found)


def _squares(first: np.ndarray, second: np.ndarray) -> Iterator[np.ndarray]:
    """Squared distances of a few of the first points at a time to all of the second."""
    lengths = (second**2).sum(axis=1)
    for start in range(0, len(first), CHUNK):
        some = first[start : start + CHUNK]
        yield (some**2).sum(axis=1)[:, None] + lengths - 2 * some @ second.T


def coverage_and_density(upstream: SetFeatures, downstream: SetFeatures) -> tuple[float, float]:
    """Both, of one pair of sets; NaN for a task of too few points to have neighbourhoods."""
    theirs, ours = (one.summaries["points"] for one in (upstream, downstream))
    weights = ours["weight"] / ours["weight"].sum()
    if len(weights) <= NEIGHBORS:
        return float("nan"), float("nan")
    counts = counts_in_reach(theirs["point"].astype(float), ours["point"].astype(float))
    share = len(weights) / (NEIGHBORS * len(theirs["point"]))
    return float(weights @ (counts > 0)), share * float(weights @ counts)


def _measure(name: str, about: str, which: int) -> Measure:
    def table(upstream: Sets, downstream: Sets) -> Values:
        pairs = [[coverage_and_density(one, other) for other in downstream] for one in upstream]
        return Values(np.array(pairs)[..., which])

    return Measure(
        name=name,
        label=name,
        about=f"{about}; it has no interval and no floor",
        near="large",
        symmetric=False,
        needs=(Summary("points", points, merge=join_points, labels=False),),
        table=table,
    )


COVERAGE = _measure(
    "coverage",
    "the fraction of the task's structures that have one of the candidate in their neighbourhood",
    0,
)
DENSITY = _measure(
    "density",
    "the candidate's structures in the neighbourhoods of the task's, relative to those of a set "
    "like the task, which has 1",
    1,
)
