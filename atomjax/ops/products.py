"""Products of matrices, single or in batches, whose derivatives are fast products, too.

XLA's CPU compiler hands a product to fast kernels only where the left matrix is summed along its
last axis. Of a product ``z = x y`` and its two derivatives one never is, however the matrices are
stored; for that one the smaller of its two matrices is transposed first, which costs less than the
slow product. As in :mod:`atomjax.ops.gather`, the derivatives are differentiable any number of
times in reverse mode. They have the precision under which the product was traced, wherever they
are traced themselves.

Shape letters: [..., i, l] of x, [..., l, j] of y, [..., i, j] of z.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from atomjax.ops.compiler import stored

# Type checkers do not know the options that are its attributes.
_CONFIG: Any = jax.config


def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """``z = x y``, summed over l."""
    return _product(x, y, _CONFIG.jax_default_matmul_precision)


def _differentiable(function: Callable[..., jax.Array]) -> Any:
    """A function of two matrices and a precision, which is no array, with derivatives to come."""
    return jax.custom_vjp(function, nondiff_argnums=(2,))


@_differentiable
def _product(x: jax.Array, y: jax.Array, precision: Any) -> jax.Array:
    return jnp.einsum("...il,...lj->...ij", x, y, precision=precision)


@_differentiable
def _over_columns(z: jax.Array, y: jax.Array, precision: Any) -> jax.Array:
    """``z yᵀ``, summed over j."""
    return jnp.einsum("...ij,...lj->...il", z, y, precision=precision)


@_differentiable
def _over_rows(x: jax.Array, z: jax.Array, precision: Any) -> jax.Array:
    """``xᵀ z``, summed over i."""
    if x.shape[-1] <= z.shape[-1]:
        return jnp.einsum("...li,...ij->...lj", stored(x.mT), z, precision=precision)
    # The barrier keeps the compiler from turning this back into the slow product.
    transposed = jnp.einsum("...ji,...il->...jl", stored(z.mT), x, precision=precision)
    return stored(transposed).mT


def _kept(function: Callable[..., jax.Array]) -> Callable[..., Any]:
    """The function, with its arguments for the derivative."""
    return lambda first, second, precision: (function(first, second, precision), (first, second))


_product.defvjp(
    _kept(_product),
    lambda p, xy, z: (_over_columns(z, xy[1], p), _over_rows(xy[0], z, p)),
)
_over_columns.defvjp(
    _kept(_over_columns),
    lambda p, zy, x: (_product(x, zy[1], p), _over_rows(x, zy[0], p)),
)
_over_rows.defvjp(
    _kept(_over_rows),
    lambda p, xz, y: (_over_columns(xz[1], y, p), _product(xz[0], y, p)),
)
