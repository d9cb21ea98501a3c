"""Writing of PyTorch's files without PyTorch.

The same format that :mod:`atomjax.safe_pickle.torch_archive` reads: an uncompressed zip archive
with one entry for each storage, aligned to 64 bytes, and a pickle of protocol 2. Only mappings with
text keys, lists, tuples, numbers, text, None and numpy arrays can be written, with three globals in
all, so ``torch.load(file, weights_only=True)`` takes the result.
"""

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.convert.torch_file import STORAGES
from atomjax.runtime.files import replacing
from atomjax.safe_pickle.tensors import UNTYPED

ALIGNMENT = 64
ROOT = "archive"
LOCAL_HEADER = 30

_CLASSES = {dtype: name for name, dtype in STORAGES.items() if dtype != UNTYPED}
_INT32 = 2**31


def write_torch_file(path: str | Path, content: Mapping[str, Any]) -> None:
    """Writes a file for ``torch.load``, whole or not at all.

    Arrays that are one object become tensors that share a storage.

    Args:
        path: path of the file.
        content: text → mapping, list, tuple, number, text, None or array.

    Raises:
        TypeError: on a value of another type, naming where it is.
    """
    path = Path(path)
    program = _Program()
    program.write(content, "")
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _write_entry(archive, "data.pkl", program.finish())
        _write_entry(archive, "byteorder", b"little")
        for key, array in enumerate(program.storages):
            _write_entry(archive, f"data/{key}", array.view(np.uint8).data)
        _write_entry(archive, "version", b"3\n")


def _write_entry(archive: zipfile.ZipFile, name: str, data: bytes | memoryview) -> None:
    """Adds an entry whose bytes begin at a multiple of the alignment."""
    info = zipfile.ZipInfo(f"{ROOT}/{name}", (2020, 1, 1, 0, 0, 0))
    stream = archive.fp
    assert stream is not None
    # zipfile adds a field of its own where an entry may pass 4 GiB.
    large = len(data) > zipfile.ZIP64_LIMIT
    begin = stream.tell() + LOCAL_HEADER + len(info.filename.encode()) + 4 + (20 if large else 0)
    padding = -begin % ALIGNMENT
    info.extra = struct.pack("<HH", 0x4246, padding) + b"Z" * padding
    info.file_size = len(data)
    with archive.open(info, "w", force_zip64=large) as entry:
        entry.write(data)


class _Program:
    """The instructions of a pickle, as they are written."""

    def __init__(self) -> None:
        self.out = io.BytesIO()
        self.out.write(b"\x80\x02")
        self.storages: list[np.ndarray] = []
        # The arrays themselves are kept so that no other array gets their identity.
        self._known: dict[int, tuple[int, np.ndarray]] = {}

    def finish(self) -> bytes:
        """The whole program."""
        return self.out.getvalue() + b"."

    def write(self, value: Any, where: str) -> None:
        """Instructions that leave ``value`` on the stack."""
        if value is None or isinstance(value, bool | np.bool_):
            self.out.write(b"N" if value is None else b"\x88" if value else b"\x89")
        elif isinstance(value, int | np.integer):
            self._write_integer(int(value))
        elif isinstance(value, float | np.floating):
            self.out.write(b"G" + struct.pack(">d", float(value)))
        elif isinstance(value, str):
            self._write_text(value)
        elif isinstance(value, np.ndarray):
            self._write_tensor(value, where)
        elif isinstance(value, Mapping):
            self._write_mapping(value, where)
        elif isinstance(value, list | tuple):
            self._write_sequence(value, where)
        else:
            raise TypeError(f"{where or 'content'} is a {type(value).__name__}: not written")

    def _write_integer(self, value: int) -> None:
        if -_INT32 <= value < _INT32:
            self.out.write(b"J" + struct.pack("<i", value))
        else:
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.out.write(b"\x8a" + bytes([len(data)]) + data)

    def _write_text(self, value: str) -> None:
        data = value.encode()
        self.out.write(b"X" + struct.pack("<I", len(data)) + data)

    def _write_global(self, name: str) -> None:
        module, _, attribute = name.rpartition(".")
        self.out.write(f"c{module}\n{attribute}\n".encode())

    def _write_mapping(self, value: Mapping[str, Any], where: str) -> None:
        # A state_dict is an OrderedDict, filled after its creation.
        self._write_global("collections.OrderedDict")
        self.out.write(b")R(")
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where or 'content'} has the key {key!r}, which is no text")
            self._write_text(key)
            self.write(item, f"{where}.{key}" if where else key)
        self.out.write(b"u")

    def _write_sequence(self, value: list | tuple, where: str) -> None:
        self.out.write(b"](" if isinstance(value, list) else b"(")
        for index, item in enumerate(value):
            self.write(item, f"{where}[{index}]")
        self.out.write(b"e" if isinstance(value, list) else b"t")

    def _write_tensor(self, value: np.ndarray, where: str) -> None:
        if id(value) not in self._known:
            data = np.ascontiguousarray(value).reshape(-1)
            data = data.astype(data.dtype.newbyteorder("<"), copy=False)
            if data.dtype not in _CLASSES:
                raise TypeError(f"{where} is an array of {value.dtype}, which PyTorch has not")
            self._known[id(value)] = (len(self.storages), value)
            self.storages.append(data)
        key = self._known[id(value)][0]
        strides = np.cumprod([1, *value.shape[:0:-1]])[::-1].tolist() if value.ndim else []
        self._write_global("torch._utils._rebuild_tensor_v2")
        # Its arguments: storage, offset, size, strides, requires_grad, hooks.
        self.out.write(b"(")
        self._write_storage(key)
        self._write_integer(0)
        self.write(tuple(value.shape), where)
        self.write(tuple(strides), where)
        self.out.write(b"\x89")
        self._write_global("collections.OrderedDict")
        self.out.write(b")RtR")

    def _write_storage(self, key: int) -> None:
        """The persistent identifier of a storage: kind, class, entry, device, elements."""
        data = self.storages[key]
        self.out.write(b"(")
        self._write_text("storage")
        self._write_global(_CLASSES[data.dtype])
        self._write_text(str(key))
        self._write_text("cpu")
        self._write_integer(len(data))
        self.out.write(b"tQ")
