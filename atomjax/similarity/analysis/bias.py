"""Extrapolation of a measure to infinitely many structures.

A Fréchet distance of finite samples is too large, by about c/n with n the number of structures,
and by a different c for every pair; sets of different size then compare unfairly. As Chong and
Forsyth (CVPR 2020, arXiv:1911.07023) do for images, the distance is evaluated at several sizes and
extrapolated in 1/n to zero. The sizes are all, halves and quarters of both sets at once, from
four disjoint parts of each.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from atomjax.similarity.features.collect import SetFeatures
from atomjax.similarity.measures.csi import CSI
from atomjax.similarity.measures.measure import Measure

PARTS = 4


@dataclasses.dataclass(frozen=True)
class Extrapolation:
    """Distances of K upstream sets to M downstream sets, and their limits.

    Both are NaN for pairs with a set of fewer than four independent units.
    """

    distance: np.ndarray  # [K, M] with all structures
    # [K, M] extrapolated to infinitely many, linearly in 1/n from halves and all.
    infinite: np.ndarray
    # [K, M] how much a parabola through quarters, halves and all differs from that; where it is as
    # large as the bias, the sets are too small to extrapolate.
    uncertainty: np.ndarray


def extrapolate_table(
    upstream: Sequence[SetFeatures], downstream: Sequence[SetFeatures], measure: Measure = CSI
) -> Extrapolation:
    """Extrapolates a table of distances to infinite sets.

    It costs seven tables (one of all, two of halves, four of quarters).

    Args:
        upstream: K sets of four disjoint parts, to which structures (or groups that are drawn as a
            whole) were dealt in turn, so that the parts are alike.
        downstream: M such sets.
        measure: one whose bias is inversely proportional to the number of structures.

    Raises:
        ValueError: a set is not given in four parts.
    """
    for features in (*upstream, *downstream):
        if len(features.parts) != PARTS:
            raise ValueError(
                f"extrapolation needs {PARTS} parts of every set, not {len(features.parts)}; "
                f"collect the features with parts={PARTS}"
            )
    known = np.array([[_filled(a) and _filled(b) for b in downstream] for a in upstream])
    means = []
    for fold in (1, 2, 4):
        sides = [[features.thinned(fold) for features in side] for side in (upstream, downstream)]
        tables = [
            measure.tabulate(*([parts[i] for parts in side] for side in sides)).distance
            for i in range(fold)
        ]
        means.append(np.mean(tables, axis=0))
    whole, halves, quarters = means
    linear = 2 * whole - halves
    parabola = (8 * whole - 6 * halves + quarters) / 3
    return Extrapolation(
        distance=whole,
        # Sets that cannot be told apart extrapolate to about zero.
        infinite=np.where(known, np.maximum(linear, 0), np.nan),
        uncertainty=np.where(known, np.abs(parabola - linear), np.nan),
    )


def _filled(features: SetFeatures) -> bool:
    return all(int(part.count) for part in features.parts)
