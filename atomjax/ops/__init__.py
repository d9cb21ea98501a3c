"""The only gather/scatter code of atomjax, and derivatives that stay finite."""

from atomjax.ops.gather import from_slots, put, rows, sum_slots, take, take_inside, to_slots
from atomjax.ops.safe import safe_norm, safe_normalize

__all__ = [
    "from_slots",
    "put",
    "rows",
    "safe_norm",
    "safe_normalize",
    "sum_slots",
    "take",
    "take_inside",
    "to_slots",
]
