"""QM9: 19 properties of 134 thousand small molecules, in the three forms it is passed around in.

- a folder of ``dsgdb9nsd_<number>.xyz``, as published: atoms in Å, energies in Hartree; 3,054
  molecules that ``uncharacterized.txt`` lists fell apart when they were relaxed and are left out;
- SchNetPack's database ``qm9.db``, which states its units;
- PyTorch Geometric's ``qm9_v3.pt`` (a list) and ``data_v3.pt`` (concatenated), in eV.

Energies come out in eV, atomisation energies are the energies less those of the free atoms. Other
units stay: mu in D, alpha in a0³, r2 in a0², Cv in cal/(mol K), A, B and C in GHz
(Ramakrishnan et al., Sci. Data 1, 140022, 2014).
"""

import re
from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from atomjax.safe_pickle import PickleError, load_torch_file
from atomjax.structures.elements import atomic_number
from atomjax.structures.readers.format import Format
from atomjax.structures.readers.general.ase_db import connect, property_units, row_numbers
from atomjax.structures.readers.layouts.pyg_graphs import GRAPH_CLASSES, stored_fields
from atomjax.structures.readers.layouts.records import ReadError, ReadOptions
from atomjax.structures.readers.layouts.structure_file import PerThread, StructureFile, shuffled
from atomjax.structures.readers.qm9_properties import (
    DATABASE_NAMES,
    IN_HARTREE,
    RAW_ORDER,
    TARGETS,
    with_atomisation,
)
from atomjax.structures.structure import Structure
from atomjax.structures.units import HARTREE, energy_factor

COMPLETE = 133_885


@dataclass(frozen=True, kw_only=True)
class Qm9Options(ReadOptions):
    """Options of QM9.

    Attributes:
        uncharacterized: path of ``uncharacterized.txt``; None looks in and beside the folder, ""
            keeps those molecules. Only for forms that still have them.
        train_size, validation_size: molecules; the rest are the test part.
        division: "standard" (110,000, 10,000 and the rest), or "jmp": 10,000 each for
            validation and test and the rest for training. Both by JMP's shuffle.
        split_seed: seed of the shuffle; JMP's.
    """

    uncharacterized: Path | Literal[""] | None = None
    train_size: int | float = 110_000
    validation_size: int | float = 10_000
    division: Literal["standard", "jmp"] = "standard"
    split_seed: int = 42


class Qm9File(StructureFile):
    """The molecules of QM9 in one of its forms."""

    options: Qm9Options

    @abstractmethod
    def _molecule(self, record: int) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        """Atomic numbers [N], positions [N, 3] Å, and properties with energies in eV."""

    def _structure(self, record: int) -> Structure:
        numbers, positions, properties = self._molecule(record)
        return self.options.structure(
            atomic_numbers=numbers,
            positions=positions,
            targets=properties,
            identifier=self._identifier(record),
            source=self.options.source or self.path.stem,
        )

    def _split(self, name: str) -> np.ndarray:
        options = self.options
        sizes: dict[str, int | float | None] = {
            "train": options.train_size,
            "validation": options.validation_size,
            "test": None,
        }
        if options.division == "jmp":
            sizes = {"train": None, "validation": 10_000, "test": 10_000}
        return self._cut(shuffled(self._count(), options.split_seed), sizes, name)


def uncharacterized(path: Path, options: Qm9Options) -> frozenset[int]:
    """Numbers of the molecules to leave out, from the list published with QM9.

    Raises:
        ReadError: there is no list, or it is something else.
    """
    if options.uncharacterized == "":
        return frozenset()
    places = [path / "uncharacterized.txt", path.parent / "uncharacterized.txt"]
    if options.uncharacterized is not None:
        places = [options.uncharacterized.expanduser()]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise ReadError(
            f"{path}: no uncharacterized.txt at {' or '.join(map(str, places))}, which lists the"
            ' 3,054 molecules to leave out; set uncharacterized= to its path, or to "" to keep'
            " them"
        )
    words = [line.split() for line in file.read_text(errors="replace").splitlines()]
    numbers = frozenset(int(line[0]) for line in words if len(line) > 1 and line[0].isdigit())
    if not numbers:
        raise ReadError(f"{file}: lists no molecule; is it QM9's uncharacterized.txt?")
    return numbers


class Qm9Folder(Qm9File):
    """The published files, one a molecule, in order of their numbers."""

    def __init__(self, path: Path, options: Qm9Options) -> None:
        super().__init__(path, options)
        left_out = uncharacterized(path, options)
        found = [p.name for p in path.iterdir() if p.suffix == ".xyz"]
        numbers = {_number(path, name): name for name in found}
        self._names = [numbers[n] for n in sorted(numbers) if n not in left_out]
        if not self._names:
            raise ReadError(f"{path}: holds no file dsgdb9nsd_<number>.xyz to read")

    def _count(self) -> int:
        return len(self._names)

    def _identifier(self, record: int) -> str:
        return self._names[record]

    def _molecule(self, record: int) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        lines = (self.path / self._names[record]).read_text().splitlines()
        count = int(lines[0]) if lines and lines[0].strip().isdigit() else -1
        words = lines[1].split() if len(lines) > 1 else []
        if count < 1 or len(lines) < count + 2 or len(words) != len(RAW_ORDER) + 2:
            raise ReadError(
                "not a file of QM9: expected the number of atoms, a line of 17 values, and the"
                " atoms; it is damaged or truncated"
            )
        properties = {name: _float(word) for name, word in zip(RAW_ORDER, words[2:], strict=True)}
        atoms = [line.split() for line in lines[2 : count + 2]]
        numbers = np.array([atomic_number(atom[0]) for atom in atoms])
        positions = np.array([[_float(word) for word in atom[1:4]] for atom in atoms])
        return numbers, positions, with_atomisation(numbers, properties)


