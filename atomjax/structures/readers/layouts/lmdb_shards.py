"""LMDB files, alone or as the shards of a folder, as one sequence of byte strings."""

import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lmdb
import numpy as np

from atomjax.runtime.lock import note_reading
from atomjax.structures.readers.checks.lmdb_pages import check_pages, damaged_lmdb
from atomjax.structures.readers.layouts.records import ReadError
from atomjax.structures.readers.layouts.structure_file import PerProcess

SPLIT_HINT = "give the folder of one split, or split= with its name"


def find_shards(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The file at `path`, or those in the folder, by name; raises ReadError where it has none."""
    if path.is_file():
        return [path]
    found = sorted(p for p in path.iterdir() if p.is_file() and p.name.endswith(suffixes))
    if not found:
        folders = sorted(p.name for p in path.iterdir() if p.is_dir())
        hint = f"; {SPLIT_HINT}: {', '.join(folders)}" if folders else ""
        raise ReadError(f"{path}: the folder has no file *{' or *'.join(suffixes)}{hint}")
    return found


class Shard:
    """One LMDB file.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._environment = PerProcess(partial(_open, path))

    @property
    def entries(self) -> int:
        """Number of entries, those that are no records among them."""
        return int(self._environment.get().stat()["entries"])

    def get(self, key: str) -> bytes | None:
        """The value under `key`, or None; raises ReadError where the file is damaged."""
        note_reading(self.path)
        try:
            with self._environment.get().begin(buffers=False) as transaction:
                return transaction.get(key.encode())
        except lmdb.Error as error:
            raise damaged_lmdb(self.path, error) from error


class Shards:
    """Records of several files, numbered through.

    Attributes:
        shards: the files.
    """

    def __init__(self, paths: list[Path], count: Callable[[Shard], int]) -> None:
        self.shards = [Shard(path) for path in paths]
        self._ends = np.cumsum([count(shard) for shard in self.shards])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def locate(self, record: int) -> tuple[Shard, int]:
        """The file that holds a record, and the record's number in it."""
        shard = int(np.searchsorted(self._ends, record, side="right"))
        return self.shards[shard], record - int(self._ends[shard - 1] if shard else 0)


# LMDB allows a file to be opened once in a process. Children made by fork inherit the mapping,
# which is sound as long as nobody writes or locks.
_opened: "weakref.WeakValueDictionary[Path, lmdb.Environment]" = weakref.WeakValueDictionary()
_opening = threading.Lock()


def _open(path: Path) -> lmdb.Environment:
    with _opening:
        environment = _opened.get(path.resolve())
        if environment is None:
            environment = _opened[path.resolve()] = _open_new(path)
    return environment


def _open_new(path: Path) -> lmdb.Environment:
    # The file is mapped into memory: touching a page beyond its end would kill the process.
    check_pages(path)
    try:
        environment = lmdb.open(
            str(path),
            subdir=False,
            readonly=True,
            # Data are often on storage that cannot be written or locked.
            lock=False,
            readahead=False,
            meminit=False,
            max_readers=1,
        )
    except lmdb.Error as error:
        raise damaged_lmdb(path, error) from error
    return environment
