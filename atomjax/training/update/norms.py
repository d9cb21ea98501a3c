"""The norm of a tree of gradients, in few kernels."""

import itertools
import operator
from typing import Any

import jax
import jax.numpy as jnp

# Arrays that one reduction takes. Of more, compilers make slower programs, and slowly.
TOGETHER = 16


def tree_norm(tree: Any) -> jax.Array:
    """√Σx² over all numbers of a tree.

    A model has hundreds of small arrays, and an accelerator starts two kernels for the sum over
    each. Arrays of one shape are summed together here, side by side in one reduction, which takes
    a tenth of the kernels and moves no byte more.

    Args:
        tree: tree of floating-point arrays, not empty.

    Returns:
        [] in their dtype.
    """

    def kind(leaf: jax.Array) -> tuple:
        return leaf.shape, leaf.dtype.name

    leaves = sorted(jax.tree.leaves(tree), key=kind)
    sums: list[jax.Array] = []
    for _, group in itertools.groupby(leaves, kind):
        alike = list(group)
        for some in (alike[i : i + TOGETHER] for i in range(0, len(alike), TOGETHER)):
            squares = tuple(jnp.square(leaf) for leaf in some)
            zeros = tuple(jnp.zeros([], leaf.dtype) for leaf in some)
            axes = tuple(range(squares[0].ndim))
            sums += jax.lax.reduce(squares, zeros, _added, axes)
    return jnp.sqrt(sum(sums[1:], start=sums[0]))


def _added(x: tuple[jax.Array, ...], y: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    return tuple(map(operator.add, x, y))
