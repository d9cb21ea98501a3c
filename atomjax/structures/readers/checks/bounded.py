"""Limits on the memory that a file may take: a multiple of its size, whatever its headers say."""

import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atomjax.structures.readers.layouts.records import ReadError

# Bytes that any file may take, and the factor of its size beyond: no data set compresses so far.
FREE = 1 << 27
PER_BYTE = 50
_CHUNK = 1 << 20


def check_made(made: int, stored: int, what: str) -> None:
    """Refuse to take much more memory than a file's size.

    Args:
        made: bytes in memory.
        stored: bytes in the file.
        what: name of the data, for the message.

    Raises:
        ReadError: it is too much.
    """
    if made > FREE + PER_BYTE * stored:
        raise ReadError(
            f"{what} would be {made:,} bytes in memory and is {stored:,} in the file: it is damaged"
            " or made to fill the memory; copy it again"
        )


def read_text(path: Path) -> str:
    """A file's text, decompressed where its name ends with ``.gz`` or ``.xz``.

    Raises:
        ReadError: it is damaged or no text, or its content would fill the memory.
    """
    try:
        return _content(path).decode()
    except UnicodeDecodeError as error:
        raise ReadError(f"{path}: is no text ({error}); it is damaged, copy it again") from error


def _content(path: Path) -> bytes:
    opened = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix)
    if opened is None:
        return path.read_bytes()
    stored, made, chunks = path.stat().st_size, 0, []
    with whole(path), opened(path) as file:
        while chunk := file.read(_CHUNK):
            made += len(chunk)
            check_made(made, stored, f"{path}: its content")
            chunks.append(chunk)
    return b"".join(chunks)


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Name a compressed file in errors of its decompression, as a ReadError."""
    try:
        yield
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise ReadError(
            f"{path}: cannot be decompressed ({error}); it is damaged or truncated, copy it again"
        ) from error


def inflate(data: bytes, what: str) -> bytes:
    """Content of data that zlib compressed.

    Raises:
        ReadError: it would fill the memory.
        zlib.error: it is damaged.
    """
    machine, left, made, chunks = zlib.decompressobj(), data, 0, []
    while left and not machine.eof:
        chunks.append(machine.decompress(left, _CHUNK))
        left, made = machine.unconsumed_tail, made + len(chunks[-1])
        check_made(made, len(data), what)
    if not machine.eof:
        chunks.append(machine.flush())
    if not machine.eof:
        raise zlib.error("it is cut short")
    return b"".join(chunks)
