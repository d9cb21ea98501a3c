"""COMP6 and S66x8 files (HDF5): for each molecule, many geometries with energies and forces.

A group that holds ``species`` [N], ``coordinates`` [n, N, 3] and ``energies`` [n] is a molecule.
Its ``forces`` [n, N, 3] are the gradient dE/dx, not its negative, in Hartree/Å: along S66x8's 428
steps between geometries that keep their orientation, the work Σ forces·Δx by the trapezoid rule is
+0.99 times the change of the energy in Hartree (it would be +1.89 times for Hartree/Bohr). So this
reader negates them.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from atomjax.structures.elements import atomic_number
from atomjax.structures.readers.layouts.records import ReadError, ReadOptions
from atomjax.structures.structure import Structure

REQUIRED = ("species", "coordinates", "energies")


def records(path: Path, options: ReadOptions) -> Iterator[tuple[str, Callable[[], Structure]]]:
    """The geometries of all molecules, group by group.

    Raises:
        ReadError: the file is not HDF5, is cut short, or holds no molecule.
    """
    try:
        with h5py.File(path, "r") as file:
            names: list[str] = []
            file.visititems(lambda name, item: _collect(names, name, item))
            if not names:
                raise ReadError(f"{path}: no group holds {', '.join(REQUIRED)}")
            for name in names:
                yield from _molecule(path, name, file, options)
    except OSError as error:
        raise ReadError(
            f"{path}: not a readable HDF5 file ({error}); it is damaged or truncated, copy it again"
        ) from error


def _collect(names: list[str], name: str, item: h5py.Group | h5py.Dataset) -> None:
    if isinstance(item, h5py.Group) and "coordinates" in item:
        names.append(name)


def _molecule(
    path: Path, name: str, file: h5py.File, options: ReadOptions
) -> Iterator[tuple[str, Callable[[], Structure]]]:
    group: Any = file[name]
    missing = [key for key in REQUIRED if key not in group]
    if missing:
        raise ReadError(f"{path}: molecule {name} lacks {', '.join(missing)}")
    symbols = [s.decode() if isinstance(s, bytes) else str(s) for s in group["species"][()]]
    numbers = np.array([atomic_number(symbol) for symbol in symbols])
    positions, energies = group["coordinates"][()], group["energies"][()]
    wants_forces = options.forces_key != "" and "forces" in group
    gradients = group["forces"][()] if wants_forces else None
    if len(energies) != len(positions) or (
        gradients is not None and gradients.shape != positions.shape
    ):
        raise ReadError(
            f"{path}: molecule {name}: coordinates {positions.shape}, energies {energies.shape}"
            f" and forces {None if gradients is None else gradients.shape} do not fit together"
        )
    for i in range(len(positions)):
        identifier = f"{path.name}:{name}:{i}"
        yield (
            identifier,
            partial(
                options.structure,
                atomic_numbers=numbers,
                positions=positions[i],
                energy=energies[i],
                forces=None if gradients is None else -gradients[i],
                class_key=name.rpartition("/")[2],
                identifier=identifier,
                source=options.source or path.stem,
            ),
        )
