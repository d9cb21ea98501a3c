"""Arrays of ``.npz`` files, mapped into memory where they are stored uncompressed."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from atomjax.runtime.files import PARSE_ERRORS
from atomjax.structures.readers.checks.bounded import check_made
from atomjax.structures.readers.layouts.records import ReadError

LOCAL_HEADER = 30  # bytes before the name of a zip file's member, which has two lengths at 26


def open_arrays(
    path: Path, names: Sequence[str], where_there: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` file.

    A large array that is stored as it is (``np.savez``) stays on disk; one that is compressed
    (``np.savez_compressed``) is loaded.

    Args:
        path: the file.
        names: names of arrays.
        where_there: names of further arrays, left out where the file has none.

    Raises:
        ReadError: the file is damaged, lacks an array, or holds pickled objects.
    """
    with _reported(path), zipfile.ZipFile(path) as archive:
        stored = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        missing = [name for name in names if name not in stored]
        if missing:
            raise ReadError(
                f"{path}: has no array {', '.join(missing)}; it has: {', '.join(sorted(stored))}"
            )
        found = [*names, *(name for name in where_there if name in stored)]
        return {name: _open_array(path, archive, stored[name]) for name in found}


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except ReadError:
        raise
    except PARSE_ERRORS as error:
        raise ReadError(
            f"{path}: not a readable .npz file ({error}); it is damaged or truncated, copy it again"
        ) from error


def _open_array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    check_made(info.file_size, info.compress_size, f"{path}: the array {info.filename}")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read_header(member)
        if dtype.hasobject:
            raise ReadError(
                f"{path}: the array {info.filename} holds pickled objects; refused, as reading"
                " them could execute code"
            )
        if info.compress_type != zipfile.ZIP_STORED:
            content = member.read()
            array = np.frombuffer(content, dtype)
            return array.reshape(shape, order="F" if fortran else "C")
        header = member.tell()
    with path.open("rb") as file:
        file.seek(info.header_offset + LOCAL_HEADER - 4)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    start = info.header_offset + LOCAL_HEADER + name + extra + header
    size = int(np.prod(shape)) * dtype.itemsize
    if header + size != info.file_size or start + size > path.stat().st_size:
        raise ReadError(f"{path}: the array {info.filename} is cut short; copy the file again")
    if size == 0 or not shape:
        with archive.open(info) as member:
            return np.lib.format.read_array(member, allow_pickle=False)
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")
