"""The plan of a conversion, which lies in the folder while it is unfinished, and its end.

Two runs that disagree on files, their content or options do not mix.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from atomjax.runtime.files import read_json, replacing, write_json
from atomjax.structures.readers.checks.file_state import file_state
from atomjax.structures.store.merge import MANIFEST, StoreError, merge_shards, remove_parts
from atomjax.structures.store.records import Precision
from atomjax.structures.store.shards import PARTS
from atomjax.structures.store.store import Store
from atomjax.structures.store.writing import SHARD_SIZE

_PLAN = "plan.json"
_MEND = "delete it and convert again, which keeps what is whole"
ENERGY_KINDS = ("total", "referenced", "adsorption", "none")
# Options that a conversion fills in where its files or its own fields give them.
FILLED_IN = ("energy_unit", "length_unit", "force_unit", "energy_kind", "energy_key")


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """Files to convert, with options; a store keeps it as its origin."""

    paths: tuple[str, ...]  # the files, or folders where the format has folders
    source: str | None = None  # the format; None guesses it from the names
    # Reader options, such as {"split": "train"}; JSON values. Units that the format leaves open and
    # the files do not state must be there: energy_unit, length_unit.
    options: Mapping[str, Any] = field(default_factory=dict)
    # Kind of the energies: "total", "referenced", "adsorption" or "none"; required where the format
    # leaves it open.
    energy_kind: str | None = None
    # "skip" leaves damaged records out, counts and lists them; "raise" stops.
    on_error: Literal["raise", "skip"] = "raise"
    # Type of positions and forces; energies and cells keep float64.
    precision: Precision = "float32"
    shard_size: int = SHARD_SIZE  # records of a shard

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


def compare_finished(target: Path, conversion: Conversion) -> Store | None:
    """The store that a conversion made before, or None where it is not finished.

    Raises:
        StoreError: the folder holds another conversion, or one of files that changed since.
    """
    if not (target / MANIFEST).exists():
        return None
    store = Store(target)
    origin = dict(store.manifest["origin"])
    # Stores of before know no sizes.
    sizes = origin.pop("sizes", {})
    _compare(target, origin, as_origin(conversion))
    _compare_sources(target, sizes)
    remove_parts(target)
    return store


def finish_share(target: Path, shard: tuple[int, int], shards: Sequence[str]) -> None:
    """Note that a share is whole, and the names of the shards it is made of.

    Raises:
        StoreError: a file changed since the conversion began.
    """
    compare_files(target)
    with replacing(_marker(target, shard)) as file:
        file.write(json.dumps(sorted(shards)).encode())


def is_finished(target: Path, shard: tuple[int, int]) -> bool:
    """Check whether a share is whole."""
    return _marker(target, shard).exists()


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
    origin["sizes"] = {path: size for path, (size, _) in origin.pop("files", {}).items()}
    merge_shards(target, shards, origin["precision"], origin)
    return Store(target)


def begin(target: Path, conversion: Conversion) -> None:
    """Write the plan, or compare it with the one that is there.

    Raises:
        StoreError: the folder holds something else, or a file changed since the plan was written.
    """
    origin = as_origin(conversion)
    plan = target / PARTS / _PLAN
    if plan.exists():
        found = read_json(plan, _MEND)
        found.pop("files", None)
        _compare(target, found, origin)
        compare_files(target)
        return
    if target.exists() and any(path for path in target.iterdir() if path.name != PARTS):
        raise StoreError(f"{target} is not empty and holds no conversion; give a new folder")
    files = {path: _state(Path(path))[:2] for path in conversion.paths}
    write_json(plan, {**origin, "files": files})


def as_origin(conversion: Conversion) -> dict[str, Any]:
    """A conversion as JSON."""
    return json.loads(json.dumps(dataclasses.asdict(conversion)))


def compare_files(target: Path) -> None:
    """Raise StoreError where files of an unfinished conversion changed since its plan was made."""
    # Plans of before have none.
    for path, (size, state) in read_json(target / PARTS / _PLAN, _MEND).get("files", {}).items():
        now, state_now, _ = _state(Path(path))
        _refuse_change(target, path, size, now, state != state_now)


def _compare_sources(target: Path, sizes: Mapping[str, int]) -> None:
    """Compare the files that a store was made of, where they are here, with it."""
    written = (target / MANIFEST).stat().st_mtime_ns
    for path in filter(os.path.exists, sizes):
        now, _, latest = _state(Path(path))
        _refuse_change(target, path, sizes[path], now, latest > written)


def _refuse_change(target: Path, path: str, before: int, now: int, changed: bool) -> None:
    """Raise where a file has another size in bytes, or changed otherwise."""
    if before == now and not changed:
        return
    change = "was written to" if before == now else f"had {before:,} bytes and has {now:,}"
    raise StoreError(
        f"{path} {change} since it was converted to {target}, which holds what was there before;"
        " delete that folder, or give another --out"
    )


def _state(path: Path) -> tuple[int, str, int]:
    """Bytes of a file or folder, a digest of names, sizes and times in it, and the last time."""
    state = {name: (size, time) for name, (size, time, _) in file_state(path).items()}
    digest = hashlib.blake2b(json.dumps(state).encode(), digest_size=16).hexdigest()
    sizes, times = zip(*state.values(), strict=True) if state else ((), ())
    return sum(sizes), digest, max(times, default=0)


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
