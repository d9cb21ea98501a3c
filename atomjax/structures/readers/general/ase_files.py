"""Whatever ASE reads: trajectories, CIF, POSCAR, the output of many programs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ase.io
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype

from atomjax.structures.readers.format import LABEL_KEYS, Format
from atomjax.structures.readers.layouts.atoms import structure_from_atoms
from atomjax.structures.readers.layouts.records import RECORD_ERRORS, ReadError, ReadOptions
from atomjax.structures.structure import Structure

# Formats whose files ASE executes or unpickles, and those that are servers.
UNSAFE = ("py", "bundletrajectory", "postgresql", "mysql", "mariadb")


@dataclass(frozen=True, kw_only=True)
class AseOptions(ReadOptions):
    """Options of files that ASE parses.

    Attributes:
        ase_format: ASE's name of the format, such as "vasp-xml"; None lets ASE tell it.
    """

    ase_format: str | None = None


def records(path: Path, options: AseOptions) -> Iterator[tuple[str, Callable[[], Structure]]]:
    """The structures of a file, one after the other.

    Raises:
        ReadError: ASE cannot tell the format, fails, or would execute what is in the file.
    """
    try:
        name = options.ase_format or filetype(str(path), guess=True)
    except UnknownFileTypeError as error:
        raise ReadError(
            f"{path}: ASE cannot tell its format; give ase_format=, one of ASE's names"
        ) from error
    if name in UNSAFE:
        raise ReadError(f"{path}: refused: files of ASE's format {name!r} can execute code")
    index = 0
    try:
        for atoms in ase.io.iread(str(path), index=":", format=name):
            yield f"{path.name}:{index}", partial(_structure, atoms, options, path, index)
            index += 1
    except (*RECORD_ERRORS, UnknownFileTypeError) as error:
        raise ReadError(
            f"{path}: ASE cannot read it as {name!r} beyond structure {index}"
            f" ({error or type(error).__name__})"
        ) from error


def _structure(atoms: Atoms, options: AseOptions, path: Path, index: int) -> Structure:
    return structure_from_atoms(atoms, options, atoms.info, f"{path.name}:{index}", path.stem)


FORMAT = Format(
    name="ase",
    files="`.traj`, `.cif`, `.vasp`",
    about="whatever ASE reads; `ase_format` where it cannot tell",
    records=records,
    options=AseOptions,
    keys=LABEL_KEYS,
    suffixes=(".traj", ".cif", ".vasp"),
)
