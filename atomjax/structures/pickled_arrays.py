"""Arrays inside pickled data: tables for `atomjax.structures.pickles`.

`ARRAYS` rebuilds numpy's arrays and `TENSORS` PyTorch's tensors, both as numpy arrays. A tensor in
a pickle brings its storage along as a file of PyTorch's old format inside a byte string; that is
parsed here in the same restricted way (layout: ``torch/serialization.py``, ``_legacy_save``).
"""

import io
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np

from atomjax.structures.pickles import (
    PLAIN,
    Buildable,
    Global,
    PickleError,
    bytes_of,
    load_next,
)

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001

STORAGE_TYPES: Mapping[str, np.dtype] = {
    f"torch.{name}Storage": np.dtype(code)
    for name, code in (
        ("Double", "<f8"),
        ("Float", "<f4"),
        ("Half", "<f2"),
        ("Long", "<i8"),
        ("Int", "<i4"),
        ("Short", "<i2"),
        ("Char", "i1"),
        ("Byte", "u1"),
        ("Bool", "?"),
    )
}


class _Dtype(Buildable):
    """A number type; its state says the byte order."""

    def __init__(self, code: str, align: Any = False, copy: Any = False) -> None:
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in "biufcSU" or self.dtype.names or self.dtype.subdtype:
            raise PickleError(f"refused: an array of {code!r}; only numbers and text are read")

    def build(self, state: Any) -> np.dtype:
        order = str(state[1])
        return self.dtype if order == "|" else self.dtype.newbyteorder(order)  # pyright: ignore[reportArgumentType]


class _Array(Buildable):
    """An array that waits for shape, type and bytes."""

    def __init__(self, kind: Any = None, shape: Any = (0,), code: Any = b"b") -> None:
        if isinstance(kind, Global) and kind.name != "numpy.ndarray":
            raise PickleError(f"refused: an array of class {kind.name}")

    def build(self, state: Any) -> np.ndarray:
        _, shape, dtype, fortran, content = state
        return _array_from(content, dtype, shape, "F" if fortran else "C")


def _array_from(content: Any, dtype: Any, shape: Any, order: str = "C") -> np.ndarray:
    if not isinstance(dtype, np.dtype) or not isinstance(content, bytes | bytearray | str):
        raise PickleError("refused: an array of objects; only numbers and text are read")
    if isinstance(content, str):
        content = content.encode("latin1")
    flat = np.frombuffer(content, dtype)
    # A type's bytes fill the shape exactly, or reshape raises.
    return flat.reshape(tuple(shape), order="F" if order == "F" else "C").copy(order="K")


def _number(dtype: Any, content: Any) -> Any:
    return _array_from(content, dtype, ())[()]


# Numpy's arrays, scalars and number types, of versions 1 and 2.
ARRAYS: Mapping[str, Callable[..., Any]] = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    **{
        f"numpy.{core}.{name}": call
        for core in ("core", "_core")
        for name, call in (
            ("multiarray._reconstruct", _Array),
            ("multiarray.scalar", _number),
            ("numeric._frombuffer", _array_from),
        )
    },
}


# The two pickles that PyTorch writes for a storage, with their contents: parsing them instruction
# by instruction takes most of the time of reading a graph. What does not match is parsed that way.
_USUAL_REFERENCE = re.compile(
    rb"\x80\x02\(X\x07\0\0\0storageq\0ctorch\n(?P<type>\w+)\nq\x01X...\0(?P<key>\d+)q\x02"
    rb"X\x03\0\0\0cpuq\x03(?P<count>K.|M..|J...[\0-\x7f])Ntq\x04Q\."
    rb"\x80\x02\]q\0X...\0(?P<listed>\d+)q\x01a\.",
    re.DOTALL,
)


def tensor(
    storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> np.ndarray:
    """A tensor: a window on a storage, copied.

    Args:
        storage: one-dimensional.
        offset: of the first element.
        shape: of the tensor.
        strides: in elements.

    Raises:
        PickleError: the window reaches beyond the storage.
    """
    whole = all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *strides))
    if not isinstance(storage, np.ndarray) or len(shape) != len(strides) or not whole:
        raise PickleError("damaged tensor: its shape and strides do not describe a window")
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if last >= len(storage):
        raise PickleError(
            f"damaged tensor: shape {list(shape)} reaches element {last} of a storage of"
            f" {len(storage)}"
        )
    steps = [step * storage.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps).copy()


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
    if usual is not None and usual["listed"] == usual["key"]:
        _check_preamble(data[: usual.start()])
        name, place = f"torch.{usual['type'].decode()}", usual.end()
        count = int.from_bytes(usual["count"][1:], "little")
    else:
        name, count, place = _read_header(data)
    if name not in STORAGE_TYPES:
        raise PickleError(f"a tensor of {name}, which is not read here")
    dtype = STORAGE_TYPES[name]
    stored = int.from_bytes(data[place : place + 8], "little")
    size = len(data) - place - 8
    if stored != count or size != count * dtype.itemsize:
        raise PickleError(
            f"damaged tensor: {size} bytes for {count} numbers of {dtype.itemsize} bytes"
        )
    return np.frombuffer(data, dtype, count, place + 8)


def _read_header(data: bytes) -> tuple[str, int, int]:
    """Type of a storage, its number of elements, and where the header ends."""
    stream = io.BytesIO(data)
    sizes: dict[str, tuple[str, int]] = {}

    def declare(identifier: Any) -> str:
        kind, storage_type, key, _, count, view = identifier
        if kind != "storage" or view is not None or not isinstance(storage_type, Global):
            raise PickleError(f"refused: an object stored outside of the tensor ({kind!r})")
        sizes[str(key)] = (storage_type.name, int(count))
        return str(key)

    read_preamble(stream)
    key = load_next(stream, dict.fromkeys(STORAGE_TYPES, _never), declare)
    if key not in sizes or load_next(stream, {}) != [key]:
        raise PickleError("damaged tensor: its storage is missing")
    return *sizes[key], stream.tell()


def read_preamble(stream: BinaryIO) -> None:
    """Skip what files of PyTorch's old format begin with.

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
    """What all tensors of a file begin with is parsed once."""
    stream = io.BytesIO(preamble)
    read_preamble(stream)
    if stream.tell() != len(preamble):
        raise PickleError("a tensor's storage is not in PyTorch's format of protocol 1001")


def _never(*_: Any) -> None:
    raise PickleError("refused to make an empty storage")


# PyTorch's tensors whose storages are inside the pickle; PLAIN and ARRAYS are part of it.
TENSORS: Mapping[str, Callable[..., Any]] = {
    **PLAIN,
    **ARRAYS,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_tensor": tensor,
    "torch.storage._load_from_bytes": storage_from,
    "torch.Size": lambda sizes=(): tuple(sizes),
}
