"""Files of any format that can be read → a store; in parallel, over machines, resumable.

The records of each file are cut into shards of a fixed number of records. Machine i of n takes the
shards whose number is i modulo n, and deals them out to its worker processes in the same way, so a
shard's content depends on nothing but the files and the plan. What is there, whole, is not made
again. The plan lies in the folder while it is unfinished: two runs that disagree do not mix.
"""

import dataclasses
import itertools
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from atomjax.runtime.allocator import keep_freed_memory
from atomjax.runtime.files import read_json, replacing, write_json
from atomjax.runtime.progress import Display
from atomjax.structures.readers import Format, RecordNotes, find_format, guess_format, open_records
from atomjax.structures.readers.layouts.records import ReadError, SkippedRecord, structures_from
from atomjax.structures.readers.layouts.structure_file import StructureFile
from atomjax.structures.store.merge import MANIFEST, StoreError, merge_shards, remove_parts
from atomjax.structures.store.processes import WorkerError, run_workers, serve, tell
from atomjax.structures.store.records import Precision
from atomjax.structures.store.shards import PARTS, shard_exists, write_shard
from atomjax.structures.store.store import Store
from atomjax.structures.store.writing import SHARD_SIZE
from atomjax.structures.structure import Structure
from atomjax.structures.units import UnitError

_PLAN = "plan.json"
_MEND = "delete it and convert again, which keeps what is whole"
ENERGY_KINDS = ("total", "referenced", "adsorption", "none")
# Options that a conversion fills in where its files or its own fields give them.
FILLED_IN = ("energy_unit", "length_unit", "force_unit", "energy_kind", "energy_key")
DECLARE = {
    "energy_unit": "--option energy_unit=eV (or another)",
    "length_unit": "--option length_unit=Å (or another)",
    "energy_kind": f"--energy-kind, one of {', '.join(ENERGY_KINDS)}",
}
# Records between two signs of life of a worker.
_TOLD_EVERY = 256

Parse = Callable[[], Structure]


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """Files to convert, with options; a store keeps it as its origin.

    Attributes:
        paths: the files, or folders where the format has folders.
        source: the format; None guesses it from the names.
        options: reader options, such as {"split": "train"}; JSON values. Units that the format
            leaves open and the files do not state must be there: energy_unit, length_unit.
        energy_kind: kind of the energies: "total", "referenced", "adsorption" or "none"; required
            where the format leaves it open.
        on_error: "skip" leaves damaged records out, counts and lists them; "raise" stops.
        precision: type of positions and forces; energies and cells keep float64.
        shard_size: records of a shard.
    """

    paths: tuple[str, ...]
    source: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    energy_kind: str | None = None
    on_error: Literal["raise", "skip"] = "raise"
    precision: Precision = "float32"
    shard_size: int = SHARD_SIZE

    def __post_init__(self) -> None:
        if not self.paths:
            raise StoreError("a conversion needs a path")
        if self.energy_kind not in (None, *ENERGY_KINDS):
            known = ", ".join(ENERGY_KINDS)
            raise StoreError(f"energy_kind is {self.energy_kind!r}; write one of {known}")
        if self.shard_size < 1:
            raise StoreError(f"shard_size is {self.shard_size}; give at least 1")
        if self.on_error not in ("raise", "skip"):
            raise StoreError(f"on_error is {self.on_error!r}; write 'raise' or 'skip'")


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
        StoreError: the folder holds something else, or a source cannot be read.
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
    if not _marker(target, shard).exists():
        shards = _run(conversion, target, shard, workers, total, display or Display(None))
        finish_share(target, shard, shards)
    return merge(target) if parts == 1 else None


def compare_finished(target: Path, conversion: Conversion) -> Store | None:
    """The store that a conversion made before, or None where it is not finished.

    Raises:
        StoreError: the folder holds another conversion.
    """
    if not (target / MANIFEST).exists():
        return None
    store = Store(target)
    _compare(target, store.manifest["origin"], _as_origin(conversion))
    remove_parts(target)
    return store


def finish_share(target: Path, shard: tuple[int, int], shards: Sequence[str]) -> None:
    """Note that a share is whole, and the names of the shards it is made of."""
    with replacing(_marker(target, shard)) as file:
        file.write(json.dumps(sorted(shards)).encode())


def _marker(target: Path, shard: tuple[int, int]) -> Path:
    return target / PARTS / f"done-{shard[0]}-of-{shard[1]}.json"


def merge(directory: str | os.PathLike[str]) -> Store:
    """Make a store of the shares that `convert` made on several machines.

    Raises:
        StoreError: a share is missing.
        DamagedFile: a file of an unfinished conversion is damaged.
    """
    target = Path(directory)
    if (target / MANIFEST).exists():
        return Store(target)
    done = sorted((target / PARTS).glob("done-*-of-*.json"))
    if not done:
        raise StoreError(f"{target} holds no finished share of a conversion; run it first")
    parts = {int(path.stem.split("-")[-1]) for path in done}
    if len(parts) > 1:
        raise StoreError(f"{target} holds shares of divisions into {sorted(parts)}; delete it")
    total = parts.pop()
    missing = set(range(total)) - {int(path.stem.split("-")[1]) for path in done}
    if missing:
        listed = ", ".join(f"--shard {i}/{total}" for i in sorted(missing))
        raise StoreError(f"{target}: shares are missing: run {listed}, or copy their files here")
    shards = sorted(name for path in done for name in read_json(path, _MEND))
    origin = read_json(target / PARTS / _PLAN, _MEND)
    merge_shards(target, shards, origin["precision"], origin)
    return Store(target)


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

        plan = {**_as_origin(conversion), "directory": str(target.absolute()), "shard": shard}
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
        facts = find_format(conversion.source or guess_format(Path(path)) or "") or Format()
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

    Args:
        conversion: files to convert, with options.
        path: one of its paths.
        notes: takes the contents of the records beside the labels read.

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


def begin(target: Path, conversion: Conversion) -> None:
    """Write the plan, or compare it with the one that is there.

    Raises:
        StoreError: the folder holds something else.
    """
    origin = _as_origin(conversion)
    plan = target / PARTS / _PLAN
    if plan.exists():
        _compare(target, read_json(plan, _MEND), origin)
        return
    if target.exists() and any(path for path in target.iterdir() if path.name != PARTS):
        raise StoreError(f"{target} is not empty and holds no conversion; give a new folder")
    write_json(plan, origin)


def _as_origin(conversion: Conversion) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(conversion)))


def _compare(target: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    # Options that the files stated, or that an older version did not require, may be left out.
    stated = {k: v for k, v in found.get("options", {}).items() if k in FILLED_IN}
    asked = {**asked, "options": {**stated, **asked["options"]}}
    if asked["energy_kind"] is None or "energy_kind" not in found:
        asked = {**asked, "energy_kind": found.get("energy_kind")}
    keys: Sequence[str] = sorted(found.keys() | asked.keys())
    changed = [
        f"{key} was {found.get(key)!r}, is {asked.get(key)!r}"
        for key in keys
        if found.get(key) != asked.get(key)
    ]
    if changed:
        raise StoreError(
            f"{target} holds another conversion: {'; '.join(changed)}; give another --out, or"
            " delete the folder"
        )


def main() -> None:
    """A worker process."""
    keep_freed_memory()
    serve(work, ValueError)
