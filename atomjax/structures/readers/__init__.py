"""Readers: files of labelled structures to `Structure`, in eV and Å whatever the file uses."""

import dataclasses
import difflib
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from ase import Atoms

from atomjax.runtime.downloads import find_download, is_download, local_path
from atomjax.runtime.workflows import resolve
from atomjax.structures.readers import (
    ani1x,
    comp6,
    matbench,
    md22,
    oc20_extxyz,
    open_catalyst,
    qm9,
    qmof,
    rmd17,
    spice,
    transition1x,
)
from atomjax.structures.readers.checks.file_state import unchanged
from atomjax.structures.readers.format import LABEL_KEYS, Format, Records
from atomjax.structures.readers.general import (
    archive,
    ase_db,
    ase_files,
    aselmdb,
    cif_csv,
    extxyz,
)
from atomjax.structures.readers.general.ase_db import property_units
from atomjax.structures.readers.layouts.atoms import structure_from_atoms, to_atoms
from atomjax.structures.readers.layouts.label_keys import RecordNotes, UnusedKeysWarning
from atomjax.structures.readers.layouts.records import (
    RECORD_ERRORS,
    ReadError,
    ReadOptions,
    SkippedRecord,
    SkippedRecordsWarning,
    failure,
    structures_from,
    warn_of_skipped,
)
from atomjax.structures.readers.layouts.structure_file import StructureFile
from atomjax.structures.structure import Structure

__all__ = [
    "BUILT_IN",
    "FORMATS",
    "Format",
    "ReadError",
    "ReadOptions",
    "RecordNotes",
    "SkippedRecord",
    "SkippedRecordsWarning",
    "StructureFile",
    "UnusedKeysWarning",
    "find_format",
    "from_atoms",
    "guess_format",
    "iterate",
    "open_file",
    "open_records",
    "property_units",
    "read",
    "register_format",
    "to_atoms",
]

READERS = (
    extxyz.FORMAT,
    ase_db.FORMAT,
    aselmdb.FORMAT,
    ase_files.FORMAT,
    archive.FORMAT,
    comp6.FORMAT,
    cif_csv.FORMAT,
    ani1x.FORMAT,
    transition1x.FORMAT,
    open_catalyst.OC20,
    oc20_extxyz.FORMAT,
    open_catalyst.OC22,
    rmd17.FORMAT,
    md22.FORMAT,
    spice.FORMAT,
    qm9.FORMAT,
    qmof.FORMAT,
    matbench.FORMAT,
)
FORMATS: dict[str, Format] = {known.name: known for known in READERS}
BUILT_IN = frozenset(FORMATS)
UNIT_OPTIONS = ("energy_unit", "length_unit", "force_unit")


def register_format(known: Format) -> Format:
    """Makes a format known to configs and `read` by its name; returns it.

    Raises:
        ValueError: a format that comes with atomjax has the name.
    """
    if known.name in BUILT_IN:
        raise ValueError(f'format "{known.name}" comes with atomjax; give another name')
    FORMATS[known.name] = known
    return known


def find_format(name: str) -> Format | None:
    """The format of a name, or None; "module:NAME" is imported, in any process.

    Raises:
        ReadError: it cannot be imported.
    """
    if ":" not in name:
        return FORMATS.get(name)
    try:
        return resolve(name)
    except (ImportError, AttributeError) as error:
        raise ReadError(f"the format {name!r} cannot be imported: {error}") from error


def guess_format(path: Path) -> str | None:
    """The format guessed from a file's name, or None; that of a download is known."""
    if is_download(path):
        return find_download(path).collection.format
    name = path.name.lower()
    for known in FORMATS.values():
        named = any(f"{name}.".startswith(f"{one}.") for one in known.names)
        if name.endswith(known.suffixes or ("\0",)) or (named and not path.is_dir()):
            return known.name
    return None


