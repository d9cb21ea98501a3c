"""The only gather/scatter code, fast small products, safe derivatives, hints to the compiler."""

from atomjax.ops.compiler import compiler_options, stored
from atomjax.ops.gather import (
    Slots,
    TieredSlots,
    from_slots,
    from_tiers,
    put,
    rows,
    sum_slots,
    take,
    take_inside,
    to_slots,
    to_tiers,
)
from atomjax.ops.platform import platform, tracing_for
from atomjax.ops.products import product
from atomjax.ops.safe import safe_norm, safe_normalize

__all__ = [
    "Slots",
    "TieredSlots",
    "compiler_options",
    "from_slots",
    "from_tiers",
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
    "to_tiers",
    "tracing_for",
]
