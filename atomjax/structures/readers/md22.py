"""MD22: ``md22_<molecule>.npz`` or ``.xyz``, molecular dynamics of seven large molecules.

In kcal/mol and Å, which sGDML writes as ``e_unit`` and ``r_unit``: ``z`` [N], ``R`` [n, N, 3],
``E`` [n] or [n, 1] and ``F`` [n, N, 3], or the same as extended XYZ frames. How many frames are
trained on is part of the benchmark (Chmiela et al., Sci. Adv. 9, eadf0873, 2023, Table 1).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from atomjax.structures.readers.format import LABEL_KEYS, Format
from atomjax.structures.readers.general.extxyz import frame_size, parse_frame
from atomjax.structures.readers.layouts.atoms import structure_from_atoms
from atomjax.structures.readers.layouts.conformations import Layout
from atomjax.structures.readers.layouts.npz_members import open_arrays
from atomjax.structures.readers.layouts.npz_trajectory import NpzTrajectory
from atomjax.structures.readers.layouts.records import ReadError, ReadOptions
from atomjax.structures.readers.layouts.stated_units import record_units, with_stated_units
from atomjax.structures.readers.layouts.structure_file import StructureFile, shuffled
from atomjax.structures.structure import Structure

NAMES = Layout("z", "R", "E", "F")
# Arrays that state a unit.
UNITS = {"e_unit": "energy_unit", "r_unit": "length_unit"}
TRAIN_SIZES = {
    "Ac-Ala3-NHMe": 6000,
    "DHA": 8000,
    "stachyose": 8000,
    "AT-AT": 3000,
    "AT-AT-CG-CG": 2000,
    "buckyball-catcher": 600,
    "double-walled_nanotube": 800,
}


@dataclass(frozen=True, kw_only=True)
class Md22Options(ReadOptions):
    """Options of MD22.

    Attributes:
        molecule: one of `TRAIN_SIZES`; None takes it from the file's name.
        train_size: frames to train and validate on; None takes the benchmark's number.
        validation_share: fraction of those that is validated on; JMP: 5 %.
        split_seed: seed of the shuffle; JMP's.
    """

    energy_unit: str = "kcal/mol"
    molecule: str | None = None
    train_size: int | None = None
    validation_share: float = 0.05
    split_seed: int = 42


class Md22Molecule(StructureFile):
    """The frames of one molecule, divided as in the benchmark."""

    options: Md22Options
    molecule: str

    def _split(self, name: str) -> np.ndarray:
        total = self.options.train_size or TRAIN_SIZES.get(self.molecule)
        if total is None:
            raise ReadError(
                f"{self.path}: how many frames of {self.molecule!r} to train on is not known; set"
                f" molecule= to one of {', '.join(TRAIN_SIZES)}, or train_size="
            )
        validation = int(total * self.options.validation_share)
        sizes = {"train": total - validation, "validation": validation, "test": None}
        return self._cut(shuffled(self._count(), self.options.split_seed), sizes, name)


class Md22File(Md22Molecule, NpzTrajectory):
    """The frames in an ``.npz`` file."""


class Md22Frames(Md22Molecule):
    """The frames in an extended XYZ file; only their places are kept in memory."""

    def __init__(self, path: Path, options: Md22Options, molecule: str) -> None:
        super().__init__(path, options)
        self.molecule = molecule
        self._starts = _frame_starts(path)
        if len(self._starts) < 2:
            raise ReadError(f"{path}: holds no frame")
        if options.energy_key is None:
            self._frame_options = replace(options, energy_key=self._energy_name())
        else:
            self._frame_options = options

    def _energy_name(self) -> str:
        """Key of the energy in the frames: sGDML writes "Energy", ASE "energy"."""
        comment = self._lines(0)[1]
        for name in ("Energy", "energy"):
            if f"{name}=" in comment:
                return name
        raise ReadError(
            f"{self.path}: frame 0 has no energy=; give energy_key=, its name, or energy_key=''"
        )

    def _lines(self, record: int) -> list[str]:
        start, end = int(self._starts[record]), int(self._starts[record + 1])
        with self.path.open("rb") as file:
            file.seek(start)
            lines = file.read(end - start).decode(errors="replace").splitlines(keepends=True)
        return lines + [""] * (frame_size(lines[0], record, self.path, end) + 2 - len(lines))

    def _count(self) -> int:
        return len(self._starts) - 1

    def _structure(self, record: int) -> Structure:
        atoms = parse_frame(self._lines(record))
        values = {**atoms.info, "class_key": self.molecule}
        options, identifier = self._frame_options, self._identifier(record)
        return structure_from_atoms(atoms, options, values, identifier, self.path.stem)


def _frame_starts(path: Path) -> np.ndarray:
    """[n + 1], byte at which each frame begins, and the end of the file."""
    starts, place, whole = [], 0, path.stat().st_size
    with path.open("rb") as file:
        while line := file.readline():
            if line.strip():
                starts.append(place)
                size = frame_size(line, len(starts) - 1, path, whole)
                place += sum(len(file.readline()) for _ in range(size + 1))
            place += len(line)
    return np.array([*starts, place])


def _molecule(path: Path, options: Md22Options) -> str:
    name = options.molecule or path.stem.removeprefix("md22_")
    folded = {known.lower().replace("_", "-"): known for known in TRAIN_SIZES}
    return folded.get(name.lower().replace("_", "-"), name)


def records(path: Path, options: Md22Options) -> StructureFile:
    """Opens the file of one molecule."""
    molecule = _molecule(path, options)
    if path.suffix == ".npz":
        stated = open_arrays(path, (), where_there=tuple(UNITS))
        texts = record_units({UNITS[n]: a.item() for n, a in stated.items() if a.size == 1})
        options = with_stated_units(options, texts, path)
        return Md22File(path, options, NAMES, molecule)
    return Md22Frames(path, options, molecule)


FORMAT = Format(
    name="md22",
    files="`md22_<molecule>.npz` or `.xyz`",
    about="class: molecule; official numbers, JMP's shuffle",
    citation="Chmiela et al., Sci. Adv. 9, eadf0873 (2023)",
    records=records,
    options=Md22Options,
    keys=LABEL_KEYS,
    energy_unit="kcal/mol",
    length_unit="Å",
    energy_kinds=("total",),
    trajectory=True,
    splits="parts",
)
