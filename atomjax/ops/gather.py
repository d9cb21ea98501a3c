"""Gathers whose derivative is again a gather.

The transpose of ``x[index]`` is a scatter-add, which XLA runs as a serial loop on CPU and with
atomics (slow and non-deterministic) on GPU. The host that packs a batch knows every index in
advance, so it also ships the *reverse* table: for each row of ``x``, the places that read it.
With it both directions are plain gathers followed by a sum over a short axis: deterministic,
fusable, and differentiable any number of times in reverse mode.

Shape letters: N rows (atoms), E edges, K neighbour slots, R readers of a row.
Out-of-range entries (``index == N``, ``reverse == index.size``) mean "nothing" and read zero.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct


@struct.dataclass
class Slots:
    """The two-way map between flat rows and dense slots of their owners.

    Attributes:
        index: [N, K] the row in each slot; the number of rows where the slot is empty.
        position: [E] the flat slot ``n * K + k`` of each row; ``N * K`` for padding rows.
    """

    index: jax.Array
    position: jax.Array


@struct.dataclass
class TieredSlots:
    """:class:`Slots` of owners in tiers, each with slots as wide as its owners need.

    Attributes:
        index: [N_t, K_t] the row in each slot, for every tier; the number of rows where empty.
        position: [E] the place of each row among the slots of all tiers, one tier after the
            other; their number for padding rows.
    """

    index: tuple[jax.Array, ...]
    position: jax.Array

    @property
    def size(self) -> int:
        """Number of slots of all tiers, S."""
        return sum(index.size for index in self.index)

    @property
    def flat(self) -> jax.Array:
        """[S] the row in each slot of all tiers."""
        return jnp.concatenate([index.reshape(-1) for index in self.index])


def rows(x: jax.Array, index: jax.Array, empty: int | bool = 0) -> jax.Array:
    """Rows ``x[index]``, or ``empty`` where the index is out of range; for constants.

    Args:
        x: [N, ...] rows.
        index: integers of any shape in [0, N].
        empty: value of rows whose index is N.
    """
    return jnp.asarray(x).at[index].get(mode="fill", fill_value=empty)


def _flatten(y: jax.Array, index: jax.Array) -> jax.Array:
    return y.reshape((index.size, *y.shape[index.ndim :]))


@jax.custom_vjp
def take(x: jax.Array, index: jax.Array, reverse: jax.Array) -> jax.Array:
    """Rows ``x[index]``, zero where the index is out of range.

    Args:
        x: [N, ...] rows.
        index: integer array of any shape with values in [0, N]; N reads zero.
        reverse: [N, R] flat positions in ``index`` that read each row; ``index.size`` for none.

    Returns:
        ``index.shape + x.shape[1:]``.
    """
    del reverse
    return rows(x, index)


@jax.custom_vjp
def take_inside(x: jax.Array, index: jax.Array, reverse: jax.Array) -> jax.Array:
    """Rows ``x[index]`` where every index is in range, several times faster than :func:`take`.

    Args:
        x: [N, ...] rows.
        index: integer array of any shape with values in [0, N - 1], such as the senders or the
            receivers of flat edges; other values read anything.
        reverse: as in :func:`take`.

    Returns:
        ``index.shape + x.shape[1:]``.
    """
    del reverse
    return x.at[index].get(mode="promise_in_bounds")


@jax.custom_vjp
def put(y: jax.Array, index: jax.Array, reverse: jax.Array) -> jax.Array:
    """The transpose of :func:`take`: sums ``y`` into the rows its entries were read from.

    Args:
        y: ``index.shape + [...]`` values.
        index: as in :func:`take`.
        reverse: [N, R] as in :func:`take`.

    Returns:
        [N, ...] sums.
    """
    return rows(_flatten(y, index), reverse).sum(axis=1)


def _take_forward(x, index, reverse):
    return take(x, index, reverse), (index, reverse)


def _take_backward(residuals, g):
    index, reverse = residuals
    return put(g, index, reverse), None, None


def _take_inside_forward(x, index, reverse):
    return take_inside(x, index, reverse), (index, reverse)


def _put_forward(y, index, reverse):
    return put(y, index, reverse), (index, reverse)


def _put_backward(residuals, g):
    index, reverse = residuals
    return take(g, index, reverse), None, None


take.defvjp(_take_forward, _take_backward)
take_inside.defvjp(_take_inside_forward, _take_backward)
put.defvjp(_put_forward, _put_backward)


def to_slots(x: jax.Array, slots: Slots) -> jax.Array:
    """Edge rows [E, ...] laid out by receiver and neighbour slot, [N, K, ...]; empty slots zero."""
    return take(x, slots.index, slots.position[:, None])


def from_slots(x: jax.Array, slots: Slots) -> jax.Array:
    """Slot values [N, K, ...] as edge rows [E, ...]; padding edges read zero."""
    n, k = slots.index.shape
    flat = x.reshape((n * k, *x.shape[2:]))
    return take(flat, slots.position, slots.index.reshape(-1, 1))


def to_tiers(x: jax.Array, slots: TieredSlots) -> list[jax.Array]:
    """Edge rows [E, ...] as slots [N_t, K_t, ...] of each tier; empty slots zero."""
    flat = take(x, slots.flat, slots.position[:, None])
    ends = np.cumsum([index.size for index in slots.index])
    parts = jnp.split(flat, ends[:-1])
    shapes = [index.shape + x.shape[1:] for index in slots.index]
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def from_tiers(x: jax.Array, slots: TieredSlots) -> jax.Array:
    """Values [S, ...] of the slots of all tiers as edge rows [E, ...]; padding edges read zero."""
    return take(x, slots.position, slots.flat[:, None])


def sum_slots(x: jax.Array, slots: Slots) -> jax.Array:
    """Sum of edge rows [E, ...] over each receiver, [N, ...] (a segment sum without scatter)."""
    return to_slots(x, slots).sum(axis=1)
