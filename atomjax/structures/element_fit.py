"""The least-squares share of each element in sums over atoms, and undetermined directions.

Compositions that always go together (H2O alone, say) do not tell the shares of their elements
apart. The fit then takes the smallest solution, whose sums are right for combinations of the
compositions that it met and a guess for all others.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from atomjax.structures.elements import MAX_ATOMIC_NUMBER, SYMBOLS, hill_formula
from atomjax.structures.structure import Structure

TABLE_SIZE = MAX_ATOMIC_NUMBER + 1
# A set that is linear in its composition leaves rounding; a smaller scale would learn rounding.
SMALLEST_SCALE = 1e-5
# eV/Å: forces that vanish by symmetry, as of primitive cells, leave rounding below this.
LEAST_FORCE = 1e-6
# Singular values below this fraction of the largest count as zero (compositions are integers).
RANK_TOLERANCE = 1e-10
# Part of a composition outside the span that is rounding.
SPAN_TOLERANCE = 1e-6
NOTHING = np.zeros((0, TABLE_SIZE))


class ReferencesWarning(UserWarning):
    """A fit of elements' shares leaves some of them open; the message names the elements."""


def scale_of_forces(squares: float, components: float) -> float | None:
    """Root mean square component of forces, eV/Å; None where they are nothing but rounding.

    Args:
        squares: sum of the squares of all components.
        components: number of them.
    """
    scale = float(np.sqrt(squares / components)) if components else 0.0
    return None if scale < LEAST_FORCE else max(scale, SMALLEST_SCALE)


@dataclass(frozen=True, eq=False)
class ElementFit:
    """Least-squares share of each element in a sum over atoms."""

    # [119] index = atomic number, in the unit of the fitted values; zero where unseen.
    values: np.ndarray
    seen: np.ndarray  # [119] bool, the elements that the fit met
    residual: np.ndarray  # [S] remainder after the elements' shares, in the same unit
    degrees_of_freedom: int  # structures minus rank; zero where the fit explains anything
    # [k, 119] orthonormal directions of compositions that the fit leaves open.
    undetermined: np.ndarray

    @property
    def residual_scale(self) -> float:
        """Root mean square of the residual; 1.0 where the fit has no degrees of freedom left."""
        if self.degrees_of_freedom == 0:
            return 1.0
        return max(float(np.sqrt(np.mean(self.residual**2))), SMALLEST_SCALE)


def fit_elements(structures: Sequence[Structure], values: ArrayLike) -> ElementFit:
    """Fit `values` [S] as sums over atoms of one number per element.

    Compositions that always go together (C6H6 alone, say) leave the split between elements
    open; the smallest solution is taken, which shares the value out by the number of atoms.
    """
    counts = np.zeros((len(structures), TABLE_SIZE))
    for row, structure in enumerate(structures):
        counts[row] = np.bincount(structure.atomic_numbers, minlength=TABLE_SIZE)
    y = np.asarray(values, dtype=np.float64)
    table, seen, rank, undetermined = solve_elements(counts, y)
    return ElementFit(table, seen, y - counts @ table, len(structures) - rank, undetermined)


def solve_elements(
    counts: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
    """The smallest least-squares solution of counts [S, 119] · x = values [S].

    Returns:
        x [119], the elements seen [119] bool, the rank, and the directions left open [k, 119].
    """
    seen = np.asarray(counts.any(axis=0))
    solution, _, rank, _ = np.linalg.lstsq(counts[:, seen], values, rcond=RANK_TOLERANCE)
    table = np.zeros(TABLE_SIZE)
    table[seen] = solution
    undetermined = np.zeros((int(seen.sum()) - int(rank), TABLE_SIZE))
    if len(undetermined):
        factor = np.linalg.qr(counts[:, seen], mode="r")
        directions = np.linalg.svd(factor).Vh[int(rank) :]
        directions[np.abs(directions) < SPAN_TOLERANCE] = 0.0
        undetermined[:, seen] = directions
    return table, seen, int(rank), undetermined


def outside_span(undetermined: np.ndarray, atomic_numbers: ArrayLike) -> str | None:
    """Message for a composition [N] outside the span of the fitted ones; None for one inside.

    Args:
        undetermined: [k, 119] of the fit.
        atomic_numbers: [N] atomic numbers of the structure.
    """
    if not len(undetermined):
        return None
    numbers = np.asarray(atomic_numbers, dtype=np.int64)
    counts = np.bincount(numbers, minlength=TABLE_SIZE)
    if np.linalg.norm(undetermined @ counts) <= SPAN_TOLERANCE * np.linalg.norm(counts):
        return None
    return (
        f"the references were fitted on compositions that do not tell"
        f" {_listed(undetermined)} apart, and {hill_formula(numbers)} is no combination of them"
    )


def warn_undetermined(undetermined: np.ndarray) -> None:
    """Warn where a fit leaves directions [k, 119] open."""
    if len(undetermined):
        warnings.warn(
            f"the compositions of the training set do not tell {_listed(undetermined)} apart:"
            " energies of other compositions than combinations of these are unknown; add"
            " structures in which these elements come in other ratios",
            ReferencesWarning,
            stacklevel=3,
        )


def undetermined_elements(undetermined: np.ndarray) -> list[str]:
    """Symbols of the elements that take part in directions [k, 119] left open."""
    return [SYMBOLS[z] for z in np.flatnonzero(undetermined.any(axis=0))]


def _listed(undetermined: np.ndarray) -> str:
    *names, last = undetermined_elements(undetermined)
    return f"{', '.join(names)} and {last}" if names else last
