"""HDF5 files of molecules with many geometries, as COMP6, S66x8 and ANI-2x have them.

A group that holds ``species``, ``coordinates`` [n, N, 3] and ``energies`` [n] is a molecule;
species are symbols or numbers, [N], or [n, N] as in ANI-2x. What ``forces`` [n, N, 3] are differs:
in COMP6 and S66x8 the gradient dE/dx in Hartree/Å (along S66x8's 428 steps between geometries that
keep their orientation, the work is +0.99 times the change of the energy), in ANI-2x its negative.
So the energies are asked which it is, and the user where they do not tell.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from atomjax.structures.elements import atomic_number
from atomjax.structures.readers.checks.force_sign import is_one, slope_of_work
from atomjax.structures.readers.format import Format
from atomjax.structures.readers.layouts.conformations import Layout
from atomjax.structures.readers.layouts.hdf5 import (
    BLOCK,
    ConformerFile,
    molecule_groups,
    open_hdf5,
    reported,
)
from atomjax.structures.readers.layouts.label_keys import RecordNotes, note_unused
from atomjax.structures.readers.layouts.records import ReadError, ReadOptions
from atomjax.structures.structure import Structure

POSITIONS = "coordinates"
# Number of molecules whose energies are read.
ASKED = 200


class Comp6File(ConformerFile):
    """The geometries of all molecules, group by group."""

    def __init__(
        self, path: Path, options: ReadOptions, forces: str, wanted: Sequence[str]
    ) -> None:
        # Labels that are looked for under the format's own names; molecule → keys that look like
        # one of them and are not read.
        self._wanted, self._unused = wanted, dict[str, RecordNotes]()
        layout = Layout("species", POSITIONS, options.energy_key or "energies", forces)
        super().__init__(path, options, layout)
        if self.options.energy_unit is None:
            self.options = replace(self.options, energy_unit="Ha")
        if self.options.forces_key != "":
            self.layout = replace(layout, force_sign=self._sign())

    def _groups(self, file: h5py.File) -> list[str]:
        return molecule_groups(file, self.layout)

    def _class_key(self, name: str) -> str:
        key = super()._class_key(name)
        # ANI-2x groups by the number of atoms, which is no class.
        return "" if key.isdigit() else key

    def _numbers(self, group: Any, rows: slice) -> np.ndarray:
        species = group[self.layout.numbers]
        values = species[rows] if species.ndim == 2 else species[()]
        if values.dtype.kind in "iu":
            return values
        symbols = [s.decode() if isinstance(s, bytes) else str(s) for s in values.reshape(-1)]
        return np.array([atomic_number(symbol) for symbol in symbols]).reshape(values.shape)

    def _structure(self, record: int) -> Structure:
        name = self.names[self._molecule[record]]
        if name not in self._unused:
            self._unused[name] = self._note_unused(self._file.get()[name])
        self.options.notes.merge(self._unused[name].to_dict())
        return super()._structure(record)

    def _note_unused(self, group: Any) -> RecordNotes:
        """Notes of a geometry of a molecule."""
        layout, notes, count = self.layout, RecordNotes(), len(group[self.layout.positions])
        notes.held.update(list(group))
        read = {
            "energy": group[layout.energy][0] if self.options.energy_key != "" else None,
            "forces": group[layout.forces][0] if self.options.forces_key != "" else None,
        }
        own = (layout.numbers, layout.positions, layout.energy, layout.forces)
        held = {
            key: array[0]
            for key, array in group.items()
            if key not in own and getattr(array, "shape", ())[:1] == (count,)
        }
        atoms = group[layout.positions].shape[1]
        note_unused(notes, held, read, self._wanted, atoms, volume=0.0)
        return notes

    def _sign(self) -> float:
        """-1 where gradients are stored, 1 for forces."""
        key, options = self.layout.forces, self.options
        with reported(self.path):
            slope = slope_of_work(self._geometries())
        declared = 1.0 if options.forces_key else -1.0 if options.gradients_key else None
        if slope is None:
            if declared is None:
                raise ReadError(
                    f"{self.path}: {key!r} are gradients in COMP6 and forces in ANI-2x, and the"
                    f" energies do not tell which these are; say gradients_key={key!r} or"
                    f" forces_key={key!r}, or read none with forces_key=''"
                )
            return declared
        found, kind = (-1.0, "gradients") if slope > 0 else (1.0, "forces")
        work = f"the energy changes by {slope:+.2f} times the work of {key!r} along the geometries"
        if declared not in (None, found):
            raise ReadError(
                f"{self.path}: {work}: they are {kind}; say {kind}_key={key!r}, or leave both out"
            )
        if declared is None and not is_one(slope):
            raise ReadError(
                f"{self.path}: {work}, which should be 1 or -1; declare force_unit (now"
                " energy_unit/length_unit)"
            )
        return found

    def _geometries(self) -> Any:
        """Positions, energies and vectors of some molecules, in eV and Å."""
        file, layout, options = self._file.get(), self.layout, self.options
        for name in self.names[:ASKED]:
            group: Any = file[name]
            if layout.energy not in group or group[layout.positions].ndim != 3:
                continue
            yield (
                group[layout.positions][:BLOCK] * options.length_factor,
                group[layout.energy][:BLOCK].reshape(-1) * options.energy_factor,
                group[layout.forces][:BLOCK] * options.force_factor,
            )


def records(path: Path, options: ReadOptions) -> Comp6File:
    """Opens a file of molecules."""
    forces = options.forces_key or options.gradients_key
    chosen = {"energy": options.energy_key, "forces": forces or options.forces_key}
    wanted = [label for label, key in chosen.items() if key is None]
    layout = Layout("species", POSITIONS, options.energy_key or "energies", forces or "forces")
    with open_hdf5(path) as file, reported(path):
        groups: list[Any] = [file[name] for name in molecule_groups(file, layout)]
        if not groups:
            raise ReadError(f"{path}: no group holds species, {POSITIONS} and energies")
        if not forces and not any("forces" in group for group in groups):
            options = replace(options, forces_key="")
    return Comp6File(path, options, forces or "forces", wanted)


FORMAT = Format(
    name="comp6",
    files="`.h5`, `.hdf5`",
    about="COMP6, S66×8, ANI-2x: whether they store forces or gradients is told by their energies, "
    "or asked for",
    records=records,
    keys=("gradients_key",),
    states_units=True,
    suffixes=(".h5", ".hdf5"),
)
