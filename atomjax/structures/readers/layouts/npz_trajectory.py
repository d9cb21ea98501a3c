"""The frames of one molecule as arrays of an ``.npz`` file."""

from functools import partial
from pathlib import Path

from atomjax.structures.readers.layouts.conformations import Layout
from atomjax.structures.readers.layouts.npz_members import open_arrays
from atomjax.structures.readers.layouts.records import ReadOptions
from atomjax.structures.readers.layouts.structure_file import PerProcess, StructureFile
from atomjax.structures.structure import Structure


class NpzTrajectory(StructureFile):
    """Frames that share their atoms; all are of one class, the molecule.

    Attributes:
        molecule: its name.
    """

    def __init__(self, path: Path, options: ReadOptions, names: Layout, molecule: str) -> None:
        super().__init__(path, options)
        self.molecule = molecule
        self._names = names
        self._arrays = PerProcess(partial(open_arrays, path, names.wanted(options)))
        arrays = self._arrays.get()
        shapes = {name: array.shape for name, array in arrays.items()}
        self._frames = names.count(shapes, arrays[names.numbers].size, str(path))

    def _count(self) -> int:
        return self._frames

    def _structure(self, record: int) -> Structure:
        arrays, names = self._arrays.get(), self._names
        energies, forces = arrays.get(names.energy), arrays.get(names.forces)
        return self.options.structure(
            atomic_numbers=arrays[names.numbers].reshape(-1),
            positions=arrays[names.positions][record],
            energy=None if energies is None else energies[record].reshape(()),
            forces=None if forces is None else forces[record],
            class_key=self.molecule,
            identifier=self._identifier(record),
            source=self.options.source or self.path.stem,
        )
