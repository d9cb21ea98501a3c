"""Shards put together: one index over all of them, and the manifest that makes a folder a store."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from atomjax.runtime.files import DamagedFile, replacing, write_json
from atomjax.structures.readers.layouts.label_keys import RecordNotes
from atomjax.structures.store.records import target_names
from atomjax.structures.store.shards import (
    COLUMNS,
    HEADER,
    INDEX,
    OFFSET,
    PARTS,
    RECORDS,
    column_header,
    read_part,
    records_path,
)
from atomjax.structures.store.statistics import StatisticsAccumulator

FORMAT = "atomjax-store-1"
MANIFEST = "manifest.json"
GROUPS = "groups.json"
_SHOWN = 10


class StoreError(ValueError):
    """A folder that is no store, or a damaged or unfinished one; the message names the remedy."""


def merge_shards(
    directory: Path, shards: Sequence[str], precision: str, origin: Mapping[str, Any]
) -> dict[str, Any]:
    """Make a store of the shards in `directory`.

    Returns:
        The manifest, as written.

    Raises:
        StoreError: a shard is missing, or there is no structure.
    """
    statistics, groups = StatisticsAccumulator(), {}
    listed, skipped, end, notes = [], [], 0, RecordNotes()
    with contextlib.ExitStack() as stack:
        columns = {name: stack.enter_context(_column(directory, name)) for name in COLUMNS}
        offset = stack.enter_context(_column(directory, "offset"))
        offset.append(np.zeros(1, OFFSET))
        for name in shards:
            arrays, facts = _read(directory, name)
            numbers = [groups.setdefault(_group(group), len(groups)) for group in facts["groups"]]
            arrays["group"] = np.array(numbers, COLUMNS["group"])[arrays["group"]]
            for column, file in columns.items():
                file.append(arrays[column])
            offset.append(arrays["offset"][1:] + OFFSET.type(end))
            size, count = int(arrays["offset"][-1]), len(arrays["n_atom"])
            end += size
            statistics.merge(arrays)
            skipped += facts["skipped"]
            notes.merge(facts.get("notes", RecordNotes().to_dict()))
            listed.append(
                {"name": name, "structures": count, "bytes": size, "sha256": facts["sha256"]}
            )
        if not len(columns["n_atom"]):
            raise StoreError(f"{directory}: no structure could be read; {_reasons(skipped)}")
    with replacing(directory / INDEX / GROUPS) as file:
        file.write(json.dumps([list(group) for group in groups], ensure_ascii=False).encode())
    files = [*(f"{name}.npy" for name in ("offset", *COLUMNS)), GROUPS]
    manifest = {
        "format": FORMAT,
        "units": {"energy": "eV", "length": "Å", "forces": "eV/Å"},
        "precision": precision,
        "origin": dict(origin),
        "statistics": statistics.summary(),
        "skipped": {"count": len(skipped), "first": skipped[:_SHOWN]},
        "notes": notes.to_dict(),
        "shards": listed,
        "index": {file: sha256(directory / INDEX / file) for file in files},
    }
    write_json(directory / MANIFEST, manifest)
    remove_parts(directory)
    return manifest


def remove_parts(directory: Path) -> None:
    """Remove files that only an unfinished store needs, and leftovers of killed processes."""
    shutil.rmtree(directory / PARTS, ignore_errors=True)
    for folder in (directory, directory / RECORDS, directory / INDEX):
        for left in folder.glob(".*"):
            left.unlink()


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Column:
    """A ``.npy`` file that grows; its length is written when it is complete."""

    def __init__(self, file: BinaryIO, dtype: np.dtype):
        self._file, self._dtype, self._length = file, dtype, 0
        file.write(bytes(HEADER))

    def __len__(self) -> int:
        return self._length

    def append(self, values: np.ndarray) -> None:
        self._file.write(values.astype(self._dtype, copy=False).tobytes())
        self._length += len(values)

    def finish(self) -> None:
        self._file.seek(0)
        self._file.write(column_header(self._dtype, self._length))


@contextlib.contextmanager
def _column(directory: Path, name: str) -> Iterator[_Column]:
    with replacing(directory / INDEX / f"{name}.npy") as file:
        column = _Column(file, COLUMNS.get(name, OFFSET))
        yield column
        column.finish()


def _read(directory: Path, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        arrays, facts = read_part(directory, name)
        size = records_path(directory, name).stat().st_size
    except FileNotFoundError as error:
        raise StoreError(
            f"{directory}: shard {name} is missing ({error.filename}); run the conversion again"
            " (what is there is kept), or copy the folders of the other machines here"
        ) from error
    except DamagedFile as error:
        raise StoreError(str(error)) from error
    if size != int(arrays["offset"][-1]):
        raise StoreError(
            f"{directory}: shard {name} has {size} bytes, its index {int(arrays['offset'][-1])};"
            f" delete {PARTS}/{name}.npz and run the conversion again"
        )
    return arrays, facts


def _group(group: Sequence[Any]) -> tuple[Any, ...]:
    *texts, targets = group
    return (*texts, target_names(targets))


def _reasons(skipped: Sequence[Sequence[str]]) -> str:
    if not skipped:
        return "the source is empty"
    return f"{len(skipped)} records were left out, the first: {': '.join(skipped[0])}"
