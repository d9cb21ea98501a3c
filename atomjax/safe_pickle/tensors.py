"""PyTorch's tensors in pickles, as numpy arrays: a table for `atomjax.safe_pickle.interpreter`.

A tensor is a window on a storage. In a file of ``torch.save`` the pickle names its storage by a
persistent identifier; a tensor that is pickled otherwise brings it along as a file of PyTorch's old
format inside a byte string (layouts: ``torch/serialization.py``, ``_save`` and ``_legacy_save``).
"""

import io
import math
import re
import reprlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from atomjax.safe_pickle.arrays import ARRAYS
from atomjax.safe_pickle.interpreter import Global, PickleError, Table, load_next
from atomjax.safe_pickle.plain import PLAIN, bytes_of

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001

_ELEMENTS = {
    "float64": "<f8",
    "double": "<f8",
    "float32": "<f4",
    "float": "<f4",
    "float16": "<f2",
    "half": "<f2",
    "int64": "<i8",
    "long": "<i8",
    "int32": "<i4",
    "int": "<i4",
    "int16": "<i2",
    "short": "<i2",
    "int8": "i1",
    "char": "i1",
    "uint8": "u1",
    "byte": "u1",
    "uint16": "<u2",
    "uint32": "<u4",
    "uint64": "<u8",
    "bool": "?",
}
DTYPES = {f"torch.{name}": np.dtype(code) for name, code in _ELEMENTS.items()}

# A window may show elements more than once, as expanded tensors do, up to this many.
_MOST_REPEATED = 1 << 16

# Bytes whose meaning stands beside the storage.
UNTYPED = np.dtype("V1")

# Storage classes and the type of their elements. Numpy has no bfloat16: who has one may add it.
STORAGES: Mapping[str, np.dtype] = {
    **{
        f"torch.{kind}Storage": DTYPES[f"torch.{kind.lower()}"]
        for kind in "Double Float Half Long Int Short Char Byte Bool".split()
    },
    "torch.UntypedStorage": UNTYPED,
    "torch.storage.UntypedStorage": UNTYPED,
}

# The two pickles that PyTorch writes for a storage, with their contents: parsing them instruction
# by instruction takes most of the time of reading a graph. What does not match is parsed that way.
_USUAL_REFERENCE = re.compile(
    rb"\x80\x02\(X\x07\0\0\0storageq\0ctorch\n(?P<type>\w+)\nq\x01X...\0(?P<key>\d+)q\x02"
    rb"X\x03\0\0\0cpuq\x03(?P<count>K.|M..|J...[\0-\x7f])Ntq\x04Q\."
    rb"\x80\x02\]q\0X...\0(?P<listed>\d+)q\x01a\.",
    re.DOTALL,
)


class Stored(NamedTuple):
    """Description of a storage in a persistent identifier."""

    dtype: np.dtype  # type of its elements
    key: str  # key that it is stored under
    count: int  # number of its elements


def stored(identifier: Any, storages: Mapping[str, np.dtype]) -> Stored:
    """The storage that a persistent identifier describes.

    Args:
        identifier: ("storage", class, key, device, number of elements[, view]).
        storages: class to type of elements.

    Raises:
        PickleError: it describes something else.
    """
    if not isinstance(identifier, tuple) or len(identifier) not in (5, 6):
        raise PickleError("unknown kind of stored data: not five or six parts")
    what, kind, key, _, count, *view = identifier
    if what != "storage" or not isinstance(kind, Global):
        raise PickleError(f"unknown kind of stored data: {reprlib.repr(what)}")
    if kind.name not in storages:
        raise PickleError(f"a tensor of {kind.name}, which is not read here")
    if not isinstance(key, str) or not _is_count(count):
        said = f"storage {reprlib.repr(key)} of {reprlib.repr(count)} elements"
        raise PickleError(f"damaged pickled data: {said}")
    if any(part is not None for part in view):
        raise PickleError("a storage that is a view of another; save the file again")
    return Stored(storages[kind.name], key, count)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """A tensor: a window on a storage, which it shares and which cannot be written through it.

    Args:
        storage: one-dimensional.
        offset: offset of the first element.
        size: shape of the tensor.
        stride: in elements.

    Raises:
        PickleError: the window reaches beyond the storage, or repeats it many times.
    """
    if not isinstance(storage, np.ndarray) or storage.ndim != 1 or storage.dtype == UNTYPED:
        raise PickleError("damaged tensor: it lies in no storage of a known type")

    def said() -> str:
        # Short, since a small file may hold what is long to print.
        texts = map(reprlib.repr, (size, stride, offset))
        return "a tensor of size {}, stride {} and offset {}".format(*texts)

    if (
        not isinstance(size, tuple)
        or not isinstance(stride, tuple)
        or len(size) != len(stride)
        or not all(map(_is_count, (offset, *size, *stride)))
    ):
        raise PickleError(f"{said()} is damaged: these do not describe a window")
    if 0 in size:
        return np.empty(size, storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= len(storage):
        raise PickleError(
            f"{said()} reaches beyond its storage of {len(storage)} elements: damaged or crafted"
        )
    if math.prod(size) > max(len(storage), _MOST_REPEATED):
        raise PickleError(f"{said()} repeats the {len(storage)} elements of its storage: refused")
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)


