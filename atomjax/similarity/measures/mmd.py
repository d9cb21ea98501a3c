"""Maximum mean discrepancy with a Gaussian kernel, by random Fourier features, which add.

The kernel's width comes from the task: the root mean square distance between two of its rows. Sums
are kept for a grid of widths (a set is read before it is known what it will be compared with), and
the two that enclose the task's are mixed, so that values change smoothly with it.
"""

import functools
from typing import Any

import numpy as np

from atomjax.similarity.features.summaries import SetRows, Summary
from atomjax.similarity.measures.measure import Measure, Resampling

WAVES = 128
# Widths of the kernel, in units of the square root of the number of features.
WIDTHS = 2.0 ** np.arange(-3, 4)
# Random directions that the variance is taken along.
DIRECTIONS = 16


@functools.lru_cache(maxsize=8)
def _directions(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions [d, WAVES] of the waves and [d, DIRECTIONS] of the variance."""
    drawn = np.random.default_rng(0).normal(size=(width, WAVES + DIRECTIONS)) / np.sqrt(width)
    return drawn[:, :WAVES], drawn[:, WAVES:]


def waves(rows: SetRows) -> dict[str, np.ndarray]:
    """Sums over rows of the waves of each width (Rahimi and Recht, NIPS 2007), and of moments."""
    directions, lines = _directions(rows.values.shape[1])
    phases = rows.values @ directions / WIDTHS[:, None, None]
    along = rows.values @ lines
    both = np.concatenate([np.cos(phases), np.sin(phases)], axis=2)
    return {
        "waves": (rows.weights @ both).astype(np.float32),
        "along": rows.weights @ along,
        "squares": rows.weights @ along**2,
        "weight": rows.weights.sum(),
    }


def shares_of_widths(chosen: Any) -> np.ndarray:
    """[B, widths] share of each width of the grid in the kernel of B choices of a task."""
    weight = chosen["weight"][:, None]
    variance = (chosen["squares"] / weight - (chosen["along"] / weight) ** 2).mean(axis=1)
    places = np.log2(np.sqrt(2 * np.maximum(variance, 1e-30)) / WIDTHS[0])
    last = len(WIDTHS) - 1
    return np.maximum(1 - np.abs(np.clip(places, 0, last)[:, None] - np.arange(last + 1)), 0)


def squared_gap(upstream: Any, downstream: Any) -> np.ndarray:
    """[B] squared distance of the mean waves of B choices of either set, or of one for all."""
    means = [chosen["waves"] / chosen["weight"][:, None, None] for chosen in (upstream, downstream)]
    gaps = ((means[0] - means[1]) ** 2).sum(axis=2) / WAVES
    return (gaps * shares_of_widths(downstream)).sum(axis=1)


MMD = Measure(
    name="mmd",
    label="MMD",
    about="the squared maximum mean discrepancy with a Gaussian kernel as wide as the task's rows "
    "are apart, from 0 to 4; of few structures it is too large by a term that the extrapolated "
    "column is free of",
    symmetric=False,
    needs=(Summary("waves", waves, by_block=True, labels=False),),
    resampling=Resampling(lambda features: features.blocks["waves"], squared_gap),
    extrapolates=True,
)
