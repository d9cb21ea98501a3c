"""Shards: the records of a run of structures in one file, and beside it their index data.

    records/<shard>.bin     the records one after the other
    parts/<shard>.npz       index rows, groups, statistics and what was left out; until merged

A shard is written under another name and renamed when complete, its ``.npz`` last, so a shard
whose ``.npz`` is there is whole. It holds nothing but what its structures decide: no times, no
names of machines, so making it again gives the same bytes.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.runtime.files import read_npz, replacing, write_npz
from atomjax.structures.readers.layouts.label_keys import RecordNotes
from atomjax.structures.readers.layouts.records import SkippedRecord
from atomjax.structures.store.records import Group, Precision, encode
from atomjax.structures.store.statistics import StatisticsAccumulator
from atomjax.structures.structure import Structure

RECORDS, PARTS, INDEX = "records", "parts", "index"
# Columns of the index; "offset" has one entry more, the end of the last record.
COLUMNS = {
    "n_atom": np.dtype("<u4"),
    "flags": np.dtype("u1"),
    "energy": np.dtype("<f8"),
    "checksum": np.dtype("<u4"),
    "group": np.dtype("<u4"),
}
OFFSET = np.dtype("<u8")
HEADER = 128


def column_header(dtype: np.dtype, length: int) -> bytes:
    """The first bytes of a column's file: numpy's format 1.0, always as long.

    By hand, since numpy writes it only when it has the whole array.
    """
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': ({length},), }}"
    head = b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little")
    return head + text.ljust(HEADER - 11).encode() + b"\n"


def shard_exists(directory: Path, name: str) -> bool:
    """Whether a shard is there, whole."""
    return part_path(directory, name).exists()


def records_path(directory: Path, name: str) -> Path:
    """The file of a shard's records."""
    return directory / RECORDS / f"{name}.bin"


def part_path(directory: Path, name: str) -> Path:
    """The file of a shard's index data."""
    return directory / PARTS / f"{name}.npz"


def write_shard(
    directory: Path,
    name: str,
    structures: Iterable[Structure],
    precision: Precision,
    skipped: list[SkippedRecord],
    notes: RecordNotes | None = None,
) -> int:
    """Write structures as one shard.

    Args:
        directory: directory of the store.
        name: name of the shard; shards are put together in the order of their names.
        structures: structures of the shard.
        precision: type of positions and forces.
        skipped: records left out, complete when `structures` is at its end.
        notes: contents of the records beside the labels read, complete likewise.

    Returns:
        The number of structures.
    """
    columns: dict[str, list[Any]] = {column: [] for column in COLUMNS}
    groups: dict[Group, int] = {}
    ends, digest, statistics = [0], hashlib.sha256(), StatisticsAccumulator()
    with replacing(records_path(directory, name)) as file:
        for structure in structures:
            group, row, record = encode(structure, precision)
            file.write(record)
            digest.update(record)
            statistics.add(structure)
            ends.append(ends[-1] + len(record))
            for column in ("n_atom", "flags", "energy", "checksum"):
                columns[column].append(getattr(row, column))
            columns["group"].append(groups.setdefault(group, len(groups)))
    facts = {
        "groups": list(groups),
        "sha256": digest.hexdigest(),
        "skipped": [[record.identifier, record.reason] for record in skipped],
        "notes": (RecordNotes() if notes is None else notes).to_dict(),
    }
    arrays = {column: np.array(columns[column], kind) for column, kind in COLUMNS.items()}
    arrays["offset"] = np.array(ends, OFFSET)
    arrays["facts"] = np.array(json.dumps(facts, ensure_ascii=False))
    write_npz(part_path(directory, name), {**arrays, **statistics.arrays()})
    return len(ends) - 1


def read_part(directory: Path, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Index data of a shard, as `write_shard` wrote it.

    Returns:
        The arrays (columns, "offset" and those of the statistics), and "groups", "sha256",
        "skipped" and "notes".

    Raises:
        FileNotFoundError: the shard is not there.
        DamagedFile: it is damaged.
    """
    path = part_path(directory, name)
    arrays = read_npz(path, "delete it and run the conversion again, which makes this shard again")
    return arrays, json.loads(str(arrays.pop("facts")))
