"""Measures of points in the neighbourhood of a task's: coverage, density, overlap and the KID.

Points are structures: the means of their rows along fixed random directions. For all but the KID
they are in units in which the task's points have unit covariance. A task's point is covered if a
candidate's point lies no farther from it than its fifth nearest neighbour within the task (Naeem et
al., ICML 2020, with the task for the real images). More of the candidate covers more, so sets are
compared at equal numbers, and intervals are about the value at these numbers.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from atomjax.similarity.features.structure_sums import random_projection
from atomjax.similarity.features.summaries import Arrays, SetRows, Summary
from atomjax.similarity.measures.measure import Measure, Resampling
from atomjax.similarity.measures.resampling import each_pair

NEIGHBORS = 5
# Principal directions of the task along which densities are estimated; in many no estimate is near.
PRINCIPAL = 4
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


def coverage(upstream: Arrays, downstream: Arrays) -> float:
    """Fraction of the task's points that are covered; NaN where these are too few."""
    theirs, ours, _, own = _pair(upstream, downstream)
    if len(own) <= NEIGHBORS:
        return float("nan")
    return float(own @ (counts_in_reach(theirs, ours) > 0))


def density(upstream: Arrays, downstream: Arrays) -> float:
    """Points of the candidate in reach of the task's, relative to those of a set like the task."""
    theirs, ours, _, own = _pair(upstream, downstream)
    if len(own) <= NEIGHBORS:
        return float("nan")
    share = len(own) / (NEIGHBORS * len(theirs))
    return share * float(own @ counts_in_reach(theirs, ours))


def overlap(upstream: Arrays, downstream: Arrays) -> float:
    """Overlap of two densities, the mean of min(1, q / p) over the points of the downstream set.

    Densities q and p are those of Gaussian kernels at the points of either set along the widest
    directions of the downstream one, as wide as Scott's rule takes them for the latter; a point
    does not count in its own density. NaN for a single point.
    """
    theirs, ours, weights, own = _pair(upstream, downstream)
    if len(own) < 2:
        return float("nan")
    change = whitening(ours)[:, -PRINCIPAL:]
    width = len(ours) ** (-1 / (change.shape[1] + 4))
    theirs, ours = theirs @ change / width, ours @ change / width
    ratios = []
    for start, to_theirs, to_ours in zip(
        range(0, len(ours), CHUNK), _squares(ours, theirs), _squares(ours, ours), strict=True
    ):
        near = np.exp(-to_ours / 2)
        places = np.arange(len(near))
        near[places, start + places] = 0
        p = near @ own / (1 - own[start : start + CHUNK])
        ratios.append(np.minimum(1, np.exp(-to_theirs / 2) @ weights / np.maximum(p, 1e-300)))
    return float(own @ np.concatenate(ratios))


def kernel_distance(upstream: Arrays, downstream: Arrays) -> float:
    """The unbiased squared mean discrepancy with the kernel (1 + x·y)³; NaN for a single point.

    Points are seen from the downstream set's mean, and the mean square distance from it is one.
    """
    theirs, ours, weights, own = _pair(upstream, downstream)
    if min(len(weights), len(own)) < 2:
        return float("nan")
    mean = own @ ours
    scale = np.sqrt(max(own @ ((ours - mean) ** 2).sum(axis=1), 1e-300))
    theirs, ours = (theirs - mean) / scale, (ours - mean) / scale
    return _mean_kernel(theirs, theirs, weights, weights, apart=True) + (
        _mean_kernel(ours, ours, own, own, apart=True)
        - 2 * _mean_kernel(theirs, ours, weights, own)
    )


def _mean_kernel(
    first: np.ndarray, second: np.ndarray, ours: np.ndarray, theirs: np.ndarray, apart: bool = False
) -> float:
    """The mean of (1 + x·y)³ over weighted pairs; ``apart`` leaves a point with itself out."""
    total = 0.0
    for start in range(0, len(first), CHUNK):
        some = slice(start, start + CHUNK)
        total += ours[some] @ ((1 + first[some] @ second.T) ** 3 @ theirs)
    if not apart:
        return float(total)
    alone = ours**2 @ (1 + (first**2).sum(axis=1)) ** 3
    return float((total - alone) / (1 - (ours**2).sum()))


def _pair(
    upstream: Arrays, downstream: Arrays
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points of both sets, and their weights, which sum up to one."""
    theirs, ours = (one["point"].astype(float) for one in (upstream, downstream))
    weights, own = (one["weight"] / one["weight"].sum() for one in (upstream, downstream))
    return theirs, ours, weights, own


def _measure(
    name: str,
    about: str,
    of_pair: Callable[[Arrays, Arrays], float],
    label: str | None = None,
    near: Literal["small", "large"] = "large",
    largest: float = np.inf,
) -> Measure:
    return Measure(
        name=name,
        label=label or name,
        near=near,
        about=about,
        symmetric=False,
        needs=(Summary("points", points, by_block=True, adds=False, labels=False),),
        resampling=Resampling(
            lambda features: features.blocks["points"],
            each_pair(of_pair),
            about_infinite=False,
            largest=largest,
        ),
    )


COVERAGE = _measure(
    "coverage",
    "the fraction of the task's structures that have one of the candidate in their neighbourhood",
    coverage,
    largest=1,
)
DENSITY = _measure(
    "density",
    "the candidate's structures in the neighbourhoods of the task's, relative to those of a set "
    "like the task, which has 1",
    density,
)
OVERLAP = _measure(
    "overlap",
    "the overlap of the densities of structures, estimated by Gaussian kernels along the task's "
    f"{PRINCIPAL} widest directions: 0 for sets apart, near 1 for sets alike",
    overlap,
    largest=1,
)
KID = _measure(
    "kid",
    "the kernel distance, a squared maximum mean discrepancy of structures with a cubic kernel in "
    "the task's units, free of the bias of small sets",
    kernel_distance,
    label="KID",
    near="small",
)
