"""Readers: files of labelled structures to `Structure`, in eV and Å whatever the file uses."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from atomjax.structures.readers import ase_db, comp6, extxyz
from atomjax.structures.readers.ase_db import property_units
from atomjax.structures.readers.records import (
    ReadError,
    ReadOptions,
    SkippedRecord,
    SkippedRecordsWarning,
    structures_from,
    warn_of_skipped,
)
from atomjax.structures.structure import Structure

__all__ = [
    "FORMATS",
    "ReadError",
    "ReadOptions",
    "SkippedRecord",
    "SkippedRecordsWarning",
    "iterate",
    "property_units",
    "read",
]

FORMATS = {"extxyz": extxyz.records, "ase_db": ase_db.records, "comp6": comp6.records}
SUFFIXES = {
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
    ".db": "ase_db",
    ".h5": "comp6",
    ".hdf5": "comp6",
}
# ASE's formats are in eV and Å by ASE's own convention; COMP6 is in Hartree.
DEFAULT_ENERGY_UNITS = {"extxyz": "eV", "ase_db": "eV", "comp6": "Ha"}


def iterate(
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002
    *,
    energy_unit: str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    skipped: list[SkippedRecord] | None = None,
    **options: Any,
) -> Iterator[Structure]:
    """Read structures one at a time, so that a file larger than memory can be read.

    Args:
        path: the file.
        format: one of `FORMATS`; None tells it from the file's name.
        energy_unit: of the file; None means eV, and Hartree for "comp6".
        on_error: "raise" stops at the first bad record; "skip" leaves it out, appends it to
            `skipped` and warns with the count at the end. A file in which the next record cannot
            be found stops in either case.
        skipped: takes what was left out.
        **options: further fields of `ReadOptions`.

    Raises:
        FileNotFoundError: there is no such file.
        ReadError: the file is of another format or damaged, or a record is bad.
        UnitError: a unit is unknown.
    """
    file = Path(path)
    name = format or _guess_format(file)
    if name not in FORMATS:
        raise ReadError(f"{file}: unknown format {name!r}; known: {', '.join(FORMATS)}")
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file")
    unit = energy_unit or DEFAULT_ENERGY_UNITS[name]
    chosen = ReadOptions(energy_unit=unit, **options)
    left_out: list[SkippedRecord] = [] if skipped is None else skipped
    before, kept = len(left_out), 0
    for structure in structures_from(FORMATS[name](file, chosen), on_error, left_out):
        yield structure
        kept += 1
    warn_of_skipped(str(file), left_out[before:], kept)


def read(
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002
    *,
    energy_unit: str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    skipped: list[SkippedRecord] | None = None,
    **options: Any,
) -> list[Structure]:
    """Read all structures of a file; see `iterate` for arguments and errors.

    Raises:
        ReadError: as `iterate`, and where the file holds no structure.
    """
    structures = list(
        iterate(
            path, format, energy_unit=energy_unit, on_error=on_error, skipped=skipped, **options
        )
    )
    if not structures:
        raise ReadError(f"{path}: holds no readable structure")
    return structures


def _guess_format(path: Path) -> str:
    try:
        return SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise ReadError(
            f"{path}: cannot tell the format from the name; give format= one of"
            f" {', '.join(FORMATS)}"
        ) from None
