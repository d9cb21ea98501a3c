"""Statistics of a data set in one pass and constant memory: references, spreads, counts.

The linear reference is the least-squares solution of counts · x = energies. Its rows are reduced
block by block to a triangular factor of [counts | energies], which has the same solution and the
same residual (Demmel et al., Communication-optimal parallel and sequential QR, 2012); so parts of
a set that were reduced elsewhere are put together exactly, without their structures. (Sums of
products would do as well in exact arithmetic, but square the condition number.)
"""

from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np

from atomjax.structures.element_fit import (
    NOTHING,
    SMALLEST_SCALE,
    TABLE_SIZE,
    scale_of_forces,
    solve_elements,
    warn_undetermined,
)
from atomjax.structures.elements import SYMBOLS
from atomjax.structures.references import References, common_scales, nothing_to_fit
from atomjax.structures.structure import Structure

_BLOCK = 1024
# The sums, in this order; deviations are summed about the mean, whose square would drown them.
_SUMS = ("structures", "atoms", "forces", "components", "forces2", "energies", "mean", "deviation2")


class StatisticsAccumulator:
    """Sums over structures, from which `references` and `summary` follow."""

    def __init__(self) -> None:
        self.sums = np.zeros(len(_SUMS))
        self.elements = np.zeros(TABLE_SIZE, dtype=np.int64)
        self._factor = np.zeros((0, TABLE_SIZE + 1))
        self._rows: list[np.ndarray] = []

    @classmethod
    def over(cls, structures: Iterable[Structure]) -> Self:
        """The sums over `structures`."""
        total = cls()
        for structure in structures:
            total.add(structure)
        return total

    def add(self, structure: Structure) -> None:
        """Count one structure."""
        counts = np.bincount(structure.atomic_numbers, minlength=TABLE_SIZE)
        self.elements += counts
        self.sums[:2] += 1, len(structure)
        if structure.energy is not None:
            self._add_energies(1.0, structure.energy, 0.0)
            self._rows.append(np.append(counts, structure.energy))
            if len(self._rows) == _BLOCK:
                self._reduce()
        if structure.forces is not None:
            free = structure.forces[~structure.fixed]
            self.sums[2:5] += 1, free.size, float(np.sum(free**2))

    def merge(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Add the counts of another accumulator, given its `arrays`."""
        self._reduce()
        self.sums[:5] += arrays["sums"][:5]
        self._add_energies(*arrays["sums"][5:].tolist())
        self.elements = self.elements + arrays["elements"]
        self._factor = _triangle(np.concatenate([self._factor, arrays["factor"]]))

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything counted so far, for `merge`."""
        self._reduce()
        return {"sums": self.sums, "elements": self.elements, "factor": self._factor}

    def references(self, *, conservative: bool = False) -> References:
        """References as `References.fit` fits them on the same structures.

        Args:
            conservative: forces will be the energy's gradient, so both get one scale.

        Raises:
            ReferencesError: no structure had an energy or forces.
        """
        total = self._named()
        if not total["energies"] and not total["forces"]:
            raise nothing_to_fit(int(total["structures"]))
        elements, seen, energy_scale = np.zeros(TABLE_SIZE), self.elements > 0, 1.0
        undetermined = NOTHING
        if total["energies"]:
            elements, seen, energy_scale, undetermined = self._fit(int(total["energies"]))
            warn_undetermined(undetermined)
        scales = common_scales(energy_scale, self.force_scale, conservative)
        return References(elements, 0.0, *scales, seen, undetermined)

    @property
    def force_scale(self) -> float | None:
        """Root mean square force component on free atoms, eV/Å; None where there are no forces."""
        total = self._named()
        return scale_of_forces(total["forces2"], total["components"])

    def summary(self) -> dict[str, Any]:
        """Counts and spreads as JSON; energies in eV, forces in eV/Å, None without labels."""
        total = self._named()
        labelled = total["energies"] > 0 or total["forces"] > 0
        spread = None
        if total["energies"]:
            spread = float(np.sqrt(total["deviation2"] / total["energies"]))
        return {
            "structures": int(total["structures"]),
            "atoms": int(total["atoms"]),
            "mean_atoms": float(total["atoms"] / max(total["structures"], 1.0)),
            "with_energy": int(total["energies"]),
            "with_forces": int(total["forces"]),
            "energy_std": spread,
            "force_rms": self.force_scale,
            "elements": {SYMBOLS[z]: int(self.elements[z]) for z in np.flatnonzero(self.elements)},
            "references": self.references().to_dict() if labelled else None,
        }

    def _add_energies(self, count: float, mean: float, deviation2: float) -> None:
        """Chan et al., Updating formulae for computing sample variances, 1979."""
        old_count, old_mean, old_deviation2 = self.sums[5:].tolist()
        together = old_count + count
        if count:
            shift = mean - old_mean
            both = old_deviation2 + deviation2 + shift**2 * old_count * count / together
            self.sums[5:] = together, old_mean + shift * count / together, both

    def _named(self) -> dict[str, float]:
        return dict(zip(_SUMS, self.sums.tolist(), strict=True))

    def _reduce(self) -> None:
        if self._rows:
            self._factor = _triangle(np.concatenate([self._factor, np.array(self._rows)]))
            self._rows = []

    def _fit(self, count: int) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
        """Element energies [119] eV, elements seen [119], the residual's scale in eV, and [k, 119].

        The last are the directions that are left open.
        """
        self._reduce()
        counts, energies = self._factor[:, :-1], self._factor[:, -1]
        elements, seen, rank, undetermined = solve_elements(counts, energies)
        if count == rank:
            return elements, seen, 1.0, undetermined
        residual = np.linalg.norm(energies - counts @ elements) / np.sqrt(count)
        return elements, seen, max(float(residual), SMALLEST_SCALE), undetermined


def _triangle(rows: np.ndarray) -> np.ndarray:
    """The triangular factor of `rows`; columns of zeros (elements unseen) stay exactly so."""
    used = np.flatnonzero(rows.any(axis=0))
    factor = np.zeros((min(len(rows), len(used)), rows.shape[1]))
    if len(used):
        factor[:, used] = np.linalg.qr(rows[:, used], mode="r")
    return factor
