"""Batched products of small matrices whose derivatives are fast products, too.

XLA's CPU compiler hands batches of small products to fast kernels only where the left matrix is
summed along its last axis. Of a product ``z = x y`` and its two derivatives one never is, however
the matrices are stored; for that one the left matrix is transposed first, which costs less than the
slow product. As in :mod:`atomjax.ops.gather`, the derivatives are differentiable any number of
times in reverse mode.

Shape letters: [..., i, l] of x, [..., l, j] of y, [..., i, j] of z.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from atomjax.ops.barrier import stored


@jax.custom_vjp
def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """``z = x y``, summed over l; x is the smaller of x and z."""
    return jnp.einsum("...il,...lj->...ij", x, y)


@jax.custom_vjp
def _over_columns(z: jax.Array, y: jax.Array) -> jax.Array:
    """``z yᵀ``, summed over j."""
    return jnp.einsum("...ij,...lj->...il", z, y)


@jax.custom_vjp
def _over_rows(x: jax.Array, z: jax.Array) -> jax.Array:
    """``xᵀ z``, summed over i."""
    return jnp.einsum("...li,...ij->...lj", stored(jnp.swapaxes(x, -1, -2)), z)


def _kept(function: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[..., Any]:
    """The function, with its arguments for the derivative."""
    return lambda first, second: (function(first, second), (first, second))


product.defvjp(_kept(product), lambda xy, z: (_over_columns(z, xy[1]), _over_rows(xy[0], z)))
_over_columns.defvjp(_kept(_over_columns), lambda zy, x: (product(x, zy[1]), _over_rows(x, zy[0])))
_over_rows.defvjp(_kept(_over_rows), lambda xz, y: (_over_columns(xz[1], y), product(xz[0], y)))
