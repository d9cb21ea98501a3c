"""Predictions and labels of structures in physical units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import numpy as np

from atomjax.structures import References, Structure, TargetScale

T = TypeVar("T")


@dataclass(frozen=True)
class StructureResult:
    """Predictions for one structure, in physical units; None for those that the model lacks.

    A head predicts what it was trained on: no energies where its data set had none, unless they
    are what the forces are the gradient of, and then they are marked.
    """

    energy: float | None  # eV, of the kind that the model was trained on
    forces: np.ndarray | None  # [N, 3] eV/Å
    # Name of each property → value, in the unit of its data set, or probabilities [C] of its
    # classes.
    values: Mapping[str, Any] = field(default_factory=dict)
    # [3, 3] eV/Å³, positive under tension; None also where not all directions repeat.
    stress: np.ndarray | None = None
    # Keys of `atomjax.inference.predict.MARKS`, reasons to doubt the result.
    marks: frozenset[str] = frozenset()
    # Standard deviations over the members of an ensemble, in the same units.
    deviation: "StructureResult | None" = None

    @property
    def value(self) -> Any:
        """The only property, None where there is none; raises ValueError if there are several."""
        return only(self.values)

    @classmethod
    def physical(
        cls,
        numbers: np.ndarray,
        references: References | None,
        scales: Sequence[TargetScale],
        *,
        energy: Any = None,
        forces: Any = None,
        values: Mapping[str, Any] | None = None,
        stress: Any = None,
    ) -> Self:
        """The result of what a model computes in its own units.

        Args:
            numbers: [N] atomic numbers.
            references: references of energies and forces; None leaves them as they are.
            scales: scales of the properties; one without stays as it is.
            energy: output of the model; None where it has none, as the others.
            forces: [N, 3].
            values: name of each property → output.
            stress: [3, 3].
        """
        if energy is not None:
            energy = references.energy(numbers, energy) if references else float(energy)
        if forces is not None:
            forces = np.asarray(forces, dtype=np.float64)
            forces = references.forces(forces) if references else forces
        known = {scale.name: scale for scale in scales}
        properties = {
            name: known[name].value(numbers, value) if name in known else value
            for name, value in (values or {}).items()
        }
        if stress is not None:
            stress = np.asarray(stress, dtype=np.float64)
            stress = references.stress(stress) if references else stress
        return cls(energy, forces, properties, stress)


@dataclass(frozen=True, kw_only=True)
class Quantities:
    """Energies, forces, stresses and properties of S structures; None where none has any.

    What a single structure lacks is NaN.
    """

    energies: np.ndarray | None  # [S] eV
    forces: Sequence[np.ndarray] | None  # for each structure [N, 3] eV/Å
    stresses: np.ndarray | None  # [S, 3, 3] eV/Å³, positive under tension
    # Name of each property that any has → [S], in the unit of its data set; of a class the
    # probabilities [S, C], and as label its place among the classes.
    properties: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def values(self) -> np.ndarray | None:
        """[S] the property, where there is one; None where there is none.

        Raises:
            ValueError: there are several.
        """
        return only(self.properties)

    @staticmethod
    def collect(
        items: Sequence[StructureResult], atoms: Sequence[int], targets: Sequence[str] = ()
    ) -> "Quantities":
        """Quantities of results, or of labels in their form."""

        def stacked(name: str) -> np.ndarray | None:
            found = [getattr(item, name) for item in items]
            return None if all(value is None for value in found) else _stacked(found)

        names = [name for name in targets if any(name in item.values for item in items)]
        forces = [item.forces for item in items]
        known = any(array is not None for array in forces)
        pairs = zip(forces, atoms, strict=True)
        return Quantities(
            energies=stacked("energy"),
            forces=[np.full((n, 3), np.nan) if f is None else f for f, n in pairs]
            if known
            else None,
            stresses=stacked("stress"),
            properties={
                name: _stacked([item.values.get(name) for item in items]) for name in names
            },
        )


def only(values: Mapping[str, T]) -> T | None:
    """The value of the only property, None where there is none; raises ValueError if several."""
    if len(values) > 1:
        raise ValueError(f"there are several properties: {', '.join(values)}; name one of them")
    return next(iter(values.values()), None)


def value_keys(targets: Sequence[str]) -> dict[str, str]:
    """Name of each property → its key in files: "value", or "value_<name>" of several."""
    return {name: "value" if len(targets) == 1 else f"value_{name}" for name in targets}


def known_values(structure: Structure, scales: Sequence[TargetScale]) -> dict[str, float]:
    """The properties that a structure has, of classes the places.

    Raises:
        ReferencesError: a label is of another kind, or an unknown class.
    """
    return {s.name: s.known(structure) for s in scales if s.name in structure.targets}


def _stacked(values: Sequence[Any]) -> np.ndarray:
    """Numbers or arrays of one shape as one array; NaN for None."""
    shape = next(np.shape(value) for value in values if value is not None)
    return np.array([np.full(shape, np.nan) if v is None else v for v in values], float)
