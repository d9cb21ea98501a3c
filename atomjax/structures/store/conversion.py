"""Files of any format that can be read → a store; in parallel, over machines, resumable.

The records of each file are cut into shards of a fixed number of records. Machine i of n takes the
shards whose number is i modulo n, and deals them out to its worker processes in the same way, so a
shard's content depends on nothing but the files and the plan. What is there, whole, is not made
again.
"""

import dataclasses
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from atomjax.runtime.allocator import keep_freed_memory
from atomjax.runtime.progress import Display
from atomjax.runtime.subprocesses import WorkerError, run_workers, serve, tell
from atomjax.structures.readers import Format, RecordNotes, find_format, guess_format, open_records
from atomjax.structures.readers.layouts.records import ReadError, SkippedRecord, structures_from
from atomjax.structures.readers.layouts.structure_file import StructureFile
from atomjax.structures.store.merge import StoreError
from atomjax.structures.store.plan import (
    ENERGY_KINDS,
    Conversion,
    as_origin,
    begin,
    compare_files,
    compare_finished,
    finish_share,
    is_finished,
    merge,
)
from atomjax.structures.store.shards import shard_exists, write_shard
from atomjax.structures.store.store import Store
from atomjax.structures.structure import Structure
from atomjax.structures.units import UnitError

DECLARE = {
    "energy_unit": "--option energy_unit=eV (or another)",
    "length_unit": "--option length_unit=Å (or another)",
    "energy_kind": f"--energy-kind, one of {', '.join(ENERGY_KINDS)}",
}
# Records between two signs of life of a worker.
_TOLD_EVERY = 256

Parse = Callable[[], Structure]


def convert(
    conversion: Conversion,
    directory: str | os.PathLike[str],
    *,
    shard: tuple[int, int] = (0, 1),
    workers: int = 1,
    display: Display | None = None,
) -> Store | None:
    """Convert files to a store, going on where an earlier call was interrupted.

    Args:
        conversion: files to convert, with options.
        directory: directory of the store.
        shard: (i, n): the part of machine i of n; with n > 1 `merge` follows.
        workers: processes.
        display: shows progress.

    Returns:
        The store, or None for one share of several.

    Raises:
        StoreError: the folder holds something else, or a source cannot be read or changes.
        DamagedFile: a file of an unfinished conversion is damaged.
    """
    target, (part, parts) = Path(directory), shard
    if not 0 <= part < parts or workers < 1:
        raise StoreError(
            f"shard {part}/{parts} and {workers} workers: give 0 <= i < n, workers > 0"
        )
    finished = compare_finished(target, conversion)
    if finished is not None:
        return finished
    conversion = with_declarations(conversion)
    total = count_records(conversion)
    begin(target, conversion)
    if not is_finished(target, shard):
        try:
            shards = _run(conversion, target, shard, workers, total, display or Display(None))
        except StoreError:
            # A file that changes while it is read may look like anything.
            compare_files(target)
            raise
        finish_share(target, shard, shards)
    return merge(target) if parts == 1 else None


