"""The globals that a checkpoint may name: what rebuilds tensors and numbers, and classes to record.

Everything else is refused by name, whether or not it would do harm.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from atomjax.convert.errors import FileFormatError, RefusedError
from atomjax.convert.opcodes import Known, Opaque, Rebuilt

# Classes of the training code whose checkpoints are known: their configs, schedules and callbacks
# lie beside the weights. A name is a module, or a package if it ends in a dot.
RECORDED = (
    "argparse",
    "datetime",
    "fairchem.",
    "jmp.",
    "lightning.",
    "lightning_fabric.",
    "lightning_utilities.",
    "ll.",
    "ocpmodels.",
    "omegaconf.",
    "pathlib",
    "pathlib.",
    "pydantic.",
    "pydantic_core.",
    "pytorch_lightning.",
    "torch.optim.",
    "torchmetrics.",
    "typing",
)

DTYPES: dict[str, np.dtype] = {
    "float64": np.dtype(np.float64),
    "double": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "half": np.dtype(np.float16),
    "bfloat16": np.dtype(jnp.bfloat16),
    "int64": np.dtype(np.int64),
    "long": np.dtype(np.int64),
    "int32": np.dtype(np.int32),
    "int": np.dtype(np.int32),
    "int16": np.dtype(np.int16),
    "short": np.dtype(np.int16),
    "int8": np.dtype(np.int8),
    "uint8": np.dtype(np.uint8),
    "uint16": np.dtype(np.uint16),
    "uint32": np.dtype(np.uint32),
    "uint64": np.dtype(np.uint64),
    "bool": np.dtype(np.bool_),
}

# Storage classes of PyTorch, and the type of their elements; None holds bytes.
STORAGES: dict[str, np.dtype | None] = {
    "torch.DoubleStorage": DTYPES["float64"],
    "torch.FloatStorage": DTYPES["float32"],
    "torch.HalfStorage": DTYPES["float16"],
    "torch.BFloat16Storage": DTYPES["bfloat16"],
    "torch.LongStorage": DTYPES["int64"],
    "torch.IntStorage": DTYPES["int32"],
    "torch.ShortStorage": DTYPES["int16"],
    "torch.CharStorage": DTYPES["int8"],
    "torch.ByteStorage": DTYPES["uint8"],
    "torch.BoolStorage": DTYPES["bool"],
    "torch.storage.UntypedStorage": None,
    "torch.UntypedStorage": None,
}


class NumpyType(Rebuilt):
    """A numpy dtype: its code, then its byte order as state."""

    def __init__(self, code: str, *_: Any):
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?[biufcSU]\d{1,4}", code):
            raise FileFormatError(f"a numpy dtype {code!r} holds more than numbers: refused")
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        """Takes (version, byte order, ...)."""
        order = state[1]
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class NumpyArray(Rebuilt):
    """A numpy array: empty, then its shape, dtype and bytes as state."""

    def __init__(self, *_: Any):
        self.array = np.empty(0)

    def set_state(self, state: Any) -> None:
        """Takes (version, shape, dtype, Fortran order, bytes)."""
        _, shape, kind, fortran, data = state
        if not isinstance(kind, NumpyType) or not isinstance(data, bytes | bytearray):
            raise FileFormatError("the pickle is damaged: a numpy array without dtype or bytes")
        array = np.frombuffer(data, kind.dtype)
        self.array = array.reshape(shape, order="F" if fortran else "C")


def numpy_scalar(kind: NumpyType, data: bytes) -> Any:
    """A numpy number from its dtype and bytes."""
    return np.frombuffer(data, kind.dtype)[0]


def numpy_buffer(data: Any, kind: NumpyType, shape: tuple[int, ...], order: str) -> np.ndarray:
    """A numpy array as protocol 5 writes it."""
    if order not in ("C", "F"):
        raise FileFormatError(f"the pickle is damaged: a numpy array in order {order!r}")
    return np.frombuffer(data, kind.dtype).reshape(shape, order="F" if order == "F" else "C")


def encode(text: str, encoding: str) -> bytes:
    """Bytes that the oldest protocols write as text."""
    if encoding != "latin1":
        raise FileFormatError(f"the pickle encodes text as {encoding!r}: refused")
    return text.encode("latin1")


def byte_array(data: bytes | str = b"", encoding: str = "latin1") -> bytearray:
    """A bytearray from its content, never from a length."""
    return bytearray(encode(data, encoding) if isinstance(data, str) else bytes(memoryview(data)))


def reconstruct(target: Any, *_: Any) -> Opaque:
    """An object of protocol 1: its class, its base and the base's value."""
    if not isinstance(target, Opaque):
        raise FileFormatError(f"the pickle makes an object of {target!r}: refused")
    return Opaque(target.name, ())


def ordered(pairs: Any = ()) -> dict[Any, Any]:
    """An OrderedDict, which a dict is."""
    return dict(pairs)


def _plain() -> dict[str, Callable[..., Any] | None]:
    """Name → what stands for calling it, of everything but tensors."""
    known: dict[str, Callable[..., Any] | None] = {
        "_codecs.encode": encode,
        "collections.OrderedDict": ordered,
        "collections.defaultdict": lambda *_: {},
        "collections.Counter": ordered,
        "copyreg._reconstructor": reconstruct,
        "copy_reg._reconstructor": reconstruct,
        "numpy.dtype": NumpyType,
        "numpy.ndarray": None,
        "torch.Size": tuple,
        "torch.Tensor": None,
        "torch.nn.parameter.Parameter": None,
        "torch.device": lambda *arguments: ":".join(map(str, arguments)),
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        known[f"{module}.scalar"] = numpy_scalar
        known[f"{module}._reconstruct"] = NumpyArray
    for module in ("numpy.core.numeric", "numpy._core.numeric"):
        known[f"{module}._frombuffer"] = numpy_buffer
    for module in ("builtins", "__builtin__"):
        for kind in (set, frozenset, list, tuple, dict, complex):
            known[f"{module}.{kind.__name__}"] = kind
        known[f"{module}.bytearray"] = byte_array
        for name in ("int", "float", "str", "bool", "object", "unicode", "long"):
            known[f"{module}.{name}"] = None
    return known


PLAIN = _plain()


def find_global(module: str, name: str, tensors: Mapping[str, Callable[..., Any]]) -> Any:
    """What stands for a global.

    Args:
        module: as the file says.
        name: in the module.
        tensors: name → function, of the globals that rebuild tensors of this file.

    Raises:
        RefusedError: it is not on the allow-list.
    """
    full = f"{module}.{name}"
    if full in tensors:
        return Known(full, tensors[full])
    if full in PLAIN:
        return Known(full, PLAIN[full])
    if full in STORAGES:
        return Known(full)
    if module == "torch" and name in DTYPES:
        return DTYPES[name]
    if any(f"{module}.".startswith(r) if r.endswith(".") else module == r for r in RECORDED):
        return Opaque(full)
    raise RefusedError(
        f"the file asks for {full}, which is neither part of a tensor nor a class of a training "
        "code whose checkpoints are known. Nothing was executed. If you trust the file, load it "
        "where it was made and save its state_dict alone"
    )
