"""Properties of structures in the units that a model learns, and back.

A number is learnt less its mean, in units of its spread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from atomjax.structures.element_fit import (
    NOTHING,
    SMALLEST_SCALE,
    fit_elements,
    outside_span,
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

Transform = Literal["identity", "log"]


@dataclass(frozen=True, eq=False)
class PropertyScale:
    """Mean and standard deviation of one scalar target, with shares of elements if requested.

    model value = (t(y) - Σ element_values[Z] - mean) / std, t the identity or the logarithm.

    Attributes:
        name: key into `Structure.targets`.
        mean: mean of t(y).
        std: standard deviation of t(y).
        element_values: [119] in the target's unit; zero unless the target grows with the atoms
            (energies, enthalpies) and was fitted so.
        seen: [119] bool, elements in the fit.
        transform: t, "identity" or "log" (natural).
        undetermined: [k, 119] as of `References`; none unless elements' shares were fitted.
    """

    name: str
    mean: float
    std: float
    element_values: np.ndarray
    seen: np.ndarray
    transform: Transform = "identity"
    undetermined: np.ndarray = field(default_factory=lambda: NOTHING)

    @classmethod
    def fit(
        cls,
        structures: Sequence[Structure],
        name: str,
        *,
        extensive: bool = False,
        transform: Transform = "identity",
        centered: bool = True,
    ) -> Self:
        """Fit on the target `name` of the structures that have it.

        Args:
            structures: the training set.
            name: key into `Structure.targets`.
            extensive: the target grows with the atoms, so take out each element's share first.
            transform: transform of the target before everything else.
            centered: take out the mean; otherwise it stays, and the scale is the root mean
                square: for models whose form fixes where zero is, such as a dipole's length.

        Raises:
            ReferencesError: no structure has the target, or one has a value without a logarithm.
        """
        structures = labelled(structures, name)
        values = np.asarray([_transformed(structure, name, transform) for structure in structures])
        fitted = fit_elements(structures, values if extensive else np.zeros(len(values)))
        if extensive:
            warn_undetermined(fitted.undetermined)
            shares = (fitted.values, fitted.seen, transform, fitted.undetermined)
            return cls(name, 0.0, fitted.residual_scale, *shares)
        if not centered:
            size = max(float(np.sqrt(np.mean(values**2))), SMALLEST_SCALE)
            return cls(name, 0.0, size, fitted.values, fitted.seen, transform)
        spread = max(float(values.std()), SMALLEST_SCALE) if len(values) > 1 else 1.0
        return cls(name, float(values.mean()), spread, fitted.values, fitted.seen, transform)

    def normalize(self, structure: Structure) -> float:
        """A structure's target in the model's unit.

        Raises:
            ReferencesError: the target is missing, or its elements' shares are unknown.
        """
        share = self._share(structure.atomic_numbers)
        value = _transformed(structure, self.name, self.transform)
        return (value - share - self.mean) / self.std

    def value(self, atomic_numbers: ArrayLike, model_value: float) -> float:
        """A predicted value in the target's unit, for one structure with `atomic_numbers` [N]."""
        value = float(model_value) * self.std + self.mean + self._share(atomic_numbers)
        return float(np.exp(value)) if self.transform == "log" else value

    def outside_span(self, atomic_numbers: ArrayLike) -> str | None:
        """Message for a composition [N] whose value the fit leaves open; None for others."""
        return outside_span(self.undetermined, atomic_numbers)

    def _share(self, atomic_numbers: ArrayLike) -> float:
        if not self.element_values.any():
            return 0.0
        numbers = np.asarray(atomic_numbers, dtype=np.int64)
        check_seen(numbers, self.seen)
        return float(self.element_values[numbers].sum())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file; elements by symbol."""
        elements = by_symbol(self.element_values, self.seen)
        return {
            "name": self.name,
            "mean": self.mean,
            "std": self.std,
            "element_values": elements,
            "transform": self.transform,
            "undetermined": to_directions(self.undetermined),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ReferencesError: a field is missing or unknown, or the deviation is not positive.
        """
        # Checkpoints of before there were transforms, or the span was kept, name none.
        values = {"transform": "identity", "undetermined": [], **values}
        fields = ("name", "mean", "std", "element_values", "transform", "undetermined")
        check_fields(values, fields)
        check_scales(values, ("std",))
        elements, seen = from_symbols(values["element_values"])
        name, mean, std = str(values["name"]), float(values["mean"]), float(values["std"])
        directions = from_directions(values["undetermined"])
        return cls(name, mean, std, elements, seen, values["transform"], directions)


def _transformed(structure: Structure, name: str, transform: Transform) -> float:
    value = _target(structure, name)
    if transform == "identity":
        return value
    if value <= 0.0:
        raise ReferencesError(
            f"{structure!r}: target {name!r} is {value:g}, which has no logarithm; leave the "
            'structure out, or use transform="identity"'
        )
    return float(np.log(value))


def labelled(structures: Sequence[Structure], name: str) -> list[Structure]:
    """The structures that have a target.

    Raises:
        ReferencesError: there is none.
    """
    found = [structure for structure in structures if name in structure.targets]
    if not found:
        known = sorted({key for structure in structures for key in structure.targets})
        raise ReferencesError(
            f"none of the {len(structures)} structures has a target {name!r}"
            + (f", such as {structures[0]!r}" if structures else "")
            + f"; they have: {', '.join(known) or 'none'}"
        )
    return found


def _target(structure: Structure, name: str) -> float:
    try:
        return structure.targets[name]
    except KeyError:
        known = ", ".join(sorted(structure.targets)) or "none"
        raise ReferencesError(f"{structure!r} has no target {name!r}; it has: {known}") from None
