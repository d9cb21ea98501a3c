"""Properties of structures in the units that a model learns, and back.

A number is learnt less its mean, in units of its spread; of classes their probabilities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from atomjax.structures.element_fit import (
    NOTHING,
    SMALLEST_SCALE,
    TABLE_SIZE,
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
    """

    name: str  # key into `Structure.targets`
    mean: float  # mean of t(y)
    std: float  # standard deviation of t(y)
    # [119] in the target's unit; zero unless the target grows with the atoms (energies, enthalpies)
    # and was fitted so.
    element_values: np.ndarray
    seen: np.ndarray  # [119] bool, elements in the fit
    transform: Transform = "identity"  # t, "identity" or "log" (natural)
    # [k, 119] as of `References`; none unless elements' shares were fitted.
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

    @classmethod
    def unscaled(cls, name: str) -> Self:
        """The scale of a model whose unit is the target's."""
        return cls(name, 0.0, 1.0, np.zeros(TABLE_SIZE), np.zeros(TABLE_SIZE, dtype=bool))

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

    def check_elements(self, atomic_numbers: ArrayLike) -> None:
        """Raise ReferencesError for an element of [N] whose share is unknown."""
        self._share(atomic_numbers)

    def known(self, structure: Structure) -> float:
        """The structure's label in the form of results: its target.

        Raises:
            ReferencesError: the target is missing, or no number.
        """
        return float(_transformed(structure, self.name, "identity"))

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
        """The inverse of `to_dict`; raises ReferencesError where a field is missing or wrong."""
        # Checkpoints of before there were transforms, or the span was kept, name none.
        values = {"transform": "identity", "undetermined": [], **values}
        fields = ("name", "mean", "std", "element_values", "transform", "undetermined")
        check_fields(values, fields)
        check_scales(values, ("std",))
        elements, seen = from_symbols(values["element_values"])
        name, mean, std = str(values["name"]), float(values["mean"]), float(values["std"])
        directions = from_directions(values["undetermined"])
        return cls(name, mean, std, elements, seen, values["transform"], directions)


@dataclass(frozen=True, eq=False)
class ClassLabels:
    """The classes of one target, of which a model gives a score each."""

    name: str  # key into `Structure.targets`
    # Names of the classes, in the order of the scores; an integer's is its digits.
    classes: tuple[str, ...]
    weights: tuple[float, ...]  # weight of each class in the loss
    undetermined: np.ndarray = field(default_factory=lambda: NOTHING)

    @classmethod
    def fit(
        cls,
        structures: Sequence[Structure],
        name: str,
        *,
        classes: Sequence[str] = (),
        weights: Mapping[str, float] | Literal["balanced"] | None = None,
    ) -> Self:
        """Fit on the target `name` of the structures that have it.

        Args:
            structures: the training set.
            name: key into `Structure.targets`.
            classes: names of the classes, in their order; those that occur if there are none, the
                numbers among them first, by size.
            weights: class → weight, 1 where left out; or "balanced", number of structures over
                number of classes times that of structures of the class.

        Raises:
            ReferencesError: no structure has the target, one has a class that is not among
                `classes`, there are fewer than two, or weights are of other classes.
        """
        structures = labelled(structures, name)
        labels = [class_of(structure, name) for structure in structures]
        known = tuple(classes) or tuple(sorted(set(labels), key=_class_order))
        if len(known) < 2:
            raise ReferencesError(f"all structures have the class {labels[0]!r} as {name!r}")
        every = cls(name, known, (1.0,) * len(known))
        places = [every.normalize(structure) for structure in structures]
        counts = np.bincount(np.array(places, dtype=np.int64), minlength=len(known))
        if weights == "balanced":
            if not counts.all():
                absent = ", ".join(c for c, n in zip(known, counts, strict=True) if not n)
                raise ReferencesError(
                    f"no training structure has the class {absent} as {name!r}, so that no weight "
                    "balances it; give the weights, or leave the class out"
                )
            balanced = counts.sum() / (len(known) * counts)
            return cls(name, known, tuple(balanced.tolist()))
        given = dict(weights or {})
        if unknown := [c for c in given if c not in known]:
            raise ReferencesError(
                f"class_weights of {name!r} name {', '.join(unknown)}; its classes are "
                f"{', '.join(known)}"
            )
        return cls(name, known, tuple(float(given.get(c, 1.0)) for c in known))

    def normalize(self, structure: Structure) -> float:
        """Place of a structure's class among the classes.

        Raises:
            ReferencesError: the target is missing, no class, or not one of these.
        """
        found = class_of(structure, self.name)
        if found not in self.classes:
            raise ReferencesError(
                f"{structure!r}: {self.name!r} is {found!r}, a class that is not among those of "
                f"the training set ({', '.join(self.classes)}); leave such structures out, or put "
                "some into the training set"
            )
        return float(self.classes.index(found))

    def value(self, atomic_numbers: ArrayLike, model_value: ArrayLike) -> np.ndarray:
        """Probabilities [C] of the classes, from a model's scores, at least [C]."""
        scores = np.asarray(model_value, dtype=np.float64)[: len(self.classes)]
        powers = np.exp(scores - scores.max())
        return powers / powers.sum()

    def known(self, structure: Structure) -> float:
        """The structure's label in the form of results: the place of its class."""
        return self.normalize(structure)

    def check_elements(self, atomic_numbers: ArrayLike) -> None:
        """Nothing: classes have no shares of elements."""

    def outside_span(self, atomic_numbers: ArrayLike) -> str | None:
        """None: no composition's classes are left open."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {"name": self.name, "classes": list(self.classes), "weights": list(self.weights)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; raises ReferencesError for a missing or unknown field."""
        check_fields(values, ("name", "classes", "weights"))
        classes = tuple(str(one) for one in values["classes"])
        return cls(str(values["name"]), classes, tuple(float(one) for one in values["weights"]))


