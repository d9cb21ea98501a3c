"""Reading of PyTorch's files without PyTorch, and without executing what they ask for.

``torch.save`` writes an uncompressed zip archive: the bytes of every storage as one entry, and a
pickle that says which tensor is which part of which storage. The archive is mapped into memory, a
tensor is a read-only numpy view of it, and the pickle is read by :mod:`atomjax.convert.opcodes`.
"""

import hashlib
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.convert.allowed import STORAGES, NumpyArray, find_global
from atomjax.convert.errors import ConvertError, FileFormatError
from atomjax.convert.opcodes import Known, run

# First bytes of the format before PyTorch 1.6: a pickled magic number.
LEGACY = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
# A local header of the zip format: 30 bytes, then the name and the extra field, whose lengths are
# its last two 16-bit numbers.
LOCAL_HEADER = 30
CHUNK = 1 << 22


@dataclass(frozen=True)
class Storage:
    """Bytes of a storage [bytes], and its elements' type where the file says it beside them."""

    data: np.ndarray
    dtype: np.dtype | None


class TorchFile:
    """A ``.pt``, ``.pth`` or ``.ckpt`` file.

    Args:
        path: of the file.

    Raises:
        FileFormatError: it is missing, or no zip archive of PyTorch.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileFormatError(f"{self.path} is not a file; give a .pt or .ckpt file")
        with self.path.open("rb") as file:
            start = file.read(64)
        if LEGACY in start:
            raise FileFormatError(
                f"{self.path} is in the format before PyTorch 1.6, which is not read. Write it "
                "anew with PyTorch: torch.save(torch.load(OLD, map_location='cpu'), NEW)"
            )
        self._entries = self._read_directory()
        self._bytes = np.memmap(self.path, np.uint8, "r")
        self._prefix = self._find_prefix()
        self._order = self._read_byte_order()
        self._storages: dict[tuple[str, str], Storage] = {}

    def load(self) -> Any:
        """The object that was saved, its tensors as read-only numpy views of the file.

        Objects of classes that are not data are :class:`~atomjax.convert.opcodes.Opaque` records.

        Raises:
            FileFormatError: the file is damaged, or a tensor reaches beyond its storage.
            RefusedError: the file asks for a global that is not on the allow-list.
        """
        program = self._entry(f"{self._prefix}data.pkl").tobytes()
        tensors: dict[str, Callable[..., Any]] = {
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._typed_tensor,
            "torch._utils._rebuild_parameter": _first,
            "torch._utils._rebuild_parameter_with_state": _first,
            "torch._tensor._rebuild_from_type_v2": _of_type,
        }
        try:
            loaded = run(program, lambda m, n: find_global(m, n, tensors), self._storage)
        except ConvertError as error:
            raise type(error)(f"{self.path}: {error}") from None
        return _unwrap_arrays(loaded)

    def sha256(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        digest = hashlib.sha256()
        for start in range(0, len(self._bytes), CHUNK):
            digest.update(self._bytes[start : start + CHUNK].data)
        return digest.hexdigest()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self._bytes)

    def _read_directory(self) -> dict[str, zipfile.ZipInfo]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                return {info.filename: info for info in archive.infolist()}
        except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, struct.error) as error:
            raise FileFormatError(
                f"{self.path} is not a file of PyTorch 1.6 or later ({error}); if it was "
                "downloaded, compare its size with the publisher's and fetch it again"
            ) from None

    def _find_prefix(self) -> str:
        """The folder of the archive that everything lies in, with its slash."""
        pickles = [name for name in self._entries if name.endswith("data.pkl")]
        pickles = [
            name for name in pickles if name in ("data.pkl", name.split("/")[0] + "/data.pkl")
        ]
        if len(pickles) != 1:
            raise FileFormatError(
                f"{self.path} is a zip archive with {len(pickles)} entries data.pkl in place of "
                "one; it was not written by torch.save"
            )
        if f"{pickles[0].removesuffix('data.pkl')}constants.pkl" in self._entries:
            raise FileFormatError(
                f"{self.path} is a TorchScript program, not a checkpoint; save its state_dict"
            )
        return pickles[0].removesuffix("data.pkl")

    def _read_byte_order(self) -> str:
        name = f"{self._prefix}byteorder"
        text = (
            self._entry(name).tobytes().decode("ascii", "replace") if name in self._entries else ""
        )
        orders = {"": "<", "little": "<", "big": ">"}
        if text not in orders:
            raise FileFormatError(f"{self.path}: unknown byte order {text!r}")
        return orders[text]

    def _entry(self, name: str) -> np.ndarray:
        """The bytes of an entry, in place."""
        info = self._entries.get(name)
        if info is None:
            raise FileFormatError(f"{self.path} lacks its entry {name}; fetch the file again")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
            raise FileFormatError(
                f"{self.path}: entry {name} is compressed or encrypted, which torch.save never "
                "does; pack the archive again without compression"
            )
        at = info.header_offset
        header = self._bytes[at : at + LOCAL_HEADER].tobytes()
        if at < 0 or len(header) < LOCAL_HEADER or not header.startswith(b"PK\x03\x04"):
            raise FileFormatError(f"{self.path}: entry {name} is damaged; fetch the file again")
        lengths = np.frombuffer(header[-4:], "<u2")
        start = at + LOCAL_HEADER + int(lengths.sum())
        if start + info.file_size > len(self._bytes):
            raise FileFormatError(f"{self.path} is cut off in {name}; fetch the file again")
        return self._bytes[start : start + info.file_size]

    def _storage(self, identifier: Any) -> Storage:
        """The storage that a persistent identifier names."""
        if not isinstance(identifier, tuple) or len(identifier) != 5 or identifier[0] != "storage":
            raise FileFormatError(f"unknown kind of stored data: {identifier!r}")
        _, kind, key, _, count = identifier
        if not isinstance(kind, Known) or kind.name not in STORAGES:
            raise FileFormatError(f"unknown kind of storage: {kind!r}")
        if not isinstance(key, str) or not _is_count(count):
            raise FileFormatError(f"the pickle is damaged: storage {key!r} of {count!r} elements")
        if (key, kind.name) not in self._storages:
            dtype = STORAGES[kind.name]
            data = self._entry(f"{self._prefix}data/{key}")
            needed = count * (1 if dtype is None else dtype.itemsize)
            if needed != len(data):
                raise FileFormatError(
                    f"storage {key} should have {needed} bytes and has {len(data)}: damaged"
                )
            self._storages[key, kind.name] = Storage(data, dtype)
        return self._storages[key, kind.name]

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
        if not isinstance(storage, Storage) or storage.dtype is None:
            raise FileFormatError("a tensor lies in no storage of a known type")
        return self._view(storage.data, storage.dtype, offset, size, stride)

    def _typed_tensor(
        self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any
    ) -> np.ndarray:
        # After requires_grad and hooks comes the type, which an untyped storage lacks.
        dtype = rest[2]
        if not isinstance(storage, Storage) or not isinstance(dtype, np.dtype):
            raise FileFormatError("a tensor lies in no storage, or its type is unknown")
        return self._view(storage.data, dtype, offset, size, stride)

    def _view(
        self, data: np.ndarray, dtype: np.dtype, offset: Any, size: Any, stride: Any
    ) -> np.ndarray:
        """A tensor of a storage, whatever its strides, if it lies inside."""
        if not (
            _is_count(offset)
            and isinstance(size, tuple)
            and isinstance(stride, tuple)
            and len(size) == len(stride)
            and all(map(_is_count, size))
            and all(map(_is_count, stride))
        ):
            raise FileFormatError(
                f"a tensor of size {size!r}, stride {stride!r} and offset {offset!r} is damaged"
            )
        if len(data) % dtype.itemsize:
            raise FileFormatError(f"a storage of {len(data)} bytes holds no {dtype}")
        if self._order == ">":
            dtype = dtype.newbyteorder(">")
        elements = data.view(dtype)
        if 0 in size:
            return np.empty(size, dtype)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if last >= len(elements):
            raise FileFormatError(
                f"a tensor of size {size}, stride {stride} and offset {offset} reaches beyond its "
                f"storage of {len(elements)} elements: damaged or crafted"
            )
        strides = tuple(step * dtype.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(elements[offset:], size, strides, writeable=False)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _first(data: Any, *_: Any) -> Any:
    return data


def _of_type(rebuild: Any, _kind: Any, arguments: Any, _state: Any) -> Any:
    """A tensor with attributes: how it is rebuilt, its class, the arguments and the attributes."""
    if not isinstance(rebuild, Known) or rebuild.call is None or not isinstance(arguments, tuple):
        raise FileFormatError(f"a tensor is to be rebuilt by {rebuild!r}: refused")
    return rebuild.call(*arguments)


def _unwrap_arrays(value: Any) -> Any:
    """Numpy arrays in place of their records, in dicts and lists; a record may share either."""
    if isinstance(value, NumpyArray):
        return value.array
    pending, seen = [value], set()
    while pending:
        container = pending.pop()
        if id(container) in seen or not isinstance(container, dict | list):
            continue
        seen.add(id(container))
        for key, item in container.items() if isinstance(container, dict) else enumerate(container):
            if isinstance(item, NumpyArray):
                container[key] = item.array
            else:
                pending.append(item)
    return value
