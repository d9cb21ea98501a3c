"""A store: a sequence of structures on disk, read on access, in any order."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self, overload

import numpy as np

from atomjax.runtime.files import PARSE_ERRORS, DamagedFile, read_json
from atomjax.structures.element_fit import LEAST_FORCE
from atomjax.structures.readers.layouts.structure_file import PerProcess
from atomjax.structures.references import References
from atomjax.structures.store.merge import FORMAT, GROUPS, MANIFEST, StoreError, sha256
from atomjax.structures.store.records import (
    FIRST_PBC,
    FLOATS,
    LABELS,
    Group,
    Label,
    Row,
    decode,
    target_names,
)
from atomjax.structures.store.shards import (
    COLUMNS,
    INDEX,
    OFFSET,
    column_header,
    records_path,
)
from atomjax.structures.store.statistics import StatisticsAccumulator
from atomjax.structures.structure import Structure

MEND = "copy the store again, or convert the data set again"
# Structures of a part that are read for its rare elements: about a minute.
MOST_READ = 2_000_000


class Store(Sequence[Structure]):
    """The structures of a store, or some of them.

    The index is mapped, not read, and records are read from their files at each access: the
    memory of a process does not grow with the set. Threads may share an instance, and it can
    be sent to other processes. A column of the index is compared with its checksum when a process
    first reads it; the checksum of a record covers its own index entry.

    Args:
        path: folder that ``python -m atomjax.structures.convert`` made.

    Raises:
        StoreError: there is no store, it is not finished, or its index is damaged.

    Attributes:
        path: the folder.
        manifest: content of ``manifest.json``: statistics, origin, shards, checksums.
        indices: [S] numbers of the structures in the store, None for all.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path).absolute()
        self.manifest = _read_manifest(self.path)
        self.indices: np.ndarray | None = None
        self._statistics: dict[int, StatisticsAccumulator] = {}
        # Manifests of before checksums may hold anything.
        try:
            shards = self.manifest["shards"]
            self._bounds = np.cumsum([0, *(int(shard["structures"]) for shard in shards)])
            self._begins = np.cumsum([0, *(int(shard["bytes"]) for shard in shards)]).tolist()
            self._names: list[str] = [str(shard["name"]) for shard in shards]
            self._precision = self.manifest["precision"]
            _ = FLOATS[self._precision], self.manifest["index"][GROUPS], self.manifest["statistics"]
        except PARSE_ERRORS as error:
            raise StoreError(f"{self.path / MANIFEST} is damaged ({error!r}); {MEND}") from error
        self._opened = PerProcess(self._open)
        self._index = self._opened.get()

    def __getstate__(self) -> dict[str, Any]:
        # Paths and numbers travel; maps and files are opened where they arrive.
        return {"path": self.path, "indices": self.indices, "index": self.manifest["index"]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])
        self.indices = state["indices"]
        _compare_index(self.path, state["index"], self.manifest["index"])

    def __len__(self) -> int:
        return int(self._bounds[-1]) if self.indices is None else len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Structure: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Structure | Self:
        """One structure, or a part of the store.

        Raises:
            IndexError: beyond the end.
            StoreError: the record is damaged.
        """
        if isinstance(index, slice):
            return self.subset(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.path}: index {index} of {len(self)} structures")
        index = index % len(self)
        return self._read(index if self.indices is None else int(self.indices[index]))

    def __iter__(self) -> Iterator[Structure]:
        for index in range(len(self)):
            yield self[index]

    def subset(self, indices: np.ndarray) -> Self:
        """Some of these structures, in the order of `indices` [S]."""
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        part._statistics = {}
        chosen = np.asarray(indices, dtype=np.int64)
        part.indices = chosen if self.indices is None else self.indices[chosen]
        return part

    def sample(self, count: int, seed: int = 0) -> Self:
        """At most `count` structures, drawn at random, in their order here."""
        if count >= len(self):
            return self
        rng = np.random.default_rng([seed, 0x5708E])
        return self.subset(np.sort(rng.choice(len(self), count, replace=False)))

    @property
    def n_atom(self) -> np.ndarray:
        """[S] numbers of atoms, from the index."""
        return self._column("n_atom")

    @property
    def energies(self) -> np.ndarray:
        """[S] energies, eV, zero where there is none, from the index."""
        return self._column("energy")

    @property
    def checksums(self) -> np.ndarray:
        """[S] checksums of the records, from the index."""
        return self._column("checksum")

    @property
    def class_ids(self) -> np.ndarray:
        """[S] place of each structure's class key in `class_keys`, from the index."""
        return self._index.group_class[self._column("group")]

    @property
    def class_keys(self) -> list[str]:
        """The class keys of the whole store, sorted."""
        return self._index.class_keys

    @property
    def periodic(self) -> np.ndarray:
        """[S] whether each structure repeats in any direction, from the index."""
        return self._column("flags") >> FIRST_PBC & 0b111 != 0

    def labelled(self, label: Label) -> np.ndarray:
        """[S] whether each structure has an energy, forces or a stress, from the index."""
        return self._column("flags") & LABELS[label] != 0

    def with_target(self, name: str) -> np.ndarray:
        """[S] whether each structure has a target of a name, from the index."""
        return self._index.group_has_target(name)[self._column("group")]

    @property
    def nbytes(self) -> int:
        """Bytes on disk of the whole store: records, index and manifest."""
        own = [*self.path.glob("records/*"), *self.path.glob("index/*"), self.path / MANIFEST]
        return sum(file.stat().st_size for file in own)

    def references(
        self, *, conservative: bool = False, max_structures: int = 100_000
    ) -> References:
        """References for these structures.

        Those of the whole store are kept in it. For a part of it they are fitted to the part, or
        to a sample of `max_structures` where it is larger; see `statistics`.

        Raises:
            ReferencesError: no structure has an energy or forces.
        """
        stored = self.manifest["statistics"]["references"]
        if self.indices is not None or stored is None:
            held = self.statistics(max_structures)
            return held.references(conservative=conservative)
        references = References.from_dict(stored)
        if not conservative:
            return references
        # Manifests of before hold what rounding leaves of forces that vanish, too.
        has_forces = (self.manifest["statistics"].get("force_rms") or 0.0) >= LEAST_FORCE
        scale = references.force_scale if has_forces else references.energy_scale
        return References.from_dict({**stored, "energy_scale": scale, "force_scale": scale})

    def statistics(self, max_structures: int = 100_000) -> StatisticsAccumulator:
        """Statistics of these structures, or of a sample that has all elements of the store.

        A rare element may be in none of so many; then up to ``MOST_READ`` are read, once.
        """
        if max_structures not in self._statistics:
            found = StatisticsAccumulator.over(self.sample(max_structures))
            of_store = len(self.manifest["statistics"]["elements"])
            if len(self) > max_structures and np.count_nonzero(found.elements) < of_store:
                found = StatisticsAccumulator.over(self.sample(max(MOST_READ, max_structures)))
            self._statistics[max_structures] = found
        return self._statistics[max_structures]

    def verify(self) -> None:
        """Compare every file with its checksum.

        Raises:
            StoreError: a file differs or is missing; the message names it.
        """
        for name, value in self.manifest["index"].items():
            _compare(self.path / INDEX / name, value)
        for shard in self.manifest["shards"]:
            _compare(records_path(self.path, shard["name"]), shard["sha256"])

    def _column(self, name: str) -> np.ndarray:
        column = self._index.compared(name)
        return column if self.indices is None else column[self.indices]

    def _open(self) -> "_OpenStore":
        return _OpenStore(self.path, self._names, int(self._bounds[-1]), self.manifest["index"])

    def _read(self, record: int) -> Structure:
        opened = self._opened.get()
        columns = opened.columns
        shard = int(np.searchsorted(self._bounds, record, side="right")) - 1
        begin, end = opened.offset[record : record + 2].tolist()
        if not self._begins[shard] <= begin <= end <= self._begins[shard + 1]:
            file = self.path / INDEX / "offset.npy"
            raise StoreError(
                f"{file}: structure {record} of the store lies outside its file; {MEND}"
            )
        raw = opened.read(shard, begin - self._begins[shard], end - begin)
        row = Row(
            *(columns[name].item(record) for name in ("n_atom", "flags", "energy", "checksum"))
        )
        try:
            group = opened.group(opened.compared("group").item(record))
            return decode(raw, group, row, self._precision)
        except (ValueError, TypeError, IndexError) as error:
            _compare_index(self.path, self.manifest["index"], _read_manifest(self.path)["index"])
            raise StoreError(
                f"{records_path(self.path, self._names[shard])}: structure {record} of the store is"
                f" damaged ({error}); copy the file again, or convert the data set again"
            ) from error