class Qm9Database(Qm9File):
    """A database of SchNetPack, in order of its rows."""

    def __init__(self, path: Path, options: Qm9Options) -> None:
        super().__init__(path, options)
        self._database = PerThread(partial(connect, path))
        units = property_units(path)
        missing = [name for name in ("homo", "energy_U0") if name not in units]
        if missing:
            raise ReadError(
                f"{path}: does not state the units of {', '.join(missing)} as SchNetPack's QM9"
                " does; read other databases with format='ase_db'"
            )
        self._factors = {
            ours: energy_factor(units[theirs])
            for theirs, ours in DATABASE_NAMES.items()
            if ours in IN_HARTREE and theirs in units
        }
        rows = row_numbers(path)
        # Complete, its rows have the numbers of the published molecules.
        left_out = uncharacterized(path, options) if len(rows) == COMPLETE else frozenset()
        self._rows = rows[~np.isin(rows, list(left_out))] if left_out else rows
        if not len(self._rows):
            raise ReadError(f"{path}: holds no molecule")

    def _count(self) -> int:
        return len(self._rows)

    def _identifier(self, record: int) -> str:
        return f"{self.path.name}:{self._rows[record]}"

    def _molecule(self, record: int) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        row = self._database.get().get(id=int(self._rows[record]))
        values = {**row.data, **row.key_value_pairs}
        properties = {
            ours: float(np.asarray(values[theirs]).reshape(()))
            for theirs, ours in DATABASE_NAMES.items()
            if theirs in values
        }
        # The energies of free atoms are in Hartree, whatever unit the database states.
        for name, factor in self._factors.items():
            if name in properties:
                properties[name] *= factor / HARTREE
        return row.numbers, row.positions, with_atomisation(row.numbers, properties)


class Qm9Tensors(Qm9File):
    """The tensors of PyTorch Geometric, which has left out the uncharacterised molecules."""

    def __init__(self, path: Path, options: Qm9Options) -> None:
        super().__init__(path, options)
        try:
            content = load_torch_file(path, GRAPH_CLASSES)
        except PickleError as error:
            raise ReadError(f"{path}: {error}") from error
        try:
            self._molecules = _listed(content) if isinstance(content, list) else _cut(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ReadError(
                f"{path}: neither a list of molecules nor PyTorch Geometric's concatenated data"
                f" ({error or type(error).__name__})"
            ) from error

    def _count(self) -> int:
        return len(self._molecules)

    def _molecule(self, record: int) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        numbers, positions, values = self._molecules[record]
        properties = {name: float(v) for name, v in zip(TARGETS, values.reshape(-1), strict=True)}
        return numbers, positions, properties


def _listed(molecules: list[Any]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return [(one["z"], one["pos"], one["y"]) for one in molecules]


def _cut(content: Any) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Molecules of concatenated tensors and the places where each ends."""
    data, ends = content[:2]
    fields = data if isinstance(data, dict) else stored_fields(data)
    arrays = []
    for name in ("z", "pos", "y"):
        places = np.asarray(ends[name])
        arrays.append([fields[name][a:b] for a, b in pairwise(places)])
    return list(zip(*arrays, strict=True))


def _number(path: Path, name: str) -> int:
    match = re.fullmatch(r"dsgdb9nsd_(\d+)\.xyz", name)
    if match is None:
        raise ReadError(f"{path}: {name} is not named dsgdb9nsd_<number>.xyz, as QM9's files are")
    return int(match.group(1))


def _float(word: str) -> float:
    # Mathematica's way of writing 1.5e-6 is 1.5*^-6.
    return float(word.replace("*^", "e"))


def records(path: Path, options: Qm9Options) -> Qm9File:
    """Opens QM9: a folder of ``.xyz`` files, ``qm9.db``, or ``qm9_v3.pt`` or ``data_v3.pt``."""
    if path.is_dir():
        return Qm9Folder(path, options)
    if path.suffix == ".db":
        return Qm9Database(path, options)
    if path.suffix == ".pt":
        return Qm9Tensors(path, options)
    raise ReadError(
        f"{path}: QM9 is read from a folder of .xyz files (unpack dsgdb9nsd.xyz.tar.bz2), from a"
        " .db of SchNetPack or from a .pt of PyTorch Geometric"
    )


FORMAT = Format(
    name="qm9",
    files="folder of `dsgdb9nsd_*.xyz`, `qm9.db`, `qm9_v3.pt`, `data_v3.pt`",
    about="19 targets, energies in eV; class: formula; 110k/10k/rest, or JMP's",
    licence="CC0",
    citation="Ramakrishnan et al., Sci. Data 1, 140022 (2014)",
    records=records,
    options=Qm9Options,
    energy_unit="eV",
    length_unit="Å",
    energy_kinds=("none",),
    is_folder=True,
    splits="parts",
)
