"""Keys of records that look like a label or a cell and are not read as one.

Programs and groups spell their labels differently (``Energy``, ``REF_energy``, ``dft_virial``), and
a spelling that is not asked for would leave a structure without its label in silence.
"""

import difflib
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress

from atomjax.structures.readers.checks.stress_work import StressWork
from atomjax.structures.structure import Structure

# Stems of a label's names, and the reader's option for its key; an energy gradient is a gradient.
STEMS = {
    "gradients": ("gradients", "gradient", "grad", "grads"),
    "energy": ("energy", "energies", "etot", "toten", "toteng", "epot", "poteng", "etotal"),
    "forces": ("forces", "force", "frc"),
    "stress": ("stress", "stresses", "sigma"),
    "virial": ("virial", "virials"),
}
LETTERS = {"E": "energy", "F": "forces"}
# Names without underscores that may mean something else where the label itself is there: U0 and E0
# beside an energy.
FAINT = {
    **dict.fromkeys(("E0", "U0", "u0", "U", "e"), "energy"),
    **dict.fromkeys(("dEdR", "dEdr", "dEdX", "dEdx"), "gradients"),
    "f": "forces",
}
OPTIONS = {
    "energy": "energy_key",
    "forces": "forces_key",
    "gradients": "gradients_key",
    "stress": "stress_key",
    "virial": "virial_key",
}
CELL_STEMS = frozenset(
    "lattice cell unitcell supercell box latticevectors cellvectors boxvectors latticeparameters"
    " cellparameters cellpar celllengths boxlengths boxsize latticevector latt simbox pbcbox"
    " boxmatrix cellmatrix latticematrix hmat hmatrix cryst1".split()
)
CELL_PARAMETERS = frozenset(("a", "b", "c", "alpha", "beta", "gamma"))
# Words that do not change the kind: REF_energy is an energy, formation_energy another quantity.
QUALIFIERS = frozenset(
    "ref reference dft qm true target label total tot free potential pot electronic corrected"
    " xtb vasp pbe scf final abinitio".split()
)
# The largest stress (eV/Å³, 160 GPa), and work of it (eV an atom for a strain of one), that are not
# questioned: virials exceed the first in large cells, and the second in sparse ones.
LARGE_STRESS = 1.0
LARGE_WORK = 20.0


class UnusedKeysWarning(UserWarning):
    """Records hold likely labels that are not read; the message counts and names them."""


@dataclass
class RecordNotes:
    """Keys, suspect labels and units found in the records of a file, beside the labels read.

    Attributes:
        held: key → number of records that hold it.
        unused: (kind, key) → number of records in which it looks like a label that is not read.
        large_stresses: number of records whose stress exceeds `LARGE_STRESS` or `LARGE_WORK`.
        stress_work: comparison of the stresses with the energies.
        empty: number of records without atoms, which are left out.
        units: "energy_unit", "length_unit" and "force_unit", those that the file states.
    """

    held: Counter[str] = field(default_factory=Counter)
    unused: Counter[tuple[str, str]] = field(default_factory=Counter)
    large_stresses: int = 0
    stress_work: StressWork = field(default_factory=StressWork, compare=False)
    empty: int = 0
    units: dict[str, str] = field(default_factory=dict)

    def clear(self) -> None:
        """Reset all counts."""
        self.held.clear()
        self.unused.clear()
        self.large_stresses = self.empty = 0
        self.stress_work = StressWork()

    def note_stress(self, structure: Structure, volumeless: float, *, virial: bool) -> None:
        """Note what a record's stress says of the file's.

        Args:
            structure: the record, with a stress.
            volumeless: value in eV of a number that was read as 1 eV/Å³.
            virial: the stress was read as a virial.
        """
        assert structure.stress is not None
        largest = float(np.max(np.abs(structure.stress)))
        work = largest * abs(np.linalg.det(structure.cell)) / len(structure)
        self.large_stresses += bool(not virial and (largest > LARGE_STRESS or work > LARGE_WORK))
        self.stress_work.add(structure, volumeless)

    def merge(self, values: Mapping[str, Any]) -> None:
        """Add the counts of other notes, given their `to_dict`."""
        self.held.update(values["held"])
        self.unused.update({(kind, key): count for kind, key, count in values["unused"]})
        self.large_stresses += values["large_stresses"]
        # Stores of before know of neither.
        self.empty += values.get("empty", 0)
        self.stress_work.merge(values.get("stress_work", StressWork().to_list()))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        unused = [[kind, key, count] for (kind, key), count in sorted(self.unused.items())]
        held = {str(key): count for key, count in sorted(self.held.items())}
        counts = {"large_stresses": self.large_stresses, "empty": self.empty}
        work = {"stress_work": self.stress_work.to_list()}
        return {"held": held, "unused": unused, **counts, **work}

    def lines(self) -> list[str]:
        """Findings that a user of the file should know, one line each."""
        empty = [describe_empty(self.empty)] if self.empty else []
        return [*empty, *self._label_lines()]

    def _label_lines(self) -> list[str]:
        lines = []
        for (kind, key), count in sorted(self.unused.items()):
            lines.append(
                f"{count:,} records hold {key!r}, which looks like {_named(kind)} and is not read;"
                f" {OPTIONS[kind]}={key!r} reads it, and naming the key that is meant, or '' for"
                " none, ends this warning"
            )
        if self.large_stresses:
            lines.append(
                f"the stresses of {self.large_stresses:,} records exceed {LARGE_STRESS:g} eV/Å³"
                f" (160 GPa), or times the volume {LARGE_WORK:g} eV an atom; if they are virials,"
                " virial_key= reads them as -virial/V; if not, check stress_unit"
            )
        if (finding := self.stress_work.finding()) is not None:
            lines.append(finding)
        return lines

    def warn(self, path: str) -> None:
        """Warn of labels that are not read or suspect, once for the file."""
        if lines := self._label_lines():
            warnings.warn(f"{path}: {'; '.join(lines)}", UnusedKeysWarning, stacklevel=3)


