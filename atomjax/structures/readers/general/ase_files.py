"""Whatever ASE reads: trajectories, CIF, POSCAR, the output of many programs."""

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype

from atomjax.structures.readers.checks.cif_blocks import check_cif, groups_explained
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
        ase_format: ASE's name of the format, such as "vasp-xml"; None lets ASE guess it.
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
        if name == "cif":
            check_cif(path.read_text(errors="replace"))
        if name == "traj":
            check_trajectory(path)
        if name == "vasp":
            check_counts(path)
        with groups_explained():
            for atoms in ase.io.iread(str(path), index=":", format=name):
                if name.startswith("lammps-dump") and atoms.calc is not None:
                    # ASE's zero for what such files do not hold.
                    atoms.calc.results.pop("energy", None)
                yield f"{path.name}:{index}", partial(_structure, atoms, options, path, index)
                index += 1
    except (*RECORD_ERRORS, UnknownFileTypeError, StopIteration) as error:
        raise ReadError(
            f"{path}: ASE cannot read it as {name!r} beyond structure {index}"
            f" ({error or type(error).__name__})"
        ) from error


def check_counts(path: Path) -> None:
    """Raise ReadError where a POSCAR has fewer lines than the atoms of its sixth or seventh."""
    lines = path.read_text(errors="replace").splitlines()
    counts = next((line for line in lines[5:7] if re.fullmatch(r"[\s\d]*\d[\s\d]*", line)), "0")
    atoms = sum(map(int, counts.split()))
    if atoms > len(lines):
        has = f"{atoms:,} atoms in {len(lines)} lines"
        raise ReadError(f"{path}: says that it has {has}: copy it again")


def check_trajectory(path: Path) -> None:
    """Compare the sizes in a trajectory's headers with the file, before any is asked for.

    Such a file (ASE's ``ulm``) begins with 24 bytes of names, then a version, the number of frames
    and the place of their offsets, int64; where each points, there are a length and so much JSON,
    in which an array is its shape, type and offset.

    Raises:
        ReadError: something would lie beyond the file's end.
    """
    size = path.stat().st_size
    with path.open("rb") as file:

        def numbers(place: int, count: int) -> list[int]:
            if not 0 <= place <= place + 8 * count <= size:
                raise ReadError(f"{path}: a header points beyond the file: copy it again")
            file.seek(place)
            return np.frombuffer(file.read(8 * count), "<i8").tolist()

        _, frames, place = numbers(24, 3)
        for offset in numbers(place, max(frames, 0)):
            (length,) = numbers(offset, 1)
            if not 0 <= length <= size - offset - 8:
                raise ReadError(f"{path}: a frame is longer than the file: copy it again")
            for shape, kind, start in _arrays_of(json.loads(file.read(length))):
                if math.prod(shape) * np.dtype(kind).itemsize > size - start:
                    raise ReadError(f"{path}: an array is longer than the file: copy it again")


def _arrays_of(content: Any) -> Iterator[tuple[list[int], str, int]]:
    """Shape, type and offset of the arrays in a frame's JSON."""
    if isinstance(content, dict):
        if "ndarray" in content:
            shape, kind, start = content["ndarray"]
            yield shape, kind, start
        for value in content.values():
            yield from _arrays_of(value)


def _structure(atoms: Atoms, options: AseOptions, path: Path, index: int) -> Structure:
    return structure_from_atoms(atoms, options, atoms.info, f"{path.name}:{index}", path.stem)


FORMAT = Format(
    name="ase",
    files="`.traj`, `.cif`, `.vasp`, `POSCAR`, `CONTCAR`, `XDATCAR`, `OUTCAR`, `vasprun.xml`",
    about="whatever ASE reads; `ase_format` where it cannot tell",
    records=records,
    options=AseOptions,
    keys=LABEL_KEYS,
    suffixes=(".traj", ".cif", ".vasp"),
    names=("poscar", "contcar", "xdatcar", "outcar", "vasprun.xml"),
)
