"""Precision policies: the floating-point formats of a model's products.

Whatever the policy, parameters, geometry (distances, angles, frames), sums over neighbours, pooled
energies, forces, loss and optimiser stay in the dtype of the batch, float32 or float64.

    float32       products in float32, on tensor cores too slow to be anybody's default
    tensorfloat32 products with mantissas of 10 bits, sums in float32; on a CPU the same as float32
    bfloat16      features and weights in bfloat16 (8 bits), sums in float32
"""

import contextlib
from typing import Literal, get_args

import jax
import jax.numpy as jnp

Precision = Literal["float32", "tensorfloat32", "bfloat16"]


def check_precision(precision: Precision | None) -> None:
    """Raises ValueError for an unknown policy."""
    if precision is not None and precision not in get_args(Precision):
        raise ValueError(f"precision is {precision!r}: give one of {get_args(Precision)}, or None")


def product_precision(precision: Precision | None) -> contextlib.AbstractContextManager:
    """Context in which a model of that policy is traced.

    Products that "bfloat16" leaves in float32 are those of bases and of outputs, where it counts.
    None leaves them to ``jax_default_matmul_precision``.
    """
    if precision is None:
        return contextlib.nullcontext()
    exact = precision in ("float32", "bfloat16")
    return jax.default_matmul_precision("float32" if exact else "tensorfloat32")


def exact_products() -> contextlib.AbstractContextManager:
    """Context of products whose rounding would move atoms: geometry."""
    return jax.default_matmul_precision("float32")


def feature_dtype(precision: Precision | None, dtype: jnp.dtype) -> jnp.dtype:
    """The dtype of features under a policy, given that of the geometry."""
    return jnp.dtype(jnp.bfloat16) if precision == "bfloat16" else jnp.dtype(dtype)


def widened(x: jax.Array) -> jax.Array:
    """``x`` in at least float32, for sums and outputs."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