def _run(
    conversion: Conversion,
    target: Path,
    shard: tuple[int, int],
    workers: int,
    total: int,
    display: Display,
) -> list[str]:
    """Have the shards of one machine made; their names."""
    shards: list[str] = []
    skipped = 0

    with display.track(total // shard[1], "convert") as tracker:

        def told(line: dict[str, Any]) -> None:
            nonlocal skipped
            shards.extend(line.get("shards", ()))
            if "records" in line:
                skipped += line["skipped"]
                tracker.advance(line["records"], skipped=skipped)

        plan = {**as_origin(conversion), "directory": str(target.absolute()), "shard": shard}
        requests = [{**plan, "worker": (w, workers)} for w in range(workers)]
        try:
            run_workers(__name__ + "_worker", requests, told)
        except WorkerError as error:
            raise StoreError(str(error)) from error
    return shards


def count_records(conversion: Conversion) -> int:
    """Number of records; files without random access are scanned for it."""
    total = 0
    for path in conversion.paths:
        records = open_source(conversion, path)
        known = isinstance(records, StructureFile)
        try:
            total += len(records) if known else sum(1 for _ in records)
        except (ValueError, OSError) as error:
            raise StoreError(str(error)) from error
    return total


def with_declarations(conversion: Conversion) -> Conversion:
    """The same with units and the kind of energy as its files or their format have them.

    Raises:
        StoreError: neither they nor the conversion say.
    """
    for path in conversion.paths:
        try:
            facts = find_format(conversion.source or guess_format(Path(path)) or "") or Format()
        except ReadError as error:
            raise StoreError(str(error)) from error
        options = dict(conversion.options)
        kind = conversion.energy_kind or options.get("energy_kind")
        guessed = conversion.source is None
        if not (guessed and len(facts.energy_kinds) > 1):
            kind = kind or next(iter(facts.energy_kinds), None)
        if kind == "none":
            options.setdefault("energy_key", "")
        elif options.get("energy_key") == "":
            kind = kind or "none"
        elif conversion.energy_kind is not None and len(facts.energy_kinds) > 1:
            options["energy_kind"] = kind
        conversion = dataclasses.replace(conversion, options=options, energy_kind=kind)
        notes = RecordNotes()
        open_source(conversion, path, notes)
        if not facts.fixes_units:
            options = {**notes.units, **options}
            conversion = dataclasses.replace(conversion, options=options)
        missing = facts.undeclared({**options, "energy_kind": kind}, guessed=guessed)
        if missing:
            listed = ", ".join(DECLARE[name] for name in missing)
            raise StoreError(
                f"{path}: neither the file nor its format says its {' and '.join(missing)};"
                f" declare: {listed}"
            )
    return conversion


def open_source(conversion: Conversion, path: str, notes: RecordNotes | None = None) -> Any:
    """The records of one file.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        return open_records(path, conversion.source, notes=notes, **conversion.options)
    except (ReadError, UnitError, OSError) as error:
        raise StoreError(str(error)) from error


def work(request: dict[str, Any]) -> None:
    """Make the shards of one worker; reports the records done, and at the end the shards' names."""
    target = Path(request.pop("directory"))
    shard, worker = request.pop("shard"), request.pop("worker")
    conversion = Conversion(**{**request, "paths": tuple(request["paths"])})
    tell(shards=make_shards(conversion, target, shard, worker, tell))


def make_shards(
    conversion: Conversion,
    target: Path,
    shard: tuple[int, int],
    worker: tuple[int, int] = (0, 1),
    told: Callable[..., None] = lambda **_: None,
) -> list[str]:
    """Make those shards of a conversion that are not there yet.

    Args:
        conversion: files to convert, with options.
        target: folder of the store.
        shard: (i, n): machine i of n.
        worker: (i, n): its worker i of n.
        told: called with the records done and left out since the last call.

    Returns:
        Names of all shards of this worker.
    """
    (part, parts), (number_of, workers) = shard, worker
    names = []
    for place, path in enumerate(conversion.paths):
        notes = RecordNotes()
        source = open_source(conversion, path, notes)
        for number, records in _runs(source, conversion.shard_size):
            turn, machine = divmod(number, parts)
            if machine != part or turn % workers != number_of:
                continue
            names.append(f"{place:04d}-{number:06d}")
            if shard_exists(target, names[-1]):
                told(records=conversion.shard_size, skipped=0)
                continue
            skipped: list[SkippedRecord] = []
            notes.clear()
            read = structures_from(records, conversion.on_error, skipped, notes)
            structures = _counted(read, skipped, told)
            write_shard(target, names[-1], structures, conversion.precision, skipped, notes)
    return names


def _counted(
    structures: Iterator[Structure], skipped: list[SkippedRecord], told: Callable[..., None]
) -> Iterator[Structure]:
    """The same, telling on the way how far it is."""
    done = before = 0
    for structure in structures:
        yield structure
        done += 1
        if done == _TOLD_EVERY:
            told(records=done + len(skipped) - before, skipped=len(skipped) - before)
            done, before = 0, len(skipped)
    told(records=done + len(skipped) - before, skipped=len(skipped) - before)


def _runs(records: Any, size: int) -> Iterator[tuple[int, Iterator[tuple[str, Parse]]]]:
    """Numbered runs of records; records left over are skipped unparsed."""
    if isinstance(records, StructureFile):
        for number, start in enumerate(range(0, len(records), size)):
            yield number, records.records(start, start + size)
        return
    stream = iter(records)
    for number in itertools.count():
        try:
            first = next(stream, None)
        except ValueError as error:
            raise StoreError(str(error)) from error
        if first is None:
            return
        run = itertools.chain([first], itertools.islice(stream, size - 1))
        yield number, run
        deque(run, maxlen=0)


def main() -> None:
    """A worker process."""
    keep_freed_memory()
    serve(work, ValueError)
