"""Files that are written whole or not at all, with checksums that are compared on reading.

What this project writes for itself ends with a CRC-32 of all the rest: JSON in a last key
"checksum", ``.npz`` in the comment of the zip archive, ``.npy`` behind the array. Other software
reads them all the same. Files of before have none, and are read as they are.
"""

import contextlib
import glob
import json
import os
import re
import shutil
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from atomjax.runtime.lock import has_ended, process_name

CONFIG_MEND = "copy it again, or give another --workdir"
CHECKSUM = "checksum"
CHECKSUMS = f"{CHECKSUM}s.json"
_MARK = re.compile(rb'crc32:([0-9a-f]{8})("\n}\n)?\Z')
_MARK_BYTES = len("crc32:00000000")
_JSON_END = '"\n}\n'
_TAIL = _MARK_BYTES + len(_JSON_END)
_CHUNK = 1 << 20

# Errors that parsers raise on damaged bytes of any format; RuntimeError has RecursionError and
# NotImplementedError among its own.
PARSE_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    OSError,
    EOFError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


class DamagedFile(ValueError):
    """A file that is not as it was written; the message names it and the remedy."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when complete, and on disk, or never.

    The folder is made where there is none, and what killed processes of this host left is removed.
    """
    (temporary,) = _temporaries(path, "part")
    try:
        with naming(path), temporary.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts a file's name into errors of writing it: Python names files when opening them alone."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that takes the place of `path` when complete, or never.

    What was there before stays until then.
    """
    new, old = _temporaries(path, "new", "old")
    try:
        yield new
        if path.exists():
            path.rename(old)
        new.rename(path)
    finally:
        # Interrupted between the two moves, the old folder goes back.
        if old.exists() and not path.exists():
            old.rename(path)
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)


def _temporaries(path: Path, *words: str) -> list[Path]:
    """Paths beside another for this process alone; those of ended processes are removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        owner, _, word = left.name.removeprefix(f".{path.name}.").rpartition(".")
        if word in words and has_ended(owner):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return [path.with_name(f".{path.name}.{process_name()}.{word}") for word in words]


def user_cache(*names: str) -> Path:
    """A folder of the user for what can be had again: in ``$XDG_CACHE_HOME``, else ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "atomjax", *names)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for temporary files; those that killed processes of this host left are removed."""
    prefix = "atomjax-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        if has_ended(left.name.removeprefix(prefix).rpartition(".")[0]):
            # Another user's stays.
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{process_name()}.") as folder:
        yield Path(folder)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write an object as JSON with its checksum, whole or not at all."""
    with replacing(path) as file:
        file.write(json_with_checksum(data).encode())


def json_with_checksum(data: Mapping[str, Any]) -> str:
    """An object as JSON with the checksum as its last key."""
    text = json.dumps({**data, CHECKSUM: "crc32:"}, indent=1, ensure_ascii=False) + "\n"
    head = text.removesuffix(_JSON_END)
    value = zlib.crc32((head + _JSON_END).encode())
    return f"{head}{value:08x}{_JSON_END}"


def read_json(path: Path, mend: str) -> Any:
    """Content of a JSON file, without its checksum.

    Args:
        path: the file.
        mend: remedy for a damaged file, for the message.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFile: it is not as it was written.
    """
    with _explained(path, mend), path.open("rb") as file:
        marked = _compare(file)
        data = json.loads(file.read())
        if isinstance(data, dict) and data.pop(CHECKSUM, None) is not None and not marked:
            raise ValueError("its checksum cannot be read")
        return data


def write_npz(path: Path, arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Write arrays as an ``.npz`` file with its checksum, whole or not at all."""
    with replacing(path) as file:
        (np.savez_compressed if compressed else np.savez)(file, allow_pickle=False, **arrays)
        with zipfile.ZipFile(file, "a") as archive:
            archive.comment = bytes(_MARK_BYTES)
        file.seek(-_MARK_BYTES, os.SEEK_END)
        file.truncate()
        append_checksum(file)


