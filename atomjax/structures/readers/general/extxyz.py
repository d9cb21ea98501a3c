"""Extended XYZ: text frames with a lattice, per-atom columns and labels."""

import gzip
import io
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

from ase import Atoms
from ase.data import atomic_numbers
from ase.io.extxyz import read_xyz

from atomjax.structures.readers.checks.bounded import whole
from atomjax.structures.readers.format import LABEL_KEYS, Format
from atomjax.structures.readers.layouts.atoms import structure_from_atoms
from atomjax.structures.readers.layouts.label_keys import kind_of_name
from atomjax.structures.readers.layouts.records import (
    EmptyRecord,
    ReadError,
    ReadOptions,
)
from atomjax.structures.structure import Structure

ISOTOPES = ("D", "T")

# A stress or virial of six numbers in a comment line.
_VOIGT = re.compile(r'(?<!\S)(stress|virial)="\s*((?:[^\s"]+\s+){5}[^\s"]+)\s*"')


def records(path: Path, options: ReadOptions) -> Iterator[tuple[str, Callable[[], Structure]]]:
    """The frames of a file, read one at a time.

    Raises:
        ReadError: a frame does not begin with its number of atoms, so that what follows cannot be
            told apart, or the file cannot be decompressed.
    """
    size, packed = path.stat().st_size, path.suffix == ".gz"
    # No file is packed into less than a thousandth.
    size *= 1100 if packed else 1
    opened = gzip.open if packed else open
    with whole(path), opened(path, "rt", encoding="utf-8-sig", errors="replace") as file:
        for index, lines in enumerate(frames(file, path, size)):
            identifier = f"{path.name}:{index}"
            yield identifier, partial(_structure, lines, options, identifier, path.stem)


def frames(file: TextIO, path: Path, size: int) -> Iterator[list[str]]:
    """The lines of each frame, its number of atoms first.

    Args:
        file: read from where it stands.
        path: for messages.
        size: size of the file in bytes.

    Raises:
        ReadError: as `records`.
    """
    index = 0
    while (line := file.readline()) != "":
        if not line.strip():
            continue
        count = frame_size(line, index, path, size)
        yield [line, *(file.readline() for _ in range(count + 1))]
        index += 1


def frame_size(line: str | bytes, index: int, path: Path, size: int) -> int:
    """The number of atoms that the first line of a frame states.

    Args:
        line: first line of the frame.
        index: index of the frame.
        path: for messages.
        size: size of the file in bytes, which no number of lines exceeds.

    Raises:
        ReadError: it is no number, or none that the file can hold.
    """
    try:
        count = int(line)
    except ValueError as error:
        raise ReadError(
            f"{path}: frame {index} should begin with its number of atoms, found"
            f" {line.strip()[:60]!r}; "
            + ("the frame before it has more atom lines than it says, or " if index else "")
            + "this is no XYZ file (format=ase reads those of many programs)"
        ) from error
    if not 0 <= count <= size:
        raise ReadError(
            f"{path}: frame {index} should have {count} atoms, and the file has {size} bytes: it is"
            " damaged, copy it again"
        )
    return count


def parse_frame(lines: list[str]) -> Atoms:
    """The atoms of one frame.

    Args:
        lines: lines of the frame; those that the file lacks are empty.

    Raises:
        ReadError: the frame is cut short or empty.
    """
    expected, found = len(lines) - 2, sum(line != "" for line in lines) - 2
    if found < expected:
        raise ReadError(f"the file ends after {max(found, 0)} of {expected} atoms: it is truncated")
    if expected == 0:
        raise EmptyRecord("there are no atoms")
    _check_columns(lines)
    lines = [lines[0], _VOIGT.sub(_as_matrix, lines[1]), *lines[2:]]
    try:
        return next(iter(read_xyz(io.StringIO("".join(lines)), 0)))
    except KeyError as error:
        raise _unknown_symbol(str(error.args[0]), lines) from error


def _as_matrix(found: re.Match[str]) -> str:
    """A stress in Voigt's order, xx yy zz yz xz xy, as the nine numbers that ASE reads."""
    xx, yy, zz, yz, xz, xy = found[2].split()
    return f'{found[1]}="{xx} {xy} {xz} {xy} {yy} {yz} {xz} {yz} {zz}"'


def _check_columns(lines: list[str]) -> None:
    """Raise where the atoms have columns that the comment line describes in no way that is read."""
    match = re.search(r"(?<!\w)properties=", lines[1], re.IGNORECASE)
    if match is not None and match.group() != "Properties=":
        raise ReadError(
            f"the comment line has {match.group()[:-1]!r}, which describes no columns, so that all"
            " but symbols and positions would be lost; write Properties= (extended XYZ is"
            " case-sensitive)"
        )
    _check_repeated(lines[1])
    described = re.search(r'(?<!\w)Properties="?([^\s"]*)', lines[1])
    if described is None:
        return
    columns = re.findall(r"([^:]+):[SRIL]:(\d+)", described.group(1))
    stated = sum(int(count) for _, count in columns)
    for i, line in enumerate(lines[2:]):
        if (found := len(line.split())) != stated:
            raise ReadError(f"Properties= describes {stated} columns, atom {i} has {found}")
    _check_elements(columns, lines)


def _check_elements(columns: list[tuple[str, str]], lines: list[str]) -> None:
    """Raise where an atom has a symbol and an atomic number of different elements."""
    starts, start = {}, 0
    for name, count in columns:
        starts[name] = start
        start += int(count)
    if "species" not in starts or "Z" not in starts:
        return
    for i, line in enumerate(lines[2:]):
        words = line.split()
        symbol, number = words[starts["species"]], words[starts["Z"]]
        if number.isdigit() and atomic_numbers.get(symbol.capitalize()) != int(number):
            raise ReadError(f"atom {i}: species is {symbol!r}, but Z is {number}; leave one out")


def _check_repeated(comment: str) -> None:
    """Raise for an entry that looks like a label and is there twice with different values."""
    first: dict[str, str] = {}
    for key, value in re.findall(r'(?<!\S)([\w-]+)\s*=\s*("[^"]*"|\S+)', comment):
        if first.setdefault(key, value) != value and kind_of_name(key) is not None:
            raise ReadError(
                f"{key}= is there twice, as {first[key]} and {value}; leave the one that is meant"
            )


def _unknown_symbol(found: str, lines: list[str]) -> ReadError:
    """Error for a symbol that is no element's."""
    words = (line.split()[0] for line in lines[2:] if line.split())
    symbol = next((word for word in words if word.capitalize() == found), found)
    atom = next((i for i, line in enumerate(lines[2:]) if line.split()[:1] == [symbol]), None)
    where = "" if atom is None else f" of atom {atom}"
    mend = "write the element, such as O for an oxygen named OW"
    if found in ISOTOPES:
        mend = f"write H: {symbol} is an isotope, and masses are not read"
    return ReadError(f"species: {symbol!r}{where} is not a chemical symbol; {mend}")


def _structure(lines: list[str], options: ReadOptions, identifier: str, source: str) -> Structure:
    atoms = parse_frame(lines)
    return structure_from_atoms(atoms, options, atoms.info, identifier, source)


FORMAT = Format(
    name="extxyz",
    files="`.xyz`, `.extxyz`, `.xyz.gz`",
    about="cells, tags, constraints (`move_mask`), energies and forces",
    records=records,
    keys=LABEL_KEYS,
    suffixes=(".xyz", ".extxyz", ".xyz.gz", ".extxyz.gz"),
)
