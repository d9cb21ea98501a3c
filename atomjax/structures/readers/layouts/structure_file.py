"""Files whose records have numbers: a sequence of structures that are read on access."""

import difflib
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np

from atomjax.structures.readers.checks.file_state import file_state, raise_if_changed
from atomjax.structures.readers.layouts.records import (
    RECORD_ERRORS,
    ReadError,
    ReadOptions,
    failure,
)
from atomjax.structures.structure import Structure

SPLIT_ALIASES = {"val": "validation", "valid": "validation"}

Handle = TypeVar("Handle")


class PerProcess(Generic[Handle]):
    """Something that every process has to open for itself, such as a file.

    A copy that a process inherits or receives is opened again there, at its first use. Threads may
    share an instance: two that come first at once may each open the thing, and each gets one that
    is whole.
    """

    def __init__(self, opener: Callable[[], Handle]) -> None:
        self._opener = opener
        # One attribute, so that no thread sees a handle with the owner of another.
        self._opened: tuple[int, Handle] | None = None

    def get(self) -> Handle:
        """The opened thing."""
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            opened = self._opened = (os.getpid(), self._opener())
        return opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {"_opener": self._opener, "_opened": None}


class PerThread(Generic[Handle]):
    """Something that every thread has to open for itself, such as an SQLite database."""

    def __init__(self, opener: Callable[[], Handle]) -> None:
        self._opener = opener
        self._own = threading.local()

    def get(self) -> Handle:
        """The opened thing of this thread; a thread that fork copied opens its own."""
        if getattr(self._own, "owner", None) != os.getpid():
            self._own.handle, self._own.owner = self._opener(), os.getpid()
        return self._own.handle

    def __getstate__(self) -> dict[str, Any]:
        return {"_opener": self._opener}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_opener"])


class StructureFile(Sequence[Structure], ABC):
    """The structures of a file, or of one split of it, in the file's order.

    Only an index is kept in memory. Instances can be sent to other processes.

    Attributes:
        path: the file or folder.
        excluded: reason to number of records that the format's own rules leave out.
    """

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.path = path
        self.options = options
        self.excluded: dict[str, int] = {}
        self._chosen: np.ndarray | None = None
        self._opened_as = file_state(path)

    @abstractmethod
    def _count(self) -> int:
        """Number of records before any split."""

    def _identifier(self, record: int) -> str:
        """Name of a record in error messages."""
        return f"{self.path.name}:{record}"

    @abstractmethod
    def _structure(self, record: int) -> Structure:
        """Reads one record; may raise any of `RECORD_ERRORS`."""

    def _split(self, name: str) -> np.ndarray:
        """Records of the split `name`."""
        raise self._no_split(name, ())

    def _no_split(self, name: str, known: Sequence[str]) -> ReadError:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        listed = ", ".join(known) or "none"
        return ReadError(f"{self.path}: no split {name!r}{hint} Splits here: {listed}")

    def _cut(
        self, order: np.ndarray, sizes: Mapping[str, int | float | None], name: str
    ) -> np.ndarray:
        """One part of a permutation that is cut into parts, one after the other.

        Args:
            order: the permutation.
            sizes: name to number of records, or fraction of them (rounded down) if a float; None,
                for one part, takes what the others leave.
            name: name of the part.

        Raises:
            ReadError: there are too few records, or no such part.
        """
        if name not in sizes:
            raise self._no_split(name, tuple(sizes))
        total = len(order)
        counts = {n: int(s * total) if isinstance(s, float) else s for n, s in sizes.items()}
        rest = total - sum(count or 0 for count in counts.values())
        filled = {part: rest if count is None else count for part, count in counts.items()}
        if min(rest, *filled.values()) < 0:
            asked = ", ".join(f"{part} {n}" for part, n in counts.items() if n is not None)
            raise ReadError(
                f"{self.path}: {total} records cannot be divided into {asked}; set the sizes of the"
                " splits in the reader's options"
            )
        end = np.cumsum([*filled.values()])[list(filled).index(name)]
        return order[end - filled[name] : end]

    def choose(self, split: str | None) -> None:
        """Restrict the sequence to a split; None keeps all records.

        Raises:
            ReadError: there is no such split, or it is empty.
        """
        if split is None:
            return
        name = SPLIT_ALIASES.get(split, split)
        self._chosen = np.asarray(self._split(name), dtype=np.int64)
        if len(self._chosen) == 0:
            raise ReadError(f"{self.path}: the split {name!r} is empty")

    def __len__(self) -> int:
        return self._count() if self._chosen is None else len(self._chosen)

    def _record(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.path}: index {index} of {len(self)} structures")
        index %= len(self)
        return index if self._chosen is None else int(self._chosen[index])

    def identifier(self, index: int) -> str:
        """Name of the structure at `index` in error messages."""
        return self._identifier(self._record(index))

    @overload
    def __getitem__(self, index: int) -> Structure: ...
    @overload
    def __getitem__(self, index: slice) -> list[Structure]: ...
    def __getitem__(self, index: int | slice) -> Structure | list[Structure]:
        """Reads structures.

        Raises:
            IndexError: beyond the end.
            ReadError: the record is damaged, or the file changed since it was opened; the message
                names it and says why.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        record = self._record(index)
        try:
            structure = self._structure(record)
        except RECORD_ERRORS as error:
            raise_if_changed(self.path, self._opened_as)
            raise failure(self._identifier(record), error) from error
        # A folder may have a great many files.
        if self.path.is_file():
            raise_if_changed(self.path, self._opened_as)
        return structure

    def records(
        self, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[str, Callable[[], Structure]]]:
        """Identifier and reading function of each structure from `start` to before `stop`."""
        for index in range(len(self))[start:stop]:
            record = self._record(index)
            yield self._identifier(record), partial(self._structure, record)


def shuffled(count: int, seed: int) -> np.ndarray:
    """A permutation of ``range(count)`` as published splits draw it: numpy's legacy generator."""
    order = np.arange(count)
    np.random.RandomState(seed).shuffle(order)
    return order