def read_npz(path: Path, mend: str) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file, checked as by `read_json`."""
    with _explained(path, mend), path.open("rb") as file:
        marked = _compare(file)
        with zipfile.ZipFile(file) as archive:
            if archive.comment and not marked:
                raise ValueError("its checksum cannot be read")
            if not marked and (name := archive.testzip()) is not None:
                raise ValueError(f"{name} does not match its checksum")
            if not archive.namelist():
                raise ValueError("it lists no array")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


def compare_npy(path: Path, mend: str) -> tuple[tuple[int, ...], int]:
    """Shape of the array of an ``.npy`` file, and where it begins, checked as by `read_json`."""
    array, offset = _map_npy(path, mend)
    return array.shape, offset


def map_npy(path: Path, mend: str) -> np.ndarray:
    """The array of an ``.npy`` file, mapped into memory, checked as by `read_json`."""
    return _map_npy(path, mend)[0]


def _map_npy(path: Path, mend: str) -> tuple[np.ndarray, int]:
    """The mapped array, and the place in the file where it begins."""
    with _explained(path, mend):
        with path.open("rb") as file:
            marked = _compare(file)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        offset = getattr(array, "offset", 0)
        rest = path.stat().st_size - offset - array.nbytes
        if rest != _MARK_BYTES * marked:
            raise ValueError(f"{rest} bytes behind the array")
        return np.asarray(array), offset


def append_checksum(file: BinaryIO) -> None:
    """Put the checksum of a file that was opened for reading and writing at its end."""
    file.seek(0, os.SEEK_END)
    file.write(b"crc32:")
    value = _crc32(file, file.tell())
    file.write(f"{value:08x}".encode())


def write_checksums(folder: Path) -> None:
    """Write the checksums of all files of a folder into it, for `compare_checksums`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    sums = {path.relative_to(folder).as_posix(): _sum_of(path) for path in files}
    write_json(folder / CHECKSUMS, {"files": sums})


def compare_checksums(folder: Path, mend: str, within: str | None = None) -> None:
    """Compare the files of a folder with their checksums, where it has some.

    Args:
        folder: for which `write_checksums` was called.
        mend: remedy for a damaged file, for the message.
        within: the one of its folders to compare, with the files beside the folders; None for all.

    Raises:
        DamagedFile: a file differs or is missing.
    """
    if not (folder / CHECKSUMS).exists():
        return
    with _explained(folder / CHECKSUMS, mend):
        sums = read_json(folder / CHECKSUMS, mend)["files"].items()
    for name, value in sums:
        path = folder / name
        first, slash, _ = name.partition("/")
        if slash and within not in (None, first):
            continue
        if not path.is_file():
            raise DamagedFile(f"{path} is missing; {mend}")
        if _sum_of(path) != value:
            raise DamagedFile(f"{path} is damaged: it does not match its checksum; {mend}")


@contextlib.contextmanager
def _explained(path: Path, mend: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, DamagedFile):
        raise
    except PARSE_ERRORS as error:
        reason = str(error) or type(error).__name__
        raise DamagedFile(f"{path} is damaged: {reason}; {mend}") from error


def _compare(file: BinaryIO) -> bool:
    """Compare a file with its checksum, False if it has none; it stands at its start again."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - _TAIL, 0))
    mark = _MARK.search(file.read())
    value = 0
    if mark is not None:
        after = mark[2] or b""
        value = zlib.crc32(after, _crc32(file, size - len(after) - len(mark[1])))
    file.seek(0)
    if mark is not None and int(mark[1], 16) != value:
        raise ValueError("it does not match its checksum")
    return mark is not None


def _sum_of(path: Path) -> str:
    with path.open("rb") as file:
        return f"{_crc32(file, path.stat().st_size):08x}"


def _crc32(file: BinaryIO, length: int) -> int:
    """CRC-32 of the first `length` bytes; the file then stands behind them."""
    file.seek(0)
    value = 0
    while chunk := file.read(min(length, _CHUNK)):
        value, length = zlib.crc32(chunk, value), length - len(chunk)
    return value
