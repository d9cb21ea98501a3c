"""A full check of files that this project did not write, in processes of their own.

Damage that a format cannot tell may end a process that reads it; then it ends that one alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atomjax.runtime.subprocesses import WorkerError, run_workers, serve, tell
from atomjax.structures.readers import RecordNotes, StructureFile, open_records
from atomjax.structures.readers.checks.file_state import unchanged
from atomjax.structures.readers.checks.lmdb_pages import check_pages
from atomjax.structures.readers.layouts.label_keys import describe_empty
from atomjax.structures.readers.layouts.lmdb_shards import find_shards
from atomjax.structures.readers.layouts.records import SkippedRecord, structures_from
from atomjax.structures.store.merge import MANIFEST, StoreError
from atomjax.structures.store.store import Store

LMDB = (".lmdb", ".aselmdb")
_SHOWN = 10


def check(path: str, source: str | None, options: Mapping[str, Any]) -> str:
    """Read every record of a file, or of a store, and compare what can be compared.

    Args:
        path: path of the file or folder.
        source: its format; None guesses it from the name.
        options: options of the reader.

    Returns:
        A line that sums up the content.

    Raises:
        StoreError: something is damaged; the message lists the first records.
    """
    records, left_out, damaged = 0, [], []

    def told(line: dict[str, Any]) -> None:
        nonlocal records
        records += line["records"]
        left_out.extend(line["left_out"])
        damaged.extend(line["damaged"])

    request = {"path": path, "source": source, "options": dict(options)}
    try:
        run_workers(__name__, [request], told)
    except WorkerError as error:
        raise StoreError(f"{path}: {error}") from error
    also = "".join(f"; {said}" for said in left_out)
    if damaged:
        listed = "".join(f"\n  {who}: {why}" for who, why in damaged[:_SHOWN])
        raise StoreError(f"{path}: {len(damaged)} of {records} records are damaged{also}:{listed}")
    if not records:
        raise StoreError(f"{path}: holds no readable structure{also}")
    return f"{path}: all {records:,} records can be read{also}"


def work(request: dict[str, Any]) -> None:
    """Check one file or folder; reports the records read or left out, and errors of some."""
    path = Path(request["path"])
    if (path / MANIFEST).exists():
        store = Store(path)
        store.verify()
        tell(records=sum(1 for _ in store), left_out=[], damaged=[])
        return
    if path.name.endswith(LMDB) or (path.is_dir() and any(path.glob("*lmdb"))):
        for shard in find_shards(path, LMDB):
            check_pages(shard, most=None)
    damaged, left_out, notes = list[SkippedRecord](), list[str](), RecordNotes()
    with unchanged(path):
        records = open_records(path, request["source"], **request["options"])
        if isinstance(records, StructureFile):
            excluded = records.excluded.items()
            left_out += [f"{count:,} left out by the format: {why}" for why, count in excluded]
            records = records.records()
        read = sum(1 for _ in structures_from(records, "skip", damaged, notes))
    left_out += [describe_empty(notes.empty)] if notes.empty else []
    listed = [[record.identifier, record.reason] for record in damaged]
    tell(records=read + len(damaged), left_out=left_out, damaged=listed)


if __name__ == "__main__":
    serve(work, ValueError)
