"""Options and errors of all readers: declared units, choice of labels, damaged records."""

import csv
import functools
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import ArrayLike

from atomjax.runtime.files import PARSE_ERRORS
from atomjax.structures import units
from atomjax.structures.readers.layouts.label_keys import (
    RecordNotes,
    array_of,
    describe_empty,
    kind_of_name,
)
from atomjax.structures.states import STATES
from atomjax.structures.structure import Structure

# Errors that parsing a damaged record may raise, whatever library parses it.
RECORD_ERRORS = (*PARSE_ERRORS, csv.Error, sqlite3.Error)


class ReadError(ValueError):
    """A file or record that cannot be read; the message names the file and the record."""


class EmptyRecord(ReadError):
    """A record without atoms, which is left out and counted whatever ``on_error`` says."""


class SkippedRecordsWarning(UserWarning):
    """Records were left out: damaged ones on request, and those without atoms."""


@dataclass(frozen=True)
class SkippedRecord:
    """One record that ``on_error="skip"`` left out.

    Attributes:
        identifier: file and record, such as ``run.xyz:17``.
        reason: reason why it was left out.
    """

    identifier: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options for reading labels from the numbers in a file.

    Attributes:
        energy_unit: unit of energies, such as "eV", "Ha", "kcal/mol"; None takes the unit that the
            file states, and eV where it states none.
        length_unit: unit of positions and cells, such as "Å", "bohr"; None likewise, and Å.
        force_unit: unit of forces, such as "Ha/bohr"; None means energy_unit / length_unit.
        energy_key: the name under which energies are stored, None for the format's own; "" gives
            no energies.
        forces_key: the same for forces.
        gradients_key: the same for gradients dE/dx, whose negatives are the forces.
        stress_key: the same for stresses, which count where all three directions repeat.
        virial_key: the same for virials (energy unit), from which the stress is -virial / V.
        stress_unit: unit of stresses, such as "GPa"; None means energy_unit / length_unit³.
        targets: the scalar properties to keep, each record must have them; None keeps those
            present. Charges and spins are kept where they are present.
        classes: the targets that are classes: texts, truth values (0 and 1) or integers, kept where
            a record has them. Texts and truth values under other names are no targets.
        target_units: energy units of some targets; these are converted to eV, others are kept as
            stored.
        use_tags: False forgets the file's tags: all atoms then have tag 2.
        split: part of the data set to read, for formats that have splits; None reads all.
        source: data set name of the structures; empty means the file's name.
        notes: takes the contents of the records beside the labels read.
    """

    energy_unit: str | None = None
    length_unit: str | None = None
    force_unit: str | None = None
    energy_key: str | None = None
    forces_key: str | None = None
    gradients_key: str | None = None
    stress_key: str | None = None
    virial_key: str | None = None
    stress_unit: str | None = None
    targets: Sequence[str] | None = None
    classes: Sequence[str] = ()
    target_units: Mapping[str, str] = field(default_factory=dict)
    use_tags: bool = True
    split: str | None = None
    source: str = ""
    notes: RecordNotes = field(default_factory=RecordNotes, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.use_tags, bool):
            raise ReadError(f"use_tags={self.use_tags!r}; write true or false")
        self._check_types()
        # Unknown units fail here, before the first record.
        _ = self.energy_factor, self.length_factor, self.force_factor, self.stress_factor
        for unit in self.target_units.values():
            units.energy_factor(unit)
        for key, other in (("forces_key", "gradients_key"), ("stress_key", "virial_key")):
            if getattr(self, key) and getattr(self, other):
                raise ReadError(f"{key} and {other} are both given; the label has one source")
        for key, kind, mend in (
            ("forces_key", "gradients", "forces are their negative: write gradients_key="),
            ("stress_key", "virial", "stresses are -virial / V: write virial_key="),
        ):
            name = getattr(self, key)
            if name and kind_of_name(name) == kind:
                raise ReadError(f"{key}={name!r} names {kind}, and {mend}{name!r} instead")

    def _check_types(self) -> None:
        """Raise for values of another type, which fail far from here, or are letters one by one."""
        for name in vars(self):
            value = getattr(self, name)
            is_text = name.endswith(("_unit", "_key")) and value is not None
            if is_text and not isinstance(value, str):
                raise ReadError(f"{name}={value!r}: write text, such as {name}='…', or None")
        for name in ("targets", "classes"):
            if isinstance(value := getattr(self, name), str):
                raise ReadError(f"{name}={value!r}: write a list, [{value!r}]")
        for name, choices in _choices(type(self)).items():
            if (value := getattr(self, name)) not in choices:
                listed = ", ".join(str(choice) for choice in choices if choice is not None)
                raise ReadError(f"{name}={value!r}; write one of {listed}")
        if not isinstance(self.target_units, Mapping):
            raise ReadError(
                f"target_units={self.target_units!r}: write the unit of each, {{'gap': 'eV'}}"
            )

    @property
    def energy_factor(self) -> float:
        """Size in eV of the energy unit."""
        return units.energy_factor(self.energy_unit or "eV")

    @property
    def length_factor(self) -> float:
        """Size in Å of the length unit."""
        return units.length_factor(self.length_unit or "Å")

    @property
    def force_factor(self) -> float:
        """Size in eV/Å of the force unit."""
        if self.force_unit is None:
            return self.energy_factor / self.length_factor
        return units.force_factor(self.force_unit)

    @property
    def stress_factor(self) -> float:
        """Size in eV/Å³ of the stress unit."""
        if self.stress_unit is None:
            return self.energy_factor / self.length_factor**3
        return units.stress_factor(self.stress_unit)

    def convert_targets(self, values: Mapping[str, Any]) -> dict[str, float | str]:
        """The chosen targets out of a record's `values`, energies among them in eV.

        Raises:
            ReadError: a target that was asked for is missing.
        """
        scalars = {n: scalar(value) for n, value in values.items() if n not in self.classes}
        known = {name: value for name, value in scalars.items() if value is not None}
        # A target that was not requested may be missing, and a NaN marks it as missing.
        finite = [name for name, value in known.items() if np.isfinite(value)]
        states = [name for name in STATES if name in finite]
        asked = finite if self.targets is None else list(dict.fromkeys([*self.targets, *states]))
        asked += [name for name in self.target_units if name not in asked]
        classes = self._classes(values)
        missing = [name for name in asked if name not in known and name not in classes]
        if missing:
            raise ReadError(
                f"no target {', '.join(missing)}; this record has: {', '.join(known) or 'none'}"
            )
        factors = {name: units.energy_factor(unit) for name, unit in self.target_units.items()}
        numbers = [name for name in asked if name not in classes]
        return {name: known[name] * factors.get(name, 1.0) for name in numbers} | classes

    def _classes(self, values: Mapping[str, Any]) -> dict[str, float | str]:
        """The targets that are classes, of the values of a record.

        Raises:
            ReadError: a class is neither a text, a truth value nor a number.
        """
        found: dict[str, float | str] = {}
        for name in self.classes:
            value = values.get(name)
            if value is None or (isinstance(value, str) and not value.strip()):
                continue
            array = array_of(value)
            if array.size != 1 or array.dtype.kind not in "biufU":
                shown = str(value)[:40]
                raise ReadError(f"the class {name!r} is {shown!r}; write a text or an integer")
            one = array.reshape(()).item()
            found[name] = one if isinstance(one, str) else float(one)
        return {name: v for name, v in found.items() if isinstance(v, str) or np.isfinite(v)}

    def structure(
        self,
        *,
        atomic_numbers: ArrayLike,
        positions: np.ndarray,
        cell: np.ndarray | None = None,
        pbc: ArrayLike = False,
        tags: np.ndarray | None = None,
        energy: float | None = None,
        forces: np.ndarray | None = None,
        stress: np.ndarray | None = None,
        virial: np.ndarray | None = None,
        targets: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Structure:
        """A structure from numbers in the file's units, without labels that are declined.

        A virial stands for its stress; of the targets those are taken that are chosen.

        Raises:
            ReadError: a target that was asked for is missing.
        """
        chosen = self.convert_targets(targets or {})
        if not np.size(atomic_numbers):
            raise EmptyRecord("there are no atoms")
        if self.energy_key == "":
            energy = None
        if self.forces_key == "" and not self.gradients_key:
            forces = None
        # All zero is how ASE writes that nobody set tags.
        tagged = tags is not None and self.use_tags and bool(np.any(tags))
        stress = None if stress is None else np.asarray(stress) * self.stress_factor
        if virial is not None:
            lattice = np.asarray(cell, dtype=np.float64) * self.length_factor
            stress = -np.asarray(virial) * self.energy_factor / abs(np.linalg.det(lattice))
        structure = Structure(
            atomic_numbers=atomic_numbers,
            positions=np.asarray(positions, dtype=np.float64) * self.length_factor,
            cell=None if cell is None else np.asarray(cell) * self.length_factor,
            pbc=pbc,
            tags=tags if tagged else None,
            energy=None if energy is None else float(energy) * self.energy_factor,
            forces=None if forces is None else np.asarray(forces) * self.force_factor,
            stress=stress,
            targets=chosen,
            **fields,
        )
        if structure.stress is not None:
            volumeless = self.energy_factor / self.stress_factor
            self.notes.note_stress(structure, volumeless, virial=virial is not None)
        return structure


@functools.cache
def _choices(options: type[ReadOptions]) -> dict[str, tuple[Any, ...]]:
    """Option → its choices, of those whose type is a Literal."""
    hints = get_type_hints(options).items()
    return {name: get_args(hint) for name, hint in hints if get_origin(hint) is Literal}


def scalar(value: Any) -> float | None:
    """The number that `value` holds, or None where it holds anything else."""
    array = array_of(value)
    if array.size != 1 or array.dtype.kind not in "fiu":
        return None
    return float(array.reshape(()))


def structures_from(
    records: Iterable[tuple[str, Callable[[], Structure]]],
    on_error: Literal["raise", "skip"],
    skipped: list[SkippedRecord],
    notes: RecordNotes,
) -> Iterator[Structure]:
    """Parse records one by one.

    Args:
        records: identifier of each, and a function for its structure.
        on_error: treatment of a record that fails.
        skipped: takes the records that were left out.
        notes: takes the number of records without atoms.

    Raises:
        ReadError: a record fails and `on_error` is "raise".
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error={on_error!r}; write 'raise' or 'skip'")
    for identifier, parse in records:
        try:
            structure = parse()
        except EmptyRecord:
            notes.empty += 1
        except RECORD_ERRORS as error:
            if on_error == "raise":
                raise failure(identifier, error) from error
            skipped.append(SkippedRecord(identifier, _reason(identifier, error)))
        else:
            yield structure


