"""Numpy's arrays in pickles: a table for `atomjax.safe_pickle.interpreter`."""

import re
import reprlib
from typing import Any

import numpy as np

from atomjax.safe_pickle.interpreter import Buildable, Global, PickleError, Table


class _Dtype(Buildable):
    """A number type; its state holds the byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?[biufcSU]\d{1,8}", code):
            said = reprlib.repr(code)
            raise PickleError(f"refused: an array of {said}; only numbers and text are read")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> np.dtype:
        order = state[1]
        return self.dtype.newbyteorder(order) if order in ("<", ">") else self.dtype


class _Array(Buildable):
    """An array that waits for shape, type and bytes."""

    def __init__(self, kind: Any = None, *_: Any) -> None:
        if isinstance(kind, Global) and kind.name != "numpy.ndarray":
            raise PickleError(f"refused: an array of class {kind.name}")

    def build(self, state: Any) -> np.ndarray:
        _, shape, dtype, fortran, content = state
        return _array_from(content, dtype, shape, "F" if fortran else "C")


def _array_from(
    content: Any, dtype: Any, shape: Any, order: str = "C", axes: Any = None
) -> np.ndarray:
    if not isinstance(dtype, np.dtype) or not isinstance(content, bytes | bytearray | str):
        raise PickleError("refused: an array of objects; only numbers and text are read")
    # "K" with axes: contiguous after these are put in another order.
    permuted = order == "K" and isinstance(axes, tuple)
    dimensions = list(range(len(shape)))
    if permuted and (any(axis not in dimensions for axis in axes) or sorted(axes) != dimensions):
        raise PickleError("damaged array: its axes are no order of its dimensions")
    if order not in ("C", "F") and not permuted:
        raise PickleError(f"damaged array: its order is {reprlib.repr(order)}")
    if isinstance(content, str):
        content = content.encode("latin1")
    flat = np.frombuffer(content, dtype)
    # A type's bytes fill the shape exactly, or reshape raises.
    array = flat.reshape(tuple(shape), order="F" if order == "F" else "C")
    return (array.transpose(axes) if permuted else array).copy(order="K")


def _number(dtype: Any, content: Any) -> Any:
    return _array_from(content, dtype, ())[()]


# Arrays, scalars and number types, of versions 1 and 2.
ARRAYS: Table = {
    "numpy.ndarray": None,
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