def typed_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, *rest: Any, order: str = "<"
) -> np.ndarray:
    """As `tensor`, of an untyped storage: after ``requires_grad`` and hooks comes the type."""
    dtype = DTYPES.get(rest[2].name) if isinstance(rest[2], Global) else None
    if not isinstance(storage, np.ndarray) or dtype is None:
        raise PickleError("damaged tensor: it lies in no storage, or its type is unknown")
    if storage.nbytes % dtype.itemsize:
        raise PickleError(f"damaged tensor: a storage of {storage.nbytes} bytes holds no {dtype}")
    elements = storage.view(dtype.newbyteorder(order))  # pyright: ignore[reportArgumentType]
    return tensor(elements, offset, size, stride)


def _device(*parts: Any) -> str:
    if not all(isinstance(part, str | int) for part in parts):
        raise PickleError("damaged pickled data: a device is no name with a number")
    return ":".join(map(str, parts))


def _first(value: Any, *_: Any) -> Any:
    return value


def _of_type(rebuild: Any, _kind: Any, arguments: Any, _state: Any) -> Any:
    """A tensor with attributes: how it is rebuilt, its class, the arguments and the attributes."""
    if not isinstance(rebuild, Global) or rebuild.call is None or not isinstance(arguments, tuple):
        raise PickleError("refused: a tensor that is rebuilt in an unknown way")
    return rebuild.call(*arguments)


def storage_from(content: Any) -> np.ndarray:
    """The storage in a file of PyTorch's old format.

    Args:
        content: the file's bytes.

    Returns:
        One-dimensional array.

    Raises:
        PickleError: it is damaged, or something else.
    """
    data = bytes_of(content)
    usual = _USUAL_REFERENCE.search(data)
    name = "" if usual is None else f"torch.{usual['type'].decode()}"
    if usual is not None and usual["listed"] == usual["key"] and name in STORAGES:
        _check_preamble(data[: usual.start()])
        dtype, place = STORAGES[name], usual.end()
        count = int.from_bytes(usual["count"][1:], "little")
    else:
        dtype, count, place = _read_header(data)
    stated = int.from_bytes(data[place : place + 8], "little")
    size = len(data) - place - 8
    if stated != count or size != count * dtype.itemsize:
        raise PickleError(
            f"damaged tensor: {size} bytes for {count} numbers of {dtype.itemsize} bytes"
        )
    return np.frombuffer(data, dtype, count, place + 8)


def _read_header(data: bytes) -> tuple[np.dtype, int, int]:
    """Type of a storage's elements, their number, and where the header ends."""
    stream = io.BytesIO(data)
    read_preamble(stream)
    names = dict.fromkeys(STORAGES)
    found = load_next(stream, names, persistent=lambda said: stored(said, STORAGES))
    if not isinstance(found, Stored) or load_next(stream, {}) != [found.key]:
        raise PickleError("damaged tensor: its storage is missing")
    return found.dtype, found.count, stream.tell()


def read_preamble(stream: BinaryIO) -> None:
    """Skip the preamble of files in PyTorch's old format.

    Raises:
        PickleError: the stream does not begin so, or was written on a big-endian machine.
    """
    if load_next(stream, {}) != MAGIC_NUMBER or load_next(stream, {}) != PROTOCOL_VERSION:
        raise PickleError("a tensor's storage is not in PyTorch's format of protocol 1001")
    system = load_next(stream, {})
    if not isinstance(system, dict) or not system.get("little_endian", True):
        raise PickleError("a tensor was written on a big-endian machine; convert it there")


@lru_cache(maxsize=8)
def _check_preamble(preamble: bytes) -> None:
    """Check the preamble of a tensor; cached, since all tensors of a file share one."""
    stream = io.BytesIO(preamble)
    read_preamble(stream)
    if stream.tell() != len(preamble):
        raise PickleError("a tensor's storage is not in PyTorch's format of protocol 1001")


# Tensors and what stands beside them; PLAIN and ARRAYS are part of it.
TENSORS: Table = {
    **PLAIN,
    **ARRAYS,
    **dict.fromkeys((*DTYPES, "torch.bfloat16", *STORAGES)),
    "torch.Size": tuple,
    "torch.Tensor": None,
    "torch.device": _device,
    "torch.nn.parameter.Parameter": None,
    "torch.storage._load_from_bytes": storage_from,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_tensor_v3": typed_tensor,
}