def failure(identifier: str, error: Exception, *, skippable: bool = True) -> ReadError:
    """The error to raise for a record that could not be parsed."""
    mend = ' (on_error="skip" leaves such records out and counts them)' if skippable else ""
    return ReadError(f"{identifier}: {_reason(identifier, error)}{mend}")


def _reason(identifier: str, error: Exception) -> str:
    text = str(error)
    # The words of these are Python's, not a reader's.
    if not text or isinstance(error, KeyError | TypeError | AttributeError | AssertionError):
        said = f"{type(error).__name__}: {text}".rstrip(": ")
        text = f"cannot be parsed ({said}); the record is damaged or of another layout"
    # Structures name themselves in their errors, some in more detail than the record.
    if text.startswith(identifier):
        return text[len(identifier) :].partition(": ")[2] or text
    return text


def warn_of_skipped(path: str, skipped: Sequence[SkippedRecord], kept: int, empty: int = 0) -> None:
    """Say how many records were left out, and why the first of them were."""
    if skipped:
        shown = "; ".join(f"{record.identifier}: {record.reason}" for record in skipped[:3])
        more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        warnings.warn(
            f"{path}: {len(skipped)} of {len(skipped) + kept} records left out ({shown}{more})",
            SkippedRecordsWarning,
            stacklevel=3,
        )
    if empty:
        warnings.warn(f"{path}: {describe_empty(empty)}", SkippedRecordsWarning, stacklevel=3)
