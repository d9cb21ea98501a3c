"""The only gather/scatter code, fast small products, safe derivatives, hints to the compiler."""

from atomjax.ops.barrier import stored
from atomjax.ops.compiler import compiler_options
from atomjax.ops.gather import Slots, from_slots, put, rows, sum_slots, take, take_inside, to_slots
from atomjax.ops.platform import platform, tracing_for
from atomjax.ops.products import product
from atomjax.ops.safe import safe_norm, safe_normalize

__all__ = [
    "Slots",
    "compiler_options",
    "from_slots",
    "platform",
    "product",
    "put",
    "rows",
    "safe_norm",
    "safe_normalize",
    "stored",
    "sum_slots",
    "take",
    "take_inside",
    "to_slots",
    "tracing_for",
]