TargetScale = PropertyScale | ClassLabels


def target_scale(values: Mapping[str, Any]) -> TargetScale:
    """The scale of a property from plain values, of a number or of classes."""
    return (ClassLabels if "classes" in values else PropertyScale).from_dict(values)


def class_of(structure: Structure, name: str) -> str:
    """Name of a structure's class.

    Raises:
        ReferencesError: the target is missing, or a number that is not whole.
    """
    value = _target(structure, name)
    if isinstance(value, str):
        return value
    if value != int(value):
        raise ReferencesError(
            f"{structure!r}: {name!r} is {value:g}; a class is a text or an integer"
        )
    return str(int(value))


def _class_order(name: str) -> tuple[int, float, str]:
    """Integers by size, then texts."""
    is_number = name.removeprefix("-").isdigit()
    return (0, float(name), "") if is_number else (1, 0.0, name)


def _transformed(structure: Structure, name: str, transform: Transform) -> float:
    value = _target(structure, name)
    if isinstance(value, str):
        raise ReferencesError(
            f"{structure!r}: target {name!r} is the text {value!r}; a property that is a class has "
            'kind="class"'
        )
    if transform == "identity":
        return value
    if value <= 0.0:
        raise ReferencesError(
            f"{structure!r}: target {name!r} is {value:g}, which has no logarithm; leave the "
            'structure out, or use transform="identity"'
        )
    return float(np.log(value))


def labelled(structures: Sequence[Structure], name: str) -> Sequence[Structure]:
    """The structures that have a target; where all have it they themselves, which may be on disk.

    Raises:
        ReferencesError: there is none.
    """
    given = [name in structure.targets for structure in structures]
    found = structures
    if not all(given):
        found = [structures[i] for i, has_it in enumerate(given) if has_it]
    if not found:
        known = sorted({key for structure in structures for key in structure.targets})
        raise ReferencesError(
            f"none of the {len(structures)} structures has a target {name!r}"
            + (f", such as {structures[0]!r}" if structures else "")
            + f"; they have: {', '.join(known) or 'none'}"
        )
    return found


def _target(structure: Structure, name: str) -> float | str:
    try:
        return structure.targets[name]
    except KeyError:
        known = ", ".join(sorted(structure.targets)) or "none"
        raise ReferencesError(f"{structure!r} has no target {name!r}; it has: {known}") from None