def iterate(
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002
    *,
    on_error: Literal["raise", "skip"] = "raise",
    skipped: list[SkippedRecord] | None = None,
    notes: RecordNotes | None = None,
    **options: Any,
) -> Iterator[Structure]:
    """Read structures one at a time, so that a file larger than memory can be read.

    Args:
        path: the file, or a folder where the format has folders.
        format: one of `FORMATS`; None guesses it from the file's name.
        on_error: "raise" stops at the first bad record; "skip" leaves it out, appends it to
            `skipped` and warns with the count at the end. A file in which the next record cannot
            be found stops in either case.
        skipped: takes the records left out.
        notes: takes the keys of the records, and those that look like a label and are not read;
            a warning names the latter at the end.
        **options: fields of `ReadOptions`, or of the format's own options. Units default to the
            file's or the format's; eV and Å where neither gives them.

    Raises:
        FileNotFoundError: there is no such file.
        ReadError: the file is of another format or damaged, changes while it is read, or a record
            is bad.
        UnitError: a unit is unknown.
    """
    file, facts, chosen = _prepare(path, format, options, notes)
    left_out: list[SkippedRecord] = [] if skipped is None else skipped
    before, empty, kept = len(left_out), chosen.notes.empty, 0
    with unchanged(file):
        records = _open(file, facts, chosen)
        if isinstance(records, StructureFile):
            records = records.records()
        for structure in structures_from(records, on_error, left_out, chosen.notes):
            yield structure
            kept += 1
    warn_of_skipped(str(file), left_out[before:], kept, chosen.notes.empty - empty)
    chosen.notes.warn(str(file))


def read(
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002
    *,
    on_error: Literal["raise", "skip"] = "raise",
    skipped: list[SkippedRecord] | None = None,
    notes: RecordNotes | None = None,
    **options: Any,
) -> list[Structure]:
    """Read all structures of a file; see `iterate` for arguments and errors.

    Raises:
        ReadError: as `iterate`, and where the file holds no structure.
    """
    given: dict[str, Any] = {"skipped": skipped, "notes": notes, **options}
    structures = list(iterate(path, format, on_error=on_error, **given))
    if not structures:
        raise ReadError(f"{path}: holds no readable structure")
    return structures


def from_atoms(
    frames: Iterable[Atoms],
    *,
    outdated: Literal["raise", "drop"] = "raise",
    notes: RecordNotes | None = None,
    numbers: Iterator[int] | None = None,
    **options: Any,
) -> list[Structure]:
    """Structures from ASE's atoms, with the rules and errors of files that ASE reads.

    Args:
        frames: atoms in ASE's units, or in those that the options declare; a molecule needs no
            cell. Labels are those of the attached calculators, as computed.
        outdated: treatment of results that a calculator computed for other positions: "raise" an
            error, or "drop" them.
        notes: as for `iterate`.
        numbers: numbers of the frames in names and messages; None counts from 0.
        **options: fields of `ReadOptions`.

    Raises:
        ReadError: an option is unknown, or a frame is bad; the message has its number.
        UnitError: a unit is unknown.
    """
    if outdated not in ("raise", "drop"):
        raise ValueError(f"outdated={outdated!r}; write 'raise' or 'drop'")
    facts = ase_files.FORMAT
    _check_names(facts, options)
    chosen = facts.options(**options, notes=RecordNotes() if notes is None else notes)
    source = chosen.source or "atoms"

    structures = []
    numbers = itertools.count() if numbers is None else numbers
    for atoms in frames:
        name = f"{source}:{next(numbers)}"
        try:
            if _is_outdated(atoms):
                if outdated == "raise":
                    raise ReadError(
                        "its calculator's results are those of other positions; compute them"
                        " again, or keep each frame with a SinglePointCalculator of its own"
                    )
                # A copy has no calculator.
                atoms = atoms.copy()
            structures.append(structure_from_atoms(atoms, chosen, atoms.info, name, source))
        except RECORD_ERRORS as error:
            raise failure(name, error, skippable=False) from error
    chosen.notes.warn(source)
    return structures


def _is_outdated(atoms: Atoms) -> bool:
    """Check whether the attached calculator holds results of other atoms."""
    calculator: Any = atoms.calc
    held, check = getattr(calculator, "atoms", None), getattr(calculator, "check_state", None)
    return bool(getattr(calculator, "results", None) and held and check and check(atoms))


