"""Batches worked through in parts, one after the other, to fit a large batch into small memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def summed(function: Callable[..., Any], parts: int) -> Callable[..., Any]:
    """``function``, or where there are several parts its sum over the leading axis of arguments.

    Args:
        function: function from arrays to a tree of arrays.
        parts: k; where it is more than one, every argument has a leading axis of that length.
    """
    if parts == 1:
        return function

    def over_parts(*stacked: Any) -> Any:
        shapes = jax.eval_shape(function, *jax.tree.map(lambda x: x[0], stacked))
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        def add(total, arguments):
            return jax.tree.map(jnp.add, total, function(*arguments)), None

        return jax.lax.scan(add, zero, stacked)[0]

    return over_parts


def part_keys(key: jax.Array, parts: int) -> jax.Array:
    """The random key, or where there are several parts one for each."""
    return key if parts == 1 else jax.random.split(key, parts)


def stack_parts(batch: Any, parts: int) -> Any:
    """Leaves [rows, ...] as they are, or [rows / k, k, ...] where there are several parts."""
    if parts == 1:
        return batch
    return jax.tree.map(lambda x: x.reshape(len(x) // parts, parts, *x.shape[1:]), batch)
