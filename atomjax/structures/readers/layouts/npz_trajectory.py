"""The frames of one molecule as arrays of an ``.npz`` file."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from atomjax.structures.readers.layouts.npz_members import open_arrays
from atomjax.structures.readers.layouts.records import ReadError, ReadOptions
from atomjax.structures.readers.layouts.structure_file import PerProcess, StructureFile
from atomjax.structures.structure import Structure


@dataclass(frozen=True)
class ArrayNames:
    """Names of the arrays of n frames of N atoms.

    Attributes:
        numbers: [N], atomic numbers.
        positions: [n, N, 3].
        energies: [n].
        forces: [n, N, 3].
    """

    numbers: str
    positions: str
    energies: str
    forces: str


class NpzTrajectory(StructureFile):
    """Frames that share their atoms; all are of one class, the molecule.

    Attributes:
        molecule: its name.
    """

    def __init__(self, path: Path, options: ReadOptions, names: ArrayNames, molecule: str) -> None:
        super().__init__(path, options)
        self.molecule = molecule
        wanted = [names.numbers, names.positions]
        wanted += [names.energies] if options.energy_key != "" else []
        wanted += [names.forces] if options.forces_key != "" else []
        self._names = names
        self._arrays = PerProcess(partial(open_arrays, path, wanted))
        arrays = self._arrays.get()
        shape = arrays[names.positions].shape
        atoms = arrays[names.numbers].size
        self._frames = int(shape[0]) if shape else 0
        expected = {
            names.positions: (self._frames, atoms, 3),
            names.energies: (self._frames,),
            names.forces: (self._frames, atoms, 3),
        }
        for name in wanted[1:]:
            found = arrays[name].shape
            column = name == names.energies and found == (self._frames, 1)
            if found != expected[name] and not column:
                raise ReadError(
                    f"{path}: {name} has shape {list(found)}, expected {list(expected[name])} for"
                    f" {atoms} atoms ({names.numbers})"
                )

    def _count(self) -> int:
        return self._frames

    def _structure(self, record: int) -> Structure:
        arrays, names = self._arrays.get(), self._names
        energies, forces = arrays.get(names.energies), arrays.get(names.forces)
        return self.options.structure(
            atomic_numbers=arrays[names.numbers].reshape(-1),
            positions=arrays[names.positions][record],
            energy=None if energies is None else energies[record].reshape(()),
            forces=None if forces is None else forces[record],
            class_key=self.molecule,
            identifier=self._identifier(record),
            source=self.options.source or self.path.stem,
        )
