"""ASE databases (SQLite): one row a structure, scalars in key-value pairs or in the row's data."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import ase.db
import numpy as np

from atomjax.structures.readers.format import LABEL_KEYS, Format
from atomjax.structures.readers.layouts.atoms import structure_from_atoms
from atomjax.structures.readers.layouts.records import RECORD_ERRORS, ReadError, ReadOptions
from atomjax.structures.readers.layouts.stated_units import stated_units, with_stated_units
from atomjax.structures.structure import Structure

SQLITE_MAGIC = b"SQLite format 3\x00"


def records(path: Path, options: ReadOptions) -> Iterator[tuple[str, Callable[[], Structure]]]:
    """The rows of a database in order of their ids.

    Raises:
        ReadError: the file is no SQLite database with ASE's tables, is cut short, or states other
            units than those that are declared.
    """
    database = connect(path)
    try:
        metadata = database.metadata
    except RECORD_ERRORS as error:
        raise _damaged(path, 0, error) from error
    return _rows(database, with_stated_units(options, stated_units(metadata, options), path), path)


def _rows(
    database: Any, options: ReadOptions, path: Path
) -> Iterator[tuple[str, Callable[[], Structure]]]:
    index = 0
    try:
        for row in database.select():
            yield f"{path.name}:{row.id}", partial(_structure, row, options, path)
            index += 1
    except RECORD_ERRORS as error:
        raise _damaged(path, index, error) from error


def _damaged(path: Path, index: int, error: Exception) -> ReadError:
    return ReadError(
        f"{path}: the database breaks off at record {index} ({error}); it is damaged or"
        " truncated, copy it again"
    )


def property_units(path: Path) -> dict[str, str]:
    """The units that a SchNetPack-style database declares for its properties, as written.

    Raises:
        ReadError: the file is no SQLite database, or damaged.
    """
    try:
        return dict(connect(path).metadata.get("_property_unit_dict", {}))
    except ReadError:
        raise
    except RECORD_ERRORS as error:
        raise ReadError(
            f"{path}: the database cannot be read ({error}); it is damaged or truncated, copy it"
            " again"
        ) from error


def row_numbers(path: Path) -> np.ndarray:
    """[n] int64, the numbers of the rows in their order."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute("SELECT id FROM systems ORDER BY id").fetchall()
    except sqlite3.Error as error:
        raise ReadError(f"{path}: no database of ASE, or a damaged one ({error})") from error
    return np.array([number for (number,) in found], dtype=np.int64)


def connect(path: Path) -> Any:
    """Opens an SQLite database of ASE for reading; raises ReadError where it is none."""
    with path.open("rb") as file:
        if file.read(len(SQLITE_MAGIC)) != SQLITE_MAGIC:
            raise ReadError(f"{path}: not an SQLite database, as ASE's .db files are")
    # serial: no lock file beside a database that may be on read-only storage.
    return ase.db.connect(str(path), type="db", use_lock_file=False, serial=True)


def _structure(row: Any, options: ReadOptions, path: Path) -> Structure:
    values = {**row.data, **row.key_value_pairs}
    return structure_from_atoms(row.toatoms(), options, values, f"{path.name}:{row.id}", path.stem)


FORMAT = Format(
    name="ase_db",
    files="`.db`",
    about="SQLite databases of ASE; scalars in key-value pairs or in `data`",
    records=records,
    keys=LABEL_KEYS,
    states_units=True,
    suffixes=(".db",),
)
