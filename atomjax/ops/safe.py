"""Norms with finite derivatives at zero: ``sqrt'(0) * 0`` is NaN, and padding is full of zeros."""

import jax
import jax.numpy as jnp


def safe_norm(x: jax.Array, axis: int = -1, keepdims: bool = False) -> jax.Array:
    """Euclidean norm along ``axis``; value and every derivative are zero for the zero vector."""
    square = jnp.sum(x * x, axis=axis, keepdims=keepdims)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def safe_normalize(x: jax.Array, axis: int = -1) -> tuple[jax.Array, jax.Array]:
    """Unit vectors and lengths along ``axis``; for zero vectors both are zero, to every order."""
    length = safe_norm(x, axis=axis, keepdims=True)
    unit = jnp.where(length > 0, x / jnp.where(length > 0, length, 1), 0)
    return unit, jnp.squeeze(length, axis)