def describe_empty(count: int) -> str:
    """Number of records without atoms, in words."""
    return f"{count:,} records without atoms left out"


def likely_keys(kind: str, keys: Iterable[str]) -> list[str]:
    """Those of `keys` that could be meant by a kind of label, the likeliest first."""
    kinds = {"forces": ("forces", "gradients"), "stress": ("stress", "virial")}.get(kind, (kind,))
    found = [key for key in keys if kind_of_name(key) in kinds]
    return sorted(found, key=lambda key: (not _is_plain(key), key))


def describe_keys(kind: str, keys: Iterable[str]) -> str:
    """Keys that records hold, and the one likely meant by a kind of label, in words."""
    held = sorted(keys)
    listed = ", ".join(held) or "nothing"
    near = likely_keys(kind, held) or difflib.get_close_matches(kind, held, n=1)
    if not near:
        return f"the records hold: {listed}"
    option = OPTIONS[kind_of_name(near[0]) or kind]
    return f"the records hold: {listed}; did you mean {option}={near[0]!r}?"


def kind_of_name(key: str) -> str | None:
    """The kind of label that a key's name stands for, one of `STEMS`, or None."""
    joined = key.replace("_", "")
    if key in LETTERS or joined in FAINT:
        return LETTERS.get(key) or FAINT[joined]
    words = _words(key)
    if (letter := _letter(words)) is not None:
        return LETTERS[letter]
    for kind, stems in STEMS.items():
        if any(word in stems for word in words) or key.lower().endswith(stems):
            return kind
    return None


def is_cell_name(key: str) -> bool:
    """Check whether a key's name stands for lattice vectors, or their lengths and angles."""
    return "".join(word for word in _words(key) if word not in QUALIFIERS) in CELL_STEMS


def note_unused(
    notes: RecordNotes,
    held: Mapping[str, Any],
    read: Mapping[str, Any],
    wanted: Iterable[str],
    count: int,
    volume: float,
) -> None:
    """Count the keys of one record that look like a label and are not read.

    Args:
        notes: takes the counts.
        held: everything that the record holds, in the file's units.
        read: kind → the value that is read as this label, None where there is none.
        wanted: the kinds that are looked for under the format's own keys.
        count: number of atoms.
        volume: volume of the cell, in the file's unit; zero where not all directions repeat.
    """
    kinds = set(wanted)
    for key, value in held.items():
        kind = kind_of_name(key)
        label = {"gradients": "forces", "virial": "stress"}.get(kind or "", kind)
        # An entry of the label's own name is read.
        if kind is None or key == label or label not in kinds or not _has_form(label, value, count):
            continue
        if label == "stress" and volume == 0.0:
            continue
        other = read.get(label)
        known = other is not None and _same(_as_label(kind, value, volume), other)
        if known or (other is not None and not _is_plain(key)):
            continue
        notes.unused[kind, key] += 1


def _as_label(kind: str, value: Any, volume: float) -> np.ndarray:
    """A value of a kind as the label that follows from it."""
    array = np.asarray(value, dtype=np.float64)
    if array.shape == (6,):
        array = voigt_6_to_full_3x3_stress(array)
    return {"gradients": -array, "virial": -array / (volume or 1.0)}.get(kind, array)


def _same(first: np.ndarray, second: Any) -> bool:
    other = np.asarray(second, dtype=np.float64)
    if first.size != other.size:
        return False
    return bool(np.allclose(first.reshape(-1), other.reshape(-1), rtol=1e-4, atol=1e-6))


def _has_form(label: str | None, value: Any, count: int) -> bool:
    """Check whether a value has the shape and content of a label of `count` atoms."""
    array = array_of(value)
    # A value that is not finite is one that was not computed.
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        return False
    if label == "energy":
        return array.size == 1
    return array.shape == (count, 3) if label == "forces" else array.size in (6, 9)


def array_of(value: Any) -> np.ndarray:
    """A value as an array; an empty one for lists of different lengths, which are none."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.zeros(0)


def _is_plain(key: str) -> bool:
    """Whether a name holds no more than the kind of label, qualifiers aside."""
    stems = {stem for kind in STEMS.values() for stem in kind}
    words = _words(key)
    plain = all(word in QUALIFIERS or word in stems for word in words)
    return key in LETTERS or plain or _letter(words) is not None


def _letter(words: list[str]) -> str | None:
    """The letter of a name such as E_total or REF_F, which is that and qualifiers."""
    rest = [word.upper() for word in words if word not in QUALIFIERS]
    return rest[0] if len(rest) == 1 < len(words) and rest[0] in LETTERS else None


def _words(key: str) -> list[str]:
    """The words of a name: dftEnergy, DFT_energy and dft-energy are all dft, energy."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", key)
    return [word for word in re.split(r"[^a-z0-9]+", apart.lower()) if word]


def _named(kind: str) -> str:
    return {"energy": "an energy", "stress": "a stress", "virial": "a virial"}.get(kind, kind)