class _OpenStore:
    """The mapped index and the open files of one process."""

    def __init__(self, path: Path, names: Sequence[str], count: int, sums: Mapping[str, str]):
        self._path, self._names, self._sums = path, names, sums
        self._files: dict[int, int] = {}
        self._compared: dict[str, np.ndarray] = {}
        self._comparing = threading.Lock()
        self.columns = {name: _map(path, name, dtype, count) for name, dtype in COLUMNS.items()}
        self.offset = _map(path, "offset", OFFSET, count + 1)
        file = path / INDEX / GROUPS
        try:
            text = file.read_bytes()
        except OSError as error:
            raise StoreError(f"{file} cannot be read ({error}); {MEND}") from error
        if hashlib.sha256(text).hexdigest() != sums[GROUPS]:
            raise StoreError(f"{file} differs from its checksum; {MEND}")
        self._groups: list[list[Any]] = json.loads(text)

    def compared(self, name: str) -> np.ndarray:
        """A column of the index, after its file was compared with its checksum.

        Raises:
            StoreError: they differ.
        """
        if name not in self._compared:
            with self._comparing:
                if name not in self._compared:
                    _compare(self._path / INDEX / f"{name}.npy", self._sums[f"{name}.npy"])
                    self._compared[name] = self.columns[name]
        return self._compared[name]

    def group(self, number: int) -> Group:
        """Fields that several structures share; built on demand, since there may be millions."""
        class_key, source, identifier, targets = self._groups[number]
        return Group(class_key, source, identifier, target_names(targets))

    @cached_property
    def class_keys(self) -> list[str]:
        """All class keys, sorted."""
        return sorted({group[0] for group in self._groups})

    @cached_property
    def group_class(self) -> np.ndarray:
        """Place of each group's class key in `class_keys`."""
        numbers = {key: number for number, key in enumerate(self.class_keys)}
        return np.array([numbers[group[0]] for group in self._groups], dtype=np.int32)

    def group_has_target(self, name: str) -> np.ndarray:
        """[groups] bool, those whose structures have a target of a name."""
        named = (target_names(group[3]) for group in self._groups)
        names = ([t if isinstance(t, str) else t[0] for t in targets] for targets in named)
        return np.array([name in held for held in names], dtype=bool)

    def read(self, shard: int, start: int, length: int) -> bytes:
        """Bytes of a shard; pread moves no position, so threads can share the file."""
        if shard not in self._files:
            path = records_path(self._path, self._names[shard])
            try:
                opened = os.open(path, os.O_RDONLY)
            except OSError as error:
                raise StoreError(f"{path} cannot be opened ({error}); copy it again") from error
            # If two threads open it at once, one closes its own again.
            if self._files.setdefault(shard, opened) != opened:
                os.close(opened)
        return os.pread(self._files[shard], length, start)

    def __del__(self):
        for file in getattr(self, "_files", {}).values():
            os.close(file)


