"""Energy references and label scales: fitted on a data set, undone on a prediction.

A model learns energies with the atoms' own share removed, in units of what is left, and forces in
units of their size. What was taken out is kept here and put back, so that every figure that a user
sees is in eV and eV/Å.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from atomjax.structures.element_fit import (
    NOTHING,
    TABLE_SIZE,
    fit_elements,
    outside_span,
    scale_of_forces,
    warn_undetermined,
)
from atomjax.structures.element_tables import (
    ReferencesError,
    by_symbol,
    check_fields,
    check_scales,
    check_seen,
    from_directions,
    from_symbols,
    to_directions,
)
from atomjax.structures.structure import Structure


@dataclass(frozen=True, eq=False)
class References:
    """Element energies and scales that convert between physical and model units.

    model energy = (E - Σ element_energies[Z] - energy_mean) / energy_scale, and
    model forces = F / force_scale.
    """

    element_energies: np.ndarray  # [119] eV, index = atomic number, zero where unseen
    energy_mean: float  # eV a structure, whatever its size; zero unless set by hand
    energy_scale: float  # eV, root mean square after the element energies are subtracted
    force_scale: float  # eV/Å, root mean square component of the forces on free atoms
    seen: np.ndarray  # [119] bool, elements in the fit
    # [k, 119] directions among compositions that the fit leaves open; energies of compositions
    # along them are unknown.
    undetermined: np.ndarray = field(default_factory=lambda: NOTHING)

    @classmethod
    def fit(cls, structures: Sequence[Structure], *, conservative: bool = False) -> Self:
        """Fit references on labelled structures.

        Structures without an energy (or without forces) do not enter that half of the fit. A scale
        that the labels cannot tell is 1.

        Args:
            structures: the training set, labels in eV and eV/Å.
            conservative: forces will be the energy's gradient, so both get one scale: that of the
                forces, or of the energies where forces are missing or vanish by symmetry.

        Raises:
            ReferencesError: no structure has an energy or forces.
        """
        with_energy = [s for s in structures if s.energy is not None]
        if not with_energy and all(s.forces is None for s in structures):
            raise nothing_to_fit(len(structures))
        elements, energy_scale = np.zeros(TABLE_SIZE), 1.0
        seen, undetermined = np.zeros(TABLE_SIZE, dtype=bool), NOTHING
        if with_energy:
            fitted = fit_elements(with_energy, [float(s.energy or 0.0) for s in with_energy])
            elements, seen, energy_scale = fitted.values, fitted.seen, fitted.residual_scale
            undetermined = fitted.undetermined
            warn_undetermined(undetermined)
        else:
            for structure in structures:
                seen[structure.atomic_numbers] = True
        scales = common_scales(energy_scale, _force_scale(structures), conservative)
        return cls(elements, 0.0, *scales, seen, undetermined)

    def outside_span(self, atomic_numbers: ArrayLike) -> str | None:
        """Message for a composition [N] whose energy the fit leaves open; None for others.

        The model's part of such an energy may be sound; the elements' part is a guess.
        """
        return outside_span(self.undetermined, atomic_numbers)

    def reference_energy(self, atomic_numbers: ArrayLike) -> float:
        """Energy that the model does not predict, for one structure [N]; eV.

        Raises:
            ReferencesError: an element that the fit never met.
        """
        numbers = np.asarray(atomic_numbers, dtype=np.int64)
        check_seen(numbers, self.seen)
        return float(self.element_energies[numbers].sum()) + self.energy_mean

    def normalize_energy(self, structure: Structure) -> float:
        """A structure's energy in the model's unit.

        Raises:
            ReferencesError: the structure has no energy, or an element that the fit never met.
        """
        return self.residual_energy(structure) / self.energy_scale

    def residual_energy(self, structure: Structure) -> float:
        """A structure's energy less what the model does not predict; eV.

        Raises:
            ReferencesError: the structure has no energy, or an element that the fit never met.
        """
        if structure.energy is None:
            raise ReferencesError(f"{structure!r} has no energy")
        try:
            return structure.energy - self.reference_energy(structure.atomic_numbers)
        except ReferencesError as error:
            raise ReferencesError(f"{structure!r}: {error}") from error

    def normalize_forces(self, structure: Structure) -> np.ndarray:
        """Forces [N, 3] in the model's unit; raises ReferencesError where there are none."""
        if structure.forces is None:
            raise ReferencesError(f"{structure!r} has no forces")
        return structure.forces / self.force_scale

    def normalize_stress(self, structure: Structure) -> np.ndarray:
        """A structure's stress [3, 3] in the model's unit: that of its energy, per Å³.

        Raises:
            ReferencesError: the structure has no stress.
        """
        if structure.stress is None:
            raise ReferencesError(f"{structure!r} has no stress")
        return structure.stress / self.energy_scale

    def energy(self, atomic_numbers: ArrayLike, model_energy: float) -> float:
        """A predicted energy in eV, for one structure with `atomic_numbers` [N]."""
        return float(model_energy) * self.energy_scale + self.reference_energy(atomic_numbers)

    def forces(self, model_forces: ArrayLike) -> np.ndarray:
        """Predicted forces [..., 3] in eV/Å."""
        return np.asarray(model_forces, dtype=np.float64) * self.force_scale

    def stress(self, model_stress: ArrayLike) -> np.ndarray:
        """A predicted stress [3, 3] in eV/Å³."""
        return np.asarray(model_stress, dtype=np.float64) * self.energy_scale

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file; elements by symbol."""
        return {
            "element_energies": by_symbol(self.element_energies, self.seen),
            "energy_mean": self.energy_mean,
            "energy_scale": self.energy_scale,
            "force_scale": self.force_scale,
            "undetermined": to_directions(self.undetermined),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; raises ReferencesError where a field is missing or wrong."""
        # Checkpoints and stores of before the span was kept name no directions.
        values = {"undetermined": [], **values}
        check_fields(
            values,
            ("element_energies", "energy_mean", "energy_scale", "force_scale", "undetermined"),
        )
        check_scales(values, ("energy_scale", "force_scale"))
        elements, seen = from_symbols(values["element_energies"])
        return cls(
            elements,
            float(values["energy_mean"]),
            float(values["energy_scale"]),
            float(values["force_scale"]),
            seen,
            from_directions(values["undetermined"]),
        )


def common_scales(
    energy_scale: float, force_scale: float | None, conservative: bool
) -> tuple[float, float]:
    """Scales of energies, eV, and forces, eV/Å: one for both where forces are a gradient.

    Args:
        energy_scale: eV.
        force_scale: eV/Å; None where forces are missing or vanish by symmetry.
        conservative: forces will be the energy's gradient.
    """
    if conservative:
        energy_scale = force_scale = energy_scale if force_scale is None else force_scale
    return energy_scale, 1.0 if force_scale is None else force_scale


def nothing_to_fit(count: int) -> ReferencesError:
    """The error for `count` structures without energies and forces."""
    return ReferencesError(
        f"none of the {count} structures has an energy or forces to fit references on; check the"
        " reader's options, or predict a scalar target instead"
    )


def _force_scale(structures: Sequence[Structure]) -> float | None:
    """Root mean square force component on free atoms, eV/Å; None where there are no forces."""
    total, count = 0.0, 0
    for structure in structures:
        if structure.forces is not None:
            free = structure.forces[~structure.fixed]
            total += float(np.sum(free**2))
            count += free.size
    return scale_of_forces(total, count)
