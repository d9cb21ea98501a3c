"""HDF5 files that hold, for each molecule, an array of conformations."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from atomjax.structures.readers.checks.bounded import check_made
from atomjax.structures.readers.layouts.conformations import Layout
from atomjax.structures.readers.layouts.records import RECORD_ERRORS, ReadError, ReadOptions
from atomjax.structures.readers.layouts.stated_units import record_units, with_stated_units
from atomjax.structures.readers.layouts.structure_file import PerProcess, StructureFile
from atomjax.structures.structure import Structure
from atomjax.structures.units import UnitError

# Conformations read at once: neighbours are usually wanted next, and a call of HDF5 costs more
# than the few kilobytes of them.
BLOCK = 64
UNIT_ATTRIBUTES = ("units", "unit")


class ConformerFile(StructureFile):
    """The conformations of all molecules of an HDF5 file, in the order of the file.

    Subclasses say which groups are molecules (`_groups`) and what is special about them.

    Attributes:
        what: required content of a file, for messages.
        layout: names of the arrays.
        names: names of the molecules.
    """

    what = "molecule with conformations"

    def __init__(self, path: Path, options: ReadOptions, layout: Layout) -> None:
        super().__init__(path, options)
        self.layout = layout
        self._file = PerProcess(partial(open_hdf5, path))
        self._block: tuple[str, int, dict[str, np.ndarray]] | None = None
        self._stated: dict[str, str] = {}
        file = self._file.get()
        with reported(path):
            self._stated_by_file = record_units(file.attrs)
            self.names = self._groups(file)
            counts = [self._index(name, file[name]) for name in self.names]
        # Records as (molecule, conformation), 8 bytes each.
        self._molecule = np.repeat(
            np.arange(len(counts), dtype=np.int32), [len(kept) for kept in counts]
        )
        self._conformation = np.concatenate([np.zeros(0, np.int32), *counts]).astype(np.int32)
        if not len(self._molecule):
            raise ReadError(f"{path}: holds no {self.what}")

    @abstractmethod
    def _groups(self, file: h5py.File) -> list[str]:
        """Names of the molecules to read."""

    def _class_key(self, name: str) -> str:
        """Class of a molecule; empty for its Hill formula."""
        return name.rpartition("/")[2]

    def _states(self, name: str) -> dict[str, float]:
        """Charge and spin of a molecule under the names of their targets, where they are known."""
        return {}

    def _index(self, name: str, group: Any) -> np.ndarray:
        """Conformations to keep of one molecule, after a check of its arrays."""
        count = self._count_of(name, group)
        self._exclude("empty molecules, without conformations or atoms", int(count == 0))
        self._believe_units(group)
        return np.arange(count)

    def _count_of(self, name: str, group: Any) -> int:
        """Number of conformations of a molecule whose arrays fit together; zero for none."""
        layout, where = self.layout, f"{self.path}: molecule {name}"
        wanted = layout.wanted(self.options)
        missing = [key for key in wanted if key not in group]
        if missing:
            raise ReadError(f"{where} lacks {', '.join(missing)}; it has: {', '.join(group)}")
        for key in wanted:
            _check_stored(group[key], f"{where}: {key}")
        atoms = group[layout.numbers].shape[-1] if group[layout.numbers].shape else 0
        if group[layout.positions].shape[:1] == (0,) or atoms == 0:
            return 0
        return layout.count({key: group[key].shape for key in wanted}, atoms, where)

    def _believe_units(self, group: Any) -> None:
        """Take, or compare, the units that the file, a molecule or its arrays state."""
        layout = self.layout
        arrays = {
            "energy_unit": layout.energy,
            "length_unit": layout.positions,
            "force_unit": layout.forces,
        }
        stated = self._stated_by_file | record_units(group.attrs)
        for name, key in arrays.items():
            attributes = group[key].attrs if key in group else {}
            unit = next((attributes[a] for a in UNIT_ATTRIBUTES if a in attributes), None)
            if unit is not None:
                stated[name] = unit.decode() if isinstance(unit, bytes) else str(unit)
        if stated != self._stated:
            self.options = with_stated_units(self.options, stated, self.path)
            self._stated = stated

    def _numbers(self, group: Any, rows: slice) -> np.ndarray:
        """Atomic numbers of a molecule [N], or of each of some conformations [n, N]."""
        return group[self.layout.numbers][()].reshape(-1)

    def _exclude(self, reason: str, count: int) -> None:
        if count:
            self.excluded[reason] = self.excluded.get(reason, 0) + count

    def _count(self) -> int:
        return len(self._molecule)

    def _identifier(self, record: int) -> str:
        name = self.names[self._molecule[record]]
        return f"{self.path.name}:{name}:{self._conformation[record]}"

    def _structure(self, record: int) -> Structure:
        name = self.names[self._molecule[record]]
        start, row = divmod(int(self._conformation[record]), BLOCK)
        arrays = self._read_block(name, start * BLOCK)
        layout, options = self.layout, self.options
        forces = arrays.get(layout.forces)
        energy = arrays.get(layout.energy)
        numbers = arrays[layout.numbers]
        return options.structure(
            atomic_numbers=numbers if numbers.ndim == 1 else numbers[row],
            positions=arrays[layout.positions][row],
            energy=None if energy is None else energy[row],
            forces=None if forces is None else layout.force_sign * forces[row].astype(np.float64),
            targets=self._states(name),
            class_key=self._class_key(name),
            identifier=self._identifier(record),
            source=options.source or self.path.stem,
        )

    def _read_block(self, name: str, start: int) -> dict[str, np.ndarray]:
        # Threads share the last block: each looks at one it holds itself.
        block = self._block
        if block is None or block[:2] != (name, start):
            layout = self.layout
            group: Any = self._file.get()[name]
            rows = slice(start, start + BLOCK)
            arrays = {key: group[key][rows] for key in layout.wanted(self.options)[1:]}
            if layout.energy in arrays:
                arrays[layout.energy] = arrays[layout.energy].reshape(-1)
            arrays[layout.numbers] = self._numbers(group, rows)
            block = self._block = (name, start, arrays)
        return block[2]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_block": None}


def open_hdf5(path: Path) -> h5py.File:
    """Opens a file for reading; raises ReadError where it is no HDF5 file, or a damaged one."""
    with reported(path):
        return h5py.File(path, "r")


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Name the file in errors of HDF5, of whatever type, as a ReadError."""
    try:
        yield
    except (ReadError, UnitError):
        raise
    except RECORD_ERRORS as error:
        raise ReadError(
            f"{path}: not a readable HDF5 file ({error}); it is damaged or truncated, copy it again"
        ) from error


def molecule_groups(file: h5py.File, layout: Layout) -> list[str]:
    """Names of the groups that hold any array of a molecule, in the order of the file."""
    wanted = {layout.numbers, layout.positions, layout.energy, layout.forces}
    names: list[str] = []

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and not wanted.isdisjoint(item):
            names.append(name)

    file.visititems(collect)
    return names


def _check_stored(array: Any, what: str) -> None:
    """Raise where an array is much larger than its stored part, as one that was never written."""
    if not isinstance(array, h5py.Dataset):
        raise ReadError(f"{what} is a group, expected an array; the file is damaged")
    check_made(array.size * array.dtype.itemsize, array.id.get_storage_size(), what)