def _map(path: Path, name: str, dtype: np.dtype, count: int) -> np.ndarray:
    file = path / INDEX / f"{name}.npy"
    header = column_header(dtype, count)
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            found = opened.read(len(header))
    except OSError as error:
        raise StoreError(f"{file} cannot be read ({error}); {MEND}") from error
    expected = len(header) + count * dtype.itemsize
    if found != header or size != expected:
        raise StoreError(
            f"{file} is damaged: it has {size} bytes, and should have {expected} and begin as"
            f" {count} entries of {dtype} do; {MEND}"
        )
    return np.asarray(np.memmap(file, dtype, "r", len(header), (count,)))


def _compare_index(path: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise where a store is another than the one that was opened, by checksums of its index."""
    if before != now:
        raise StoreError(
            f"{path} changed while it was read: another store was made in its place; start again"
        )


def _compare(file: Path, value: str) -> None:
    if not file.exists() or sha256(file) != value:
        state = "differs from its checksum" if file.exists() else "is missing"
        raise StoreError(f"{file} {state}; {MEND}")


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if not file.exists():
        reason = (
            "; if it is not finished: run the conversion again, or --merge; if it holds files of "
            "structures, give them as a list, or join them in one"
        )
        raise StoreError(f"{path} is no store: it has no {MANIFEST}{reason * path.is_dir()}")
    try:
        manifest = read_json(file, MEND)
        found = manifest["format"]
    except DamagedFile as error:
        raise StoreError(str(error)) from error
    except (LookupError, TypeError) as error:
        raise StoreError(f"{file} is no manifest of a store ({error!r}); {MEND}") from error
    if found != FORMAT:
        raise StoreError(f"{file}: format {found!r}, this version reads {FORMAT!r}; convert again")
    return manifest
