"""Sliced Wasserstein distance from histograms along fixed random directions, which add.

Bins are narrow about zero and wide far from it, as features are of order one after a network's last
norm. The distributions are known exactly at the edges of bins, and taken as linear in between.
"""

import functools
from typing import Any

import numpy as np

from atomjax.similarity.features.summaries import SetRows, Summary
from atomjax.similarity.measures.measure import Measure, Resampling

DIRECTIONS = 32
BINS = 128
# Width about zero is NEAR × 2 asinh(FAR / NEAR) / BINS; values beyond FAR count as FAR.
NEAR, FAR = 0.25, 50.0
EDGES = NEAR * np.sinh(np.linspace(-1, 1, BINS + 1) * np.arcsinh(FAR / NEAR))


@functools.lru_cache(maxsize=8)
def _directions(width: int) -> np.ndarray:
    """[d, DIRECTIONS] unit vectors."""
    drawn = np.random.default_rng(1).normal(size=(width, DIRECTIONS))
    return drawn / np.linalg.norm(drawn, axis=0)


def histograms(rows: SetRows) -> dict[str, np.ndarray]:
    """Weight of the rows in each bin of each direction."""
    along = rows.values @ _directions(rows.values.shape[1])
    place = np.clip(np.searchsorted(EDGES, along, side="right") - 1, 0, BINS - 1)
    flat = place + BINS * np.arange(DIRECTIONS)
    weights = np.repeat(rows.weights, DIRECTIONS)
    counts = np.bincount(flat.ravel(), weights, minlength=BINS * DIRECTIONS)
    return {"counts": counts.reshape(DIRECTIONS, BINS).astype(np.float32)}


def transport(upstream: Any, downstream: Any) -> np.ndarray:
    """[B] mean over directions of the distance that mass is moved, of B choices or one for all."""
    below = []
    for chosen in (upstream, downstream):
        counts = chosen["counts"].astype(np.float64)
        below.append(np.cumsum(counts, axis=2) / counts.sum(axis=2, keepdims=True))
    difference = below[0] - below[1]
    ends = np.concatenate([np.zeros_like(difference[..., :1]), difference], axis=2)
    left, right = ends[..., :-1], ends[..., 1:]
    # The mean of |a line| from left to right, which may cross zero.
    same = left * right >= 0
    total = np.abs(left) + np.abs(right)
    crossed = (left**2 + right**2) / (2 * np.where(total > 0, total, 1))
    return (np.where(same, total / 2, crossed) * np.diff(EDGES)).sum(axis=2).mean(axis=1)


SLICED_WASSERSTEIN = Measure(
    name="sliced_wasserstein",
    label="sliced Wasserstein",
    about="the mean distance, in units of the features, that rows have to be moved along a random "
    "direction",
    needs=(Summary("histograms", histograms, by_block=True, labels=False),),
    resampling=Resampling(lambda features: features.blocks["histograms"], transport),
)
