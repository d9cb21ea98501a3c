"""Files that change while they are read: found by size, time and identity, and said to have."""

import contextlib
import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path

from atomjax.structures.readers.layouts.records import RECORD_ERRORS, ReadError

# Name, relative to the path asked for → bytes, time of the last change in ns, number on its disk.
FileState = Mapping[str, tuple[int, int, int]]


def file_state(path: Path) -> FileState:
    """State of a file, or of each file in a folder, as far as it can be known without reading."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("[!.]*") if p.is_file())
    found = {}
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            facts = file.stat()
            name = "" if file == path else file.relative_to(path).as_posix()
            found[name] = facts.st_size, facts.st_mtime_ns, facts.st_ino
    return found


def describe_file_change(path: Path, before: FileState, now: FileState) -> str | None:
    """Difference between two states of a file or folder, in words; None where they agree."""
    for name in sorted(before.keys() | now.keys()):
        file = path / name
        if name not in before or name not in now:
            return f"{file} is {'new' if name in now else 'gone'}"
        (size, time, number), (new_size, new_time, new_number) = before[name], now[name]
        if size != new_size:
            return f"{file} had {size:,} bytes and has {new_size:,}"
        if number != new_number:
            return f"{file} is another file of {size:,} bytes"
        if time != new_time:
            written = datetime.datetime.fromtimestamp(new_time / 1e9).isoformat(" ", "seconds")
            return f"{file} was written to at {written}"
    return None


def raise_if_changed(path: Path, before: FileState) -> None:
    """Raise ReadError, which says what changed, where a file or folder is not as it was."""
    if (change := describe_file_change(path, before, file_state(path))) is not None:
        raise ReadError(
            f"{path} changed while it was read: {change}; wait until nothing writes there, or copy"
            " it, and read it again"
        )


@contextlib.contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Refuse what was read from a file or folder that changed meanwhile, and errors it led to.

    Raises:
        ReadError: it changed.
    """
    before = file_state(path)
    try:
        yield
    except RECORD_ERRORS as error:
        try:
            raise_if_changed(path, before)
        except ReadError as change:
            raise change from error
        raise
    raise_if_changed(path, before)
