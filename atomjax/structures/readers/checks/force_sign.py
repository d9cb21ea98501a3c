"""Whether vectors stored beside energies are forces or gradients, judged by the energies.

Along a step between two geometries of one molecule the energy changes by the work of the gradient,
ΔE = Σ (g₁ + g₂)/2 · Δx up to third order in the step (the trapezoid rule). The slope of ΔE over
that work is +1 where gradients are stored, -1 for forces, and 1.89 or 0.53 times that where Bohr
and Å are mixed.
"""

from collections.abc import Iterable

import numpy as np

# Å; over longer steps the rule is unreliable.
LONGEST_STEP = 1.5
# Least correlation that decides, and by how much the slope may differ from one.
CORRELATION = 0.8
SLOPE = 1.4


def slope_of_work(
    molecules: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> float | None:
    """The slope of energy changes over the work of the stored vectors.

    Args:
        molecules: positions [n, N, 3] Å, energies [n] and vectors [n, N, 3] of each, in units that
            go together.

    Returns:
        The slope, or None where there are too few short steps or the two are unrelated.
    """
    work, change = [], []
    for positions, energies, vectors in molecules:
        step = np.diff(positions, axis=0)
        short = np.linalg.norm(step, axis=(1, 2)) < LONGEST_STEP
        mean = (vectors[1:] + vectors[:-1]) / 2
        work.append(np.sum(mean * step, axis=(1, 2))[short])
        change.append(np.diff(energies)[short])
    w, d = np.concatenate([np.zeros(0), *work]), np.concatenate([np.zeros(0), *change])
    known = np.isfinite(w) & np.isfinite(d)
    w, d = w[known], d[known]
    size = np.sqrt(np.sum(w**2) * np.sum(d**2))
    if len(w) < 2 or size == 0.0 or abs(np.sum(w * d)) < CORRELATION * size:
        return None
    return float(np.sum(w * d) / np.sum(w**2))


def is_one(slope: float) -> bool:
    """Whether a slope's size is that of units which go together."""
    return 1 / SLOPE < abs(slope) < SLOPE
