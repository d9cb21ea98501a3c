"""Files of ``torch.save``, read without PyTorch and without executing any of their code.

Such a file is an uncompressed zip archive with one pickle, ``<name>/data.pkl``, and the storages of
its tensors, ``<name>/data/<key>``, which the pickle names by persistent identifiers. The archive is
mapped into memory, and a tensor is a read-only view of it. Before version 1.6 the pickle stood
between a header and the storages, one after the other (layouts: ``torch/serialization.py``,
``_save`` and ``_legacy_save``).
"""

import mmap
import struct
import zipfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.safe_pickle.interpreter import PickleError, load, load_next
from atomjax.safe_pickle.tensors import (
    MAGIC_NUMBER,
    STORAGES,
    TENSORS,
    read_preamble,
    stored,
    typed_tensor,
)

# A local header of the zip format: 30 bytes, then the name and the extra field, whose lengths are
# its last two 16-bit numbers.
LOCAL_HEADER = 30


def load_torch_file(path: Path, recorded: Sequence[str] = ()) -> Any:
    """Content of a file in either format, with tensors as read-only arrays.

    Args:
        path: the file.
        recorded: classes, modules or packages whose objects become records.

    Raises:
        OSError: the file cannot be opened.
        PickleError: it is damaged, in another format, or holds more than data.
    """
    if is_legacy(path):
        # A mapping ends with the file, whatever length a damaged number asks for.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _load_legacy(data, recorded)
    return TorchArchive(path).load(recorded)


def is_legacy(path: Path) -> bool:
    """Whether a file is in the format before PyTorch 1.6, which begins with a pickled number.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        return MAGIC_NUMBER.to_bytes(10, "little") in file.read(64)


class TorchArchive:
    """A file of PyTorch 1.6 or later, mapped into memory.

    Args:
        path: path of the file.
        storages: class of storages to type of their elements.

    Attributes:
        content: the whole file [bytes].

    Raises:
        PickleError: it is no such archive, or damaged.
    """

    def __init__(self, path: Path, storages: Mapping[str, np.dtype] = STORAGES) -> None:
        self._types = storages
        self._entries = _read_directory(path)
        self._prefix = _find_prefix(self._entries)
        self.content: np.ndarray = np.memmap(path, np.uint8, "r")
        self._order = self._read_byte_order()

    def load(self, recorded: Sequence[str] = ()) -> Any:
        """The object that was saved, its tensors as read-only views of the file.

        Args:
            recorded: classes, modules or packages whose objects become records.

        Raises:
            ForbiddenName: the file names what is neither data nor in ``recorded``.
            PickleError: the file is damaged, or a tensor reaches beyond its storage.
        """
        table = {
            **TENSORS,
            **dict.fromkeys(self._types),
            "torch._utils._rebuild_tensor_v3": partial(typed_tensor, order=self._order),
        }
        program = self._entry("data.pkl").tobytes()
        return load(program, table, recorded, self._storage)

    def _read_byte_order(self) -> str:
        given = f"{self._prefix}byteorder" in self._entries
        text = self._entry("byteorder").tobytes().decode("ascii", "replace") if given else "little"
        if text not in ("little", "big"):
            raise PickleError(f"unknown byte order {text!r}")
        return "<" if text == "little" else ">"

    def _entry(self, name: str) -> np.ndarray:
        """The bytes of an entry, in place."""
        name = self._prefix + name
        info = self._entries.get(name)
        if info is None:
            raise PickleError(f"the archive lacks its entry {name}; fetch the file again")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
            raise PickleError(
                f"entry {name} is compressed or encrypted, which torch.save never does; pack the"
                " archive again without compression"
            )
        at = info.header_offset
        header = self.content[max(at, 0) : at + LOCAL_HEADER].tobytes()
        if at < 0 or len(header) < LOCAL_HEADER or not header.startswith(b"PK\x03\x04"):
            raise PickleError(f"entry {name} is damaged; fetch the file again")
        start = at + LOCAL_HEADER + int(np.frombuffer(header[-4:], "<u2").sum())
        if start + info.file_size > len(self.content):
            raise PickleError(f"the file is cut off in {name}; fetch it again")
        return self.content[start : start + info.file_size]

    def _storage(self, identifier: Any) -> np.ndarray:
        dtype, key, count = stored(identifier, self._types)
        data = self._entry(f"data/{key}")
        if count * dtype.itemsize != len(data):
            raise PickleError(
                f"storage {key} should have {count * dtype.itemsize} bytes and has {len(data)}:"
                " damaged"
            )
        return data.view(dtype.newbyteorder(">") if self._order == ">" else dtype)


def _read_directory(path: Path) -> dict[str, zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {info.filename: info for info in archive.infolist()}
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, struct.error) as error:
        raise PickleError(
            f"not a readable file of torch.save ({error}); if it was downloaded, compare its size"
            " with the publisher's and fetch it again"
        ) from None


def _find_prefix(entries: Mapping[str, Any]) -> str:
    """The folder of the archive that everything lies in, with its slash."""
    folders = {name.split("/")[0] + "/" for name in entries}
    prefixes = [p for p in sorted({"", *folders}) if f"{p}data.pkl" in entries]
    if len(prefixes) != 1:
        raise PickleError(
            f"a zip archive with {len(prefixes)} entries data.pkl in place of one; it was not"
            " written by torch.save"
        )
    if f"{prefixes[0]}constants.pkl" in entries:
        raise PickleError("a TorchScript program, not a checkpoint; save its state_dict")
    return prefixes[0]


def _load_legacy(file: Any, recorded: Sequence[str]) -> Any:
    read_preamble(file)
    size = len(file)
    storages: dict[str, np.ndarray] = {}

    def storage(identifier: Any) -> np.ndarray:
        dtype, key, count = stored(identifier, STORAGES)
        if key not in storages:
            # The numbers come after the pickle that needs them, and are put here then.
            if count * dtype.itemsize > size:
                raise PickleError(f"storage {key} of {count} elements is larger than the file")
            storages[key] = np.empty(count, dtype)
        return storages[key]

    content = load_next(file, TENSORS, recorded, storage)
    listed = load_next(file, {})
    named = isinstance(listed, list) and all(isinstance(key, str | int) for key in listed)
    if not named or set(map(str, listed)) != storages.keys():
        raise PickleError("damaged pickled data: the list of storages does not fit the tensors")
    for key in map(str, listed):
        elements = storages[key]
        stated = int.from_bytes(file.read(8), "little")
        found = file.read(elements.nbytes)
        read = len(found)
        elements.view(np.uint8)[:read] = np.frombuffer(found, np.uint8)
        if stated != len(elements) or read != elements.nbytes:
            raise PickleError(
                f"storage {key} has {read // elements.itemsize} of {len(elements)} elements, and"
                f" says {stated}: the file is cut short or damaged"
            )
    return content