def open_file(
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002
    **options: Any,
) -> StructureFile:
    """Open a file as a sequence whose structures are read on access, in any order.

    Args:
        path: the file or folder.
        format: one of those of `FORMATS` whose records have numbers; None guesses it from the name.
        **options: as for `iterate`.

    Raises:
        FileNotFoundError: there is no such file.
        ReadError: the file is of another format or damaged, or can only be read from its start.
    """
    file, facts, chosen = _prepare(path, format, options)
    records = _open(file, facts, chosen)
    if not isinstance(records, StructureFile):
        raise ReadError(
            f"{file}: files of the format {facts.name!r} are read from their start; use iterate or"
            " read"
        )
    return records


def open_records(
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002
    *,
    notes: RecordNotes | None = None,
    **options: Any,
) -> Records | StructureFile:
    """Open a file of any format: what `open_file` gives where it can, else what reads each record.

    Args:
        path: the file or folder.
        format: one of `FORMATS`; None guesses it from the name.
        notes: takes the contents of records beside the labels read, as they are read.
        **options: as for `iterate`.

    Returns:
        A `StructureFile`, or for each record its identifier and a function for its structure.

    Raises:
        FileNotFoundError: there is no such file.
        ReadError: the file is of another format or damaged.
    """
    return _open(*_prepare(path, format, options, notes))


def _prepare(
    path: str | os.PathLike[str],
    format_name: str | None,
    given: dict[str, Any],
    notes: RecordNotes | None = None,
) -> tuple[Path, Format, ReadOptions]:
    """The file, its format, and options that fit the format."""
    file = Path(path)
    name = format_name or guess_format(file)
    if name is None:
        raise ReadError(
            f"{file}: cannot tell the format from the name; give format= one of"
            f" {', '.join(FORMATS)}"
        )
    file = local_path(file)
    facts = find_format(name)
    if facts is None:
        near = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ";"
        raise ReadError(f"{file}: unknown format {name!r}{hint} known: {', '.join(FORMATS)}")
    if not (file.is_file() or (facts.is_folder and file.is_dir())):
        kind = "file or folder" if facts.is_folder else "file"
        raise FileNotFoundError(f"{file}: no such {kind}")
    # A declined label need not exist in the format, and None is the default of units.
    optional = {*UNIT_OPTIONS, *LABEL_KEYS} - {*facts.keys}
    options: dict[str, Any] = {k: v for k, v in given.items() if v or k not in optional}
    _check_names(facts, options)
    options |= {k: local_path(options[k]) for k in facts.path_options if options.get(k)}
    if facts.fixes_units:
        _check_units(facts, options)
    if options.get("split") is not None and facts.splits == "none":
        raise ReadError(
            f"{file}: files of the format {name!r} have no splits of their own; leave split out"
            " and divide what is read (atomjax.structures.split_indices)"
        )
    notes = RecordNotes() if notes is None else notes
    return file, facts, facts.options(**options, notes=notes)


def _open(file: Path, facts: Format, options: ReadOptions) -> Records | StructureFile:
    records = facts.records(file, options)
    if isinstance(records, StructureFile):
        if facts.splits == "parts":
            records.choose(options.split)
        _warn_of_excluded(records)
    return records


def _check_names(facts: Format, options: dict[str, Any]) -> None:
    passed_over = {"notes", *LABEL_KEYS} - {*facts.keys}
    known = [f.name for f in dataclasses.fields(facts.options) if f.name not in passed_over]
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ReadError(
                f"the format {facts.name!r} has no option {key!r}; {hint}Options:"
                f" {', '.join(known)}"
            )


def _check_units(facts: Format, options: dict[str, Any]) -> None:
    for key in UNIT_OPTIONS:
        fixed = getattr(facts, key)
        if key in options and options[key] != fixed:
            raise ReadError(
                f"{key}={options[key]!r}: the format {facts.name!r} fixes its units"
                f" ({facts.energy_unit}, {facts.length_unit}); leave {key} out"
            )


def _warn_of_excluded(records: StructureFile) -> None:
    if records.excluded:
        listed = "; ".join(f"{count}: {reason}" for reason, count in records.excluded.items())
        warnings.warn(
            f"{records.path}: records left out by the rules of the data set: {listed}",
            SkippedRecordsWarning,
            stacklevel=4,
        )
