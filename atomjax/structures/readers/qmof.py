"""QMOF: band gaps of metal–organic frameworks, ``qmof_database`` as it is unpacked.

``qmof.csv`` has a row for each framework, with ``qmof_id``, ``outputs.pbe.bandgap`` and
``outputs.pbe.energy_total`` in eV; their crystals are in ``relaxed_structures/<qmof_id>.cif``, or
as structures of pymatgen in ``qmof_structure_data.json`` (Rosen et al., Matter 4, 1578, 2021).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ase.io
import numpy as np

from atomjax.structures.readers.checks.cif_blocks import check_cif, groups_explained
from atomjax.structures.readers.format import Format
from atomjax.structures.readers.general.cif_csv import read_table
from atomjax.structures.readers.layouts.json_records import JsonRecords
from atomjax.structures.readers.layouts.pymatgen_sites import crystal
from atomjax.structures.readers.layouts.records import RECORD_ERRORS, ReadError, ReadOptions
from atomjax.structures.readers.layouts.structure_file import StructureFile, shuffled
from atomjax.structures.structure import Structure

TABLE, CRYSTALS, CRYSTAL_FOLDER = "qmof.csv", "qmof_structure_data.json", "relaxed_structures"
# Column → target.
PROPERTIES = {
    "outputs.pbe.bandgap": "band_gap",
    "outputs.pbe.energy_total": "energy_total",
}


@dataclass(frozen=True, kw_only=True)
class QmofOptions(ReadOptions):
    """Options of QMOF.

    Attributes:
        division: "standard": `train_size` frameworks to train on, and half of the rest each for
            validation and test; "jmp": 80 %, 10 % and 10 %. Both by JMP's shuffle.
        train_size: training structures of division "standard".
        split_seed: seed of the shuffle; JMP's.
    """

    division: Literal["standard", "jmp"] = "standard"
    train_size: int = 10_000
    split_seed: int = 42


class QmofFile(StructureFile):
    """The frameworks of ``qmof.csv``, in its order."""

    options: QmofOptions

    def __init__(self, path: Path, options: QmofOptions) -> None:
        super().__init__(path, options)
        self._folder = path if path.is_dir() else path.parent
        table = self._folder / TABLE if path.is_dir() else path
        self._ids, self._values = _table(table)
        self._cifs = self._folder / CRYSTAL_FOLDER
        self._crystals: JsonRecords | None = None
        if not self._cifs.is_dir():
            if not (self._folder / CRYSTALS).is_file():
                raise ReadError(
                    f"{self._folder}: has neither the folder {CRYSTAL_FOLDER} (unpack"
                    f" {CRYSTAL_FOLDER}.zip) nor {CRYSTALS}, where the crystals are"
                )
            self._crystals = JsonRecords(self._folder / CRYSTALS)
            try:
                self._places = {
                    str(self._crystals[i]["qmof_id"]): i for i in range(len(self._crystals))
                }
            except (LookupError, TypeError) as error:
                raise ReadError(
                    f"{self._crystals.path}: not a list of objects with a qmof_id ({error!r})"
                ) from error

    def _count(self) -> int:
        return len(self._ids)

    def _identifier(self, record: int) -> str:
        return self._ids[record]

    def _structure(self, record: int) -> Structure:
        name, values = self._ids[record], self._values[record]
        file = CRYSTALS if self._crystals is not None else f"{CRYSTAL_FOLDER}/{name}.cif"
        targets = {target: _number(text, target) for target, text in values.items() if text}
        try:
            with groups_explained():
                numbers, positions, cell = self._crystal(name)
            return self.options.structure(
                atomic_numbers=numbers,
                positions=positions,
                cell=cell,
                pbc=True,
                targets=targets,
                identifier=name,
                source=self.options.source or "qmof",
            )
        except RECORD_ERRORS as error:
            raise ReadError(f"{file}: {error or type(error).__name__}") from error

    def _crystal(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self._crystals is not None:
            if name not in self._places:
                raise ReadError("has no structure of it")
            return crystal(self._crystals[self._places[name]]["structure"])
        file = self._cifs / f"{name}.cif"
        if not file.is_file():
            raise ReadError(f"there is no such file, which {TABLE} lists")
        check_cif(file.read_text(errors="replace"))
        atoms = ase.io.read(str(file), format="cif")
        if isinstance(atoms, list):
            raise ReadError(f"holds {len(atoms)} crystals")
        return atoms.numbers, atoms.positions, atoms.cell.array

    def _split(self, name: str) -> np.ndarray:
        options = self.options
        sizes: dict[str, int | float | None] = {"train": 0.8, "validation": None, "test": 0.1}
        if options.division == "standard":
            rest = max(self._count() - options.train_size, 0)
            sizes = {"train": options.train_size, "validation": rest // 2, "test": None}
        return self._cut(shuffled(self._count(), options.split_seed), sizes, name)


def _table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Identifiers, and properties as text."""
    if not path.is_file():
        raise ReadError(f"{path}: no such file; give the folder qmof_database, or its qmof.csv")
    columns, rows = read_table(path)
    missing = [name for name in ("qmof_id", "outputs.pbe.bandgap") if name not in columns]
    if missing:
        raise ReadError(
            f"{path}: has no column {', '.join(missing)}; its columns are:"
            f" {', '.join(columns[:12])}"
        )
    if not rows:
        raise ReadError(f"{path}: holds no row")
    values = [
        {target: (row.get(column) or "") for column, target in PROPERTIES.items()} for row in rows
    ]
    return [row["qmof_id"] for row in rows], values


def _number(text: str, target: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ReadError(f"{TABLE}: {target} is {text[:40]!r}, expected a number") from error


FORMAT = Format(
    name="qmof",
    files="`qmof_database/`: `qmof.csv` and crystals",
    about="target `band_gap`; class: formula; 10k and halves, or JMP's",
    citation="Rosen et al., Matter 4, 1578 (2021)",
    records=QmofFile,
    options=QmofOptions,
    energy_unit="eV",
    length_unit="Å",
    energy_kinds=("none",),
    is_folder=True,
    splits="parts",
)
