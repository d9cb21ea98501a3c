"""Gaussian statistics of feature rows as a stream: count, mean and centred second moment.

Rows may have weights: a row of weight w counts as w rows. Where there are none, every row counts
once, and where they are whole numbers the statistics are those of the repeated rows.

Statistics of any two sets of rows merge into those of their union (Chan, Golub and LeVeque,
"Updating formulae and a pairwise algorithm for computing sample variances", COMPSTAT 1982), so
memory is O(d²) whatever the number of rows, and shards of a set may be read in any order, on any
number of devices or machines.

In float64 that is exact to rounding. In float32 every sum carries the rounding error of its
additions along (Knuth's two-sum), so the error does not grow with the number of merges.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import DTypeLike

from atomjax.similarity.measures.symmetric import gram


@contextlib.contextmanager
def host_float64() -> Iterator[None]:
    """Context in which jax computes in float64 on the host's processor.

    An accelerator may have no float64 at all, and one eigendecomposition of 3200 features compiles
    for minutes on a TPU and takes seconds on a processor. Arrays made inside belong to the inside:
    take them out with ``jax.device_get``.

    Raises:
        RuntimeError: jax was told not to use the processor.
    """
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise RuntimeError(
            "statistics are computed on the host's processor, which jax may not use here; add it "
            "to the platforms, for instance JAX_PLATFORMS=cuda,cpu"
        ) from error
    with jax.enable_x64(True), jax.default_device(host):
        yield


@struct.dataclass
class Statistics:
    """Mean and second moment of a set of feature rows; d features."""

    count: jax.Array  # [] integer, rows, each counted once whatever its weight
    mean: jax.Array  # [d]
    scatter: jax.Array  # [d, d] weighted sum of ``(x - mean)(x - mean)ᵀ`` over the rows, symmetric
    mean_low: jax.Array | None = None  # [d] rounding error of ``mean``; None in float64
    scatter_low: jax.Array | None = None  # [d, d] rounding error of ``scatter``; None in float64
    weight: jax.Array | None = None  # [] sum of the weights; None where every row has weight 1

    @property
    def total(self) -> jax.Array:
        """[] total weight of the rows: the sum of their weights, or their number."""
        return self.count if self.weight is None else self.weight

    @property
    def dimension(self) -> int:
        """Number d of features."""
        return self.mean.shape[-1]


def empty_statistics(dimension: int, dtype: DTypeLike | None = None) -> Statistics:
    """Statistics of no rows.

    Args:
        dimension: number d of features.
        dtype: float64 or float32; jax's default float if None.
    """
    mean = jnp.zeros(dimension, float if dtype is None else dtype)
    scatter = jnp.zeros((dimension, dimension), mean.dtype)
    return _make(jnp.zeros((), int), mean, scatter)


def row_statistics(
    rows: jax.Array, mask: jax.Array | None = None, weights: jax.Array | None = None
) -> Statistics:
    """Statistics of the rows of one batch, in the dtype of the rows.

    Args:
        rows: [n, d] features.
        mask: [n] bool, true for the rows that count; all if None. Other rows may hold anything.
        weights: [n] not negative; None gives every row weight 1.
    """
    if mask is None:
        mask = jnp.ones(len(rows), bool)
    count, total = mask.sum(dtype=int), None
    rows = jnp.where(mask[:, None], rows, 0)
    if weights is None:
        mean = rows.sum(axis=0) / _divisor(count, rows.dtype)
        centred = jnp.where(mask[:, None], rows - mean, 0)
    else:
        weights = jnp.where(mask, weights.astype(rows.dtype), 0)
        total = weights.sum()
        mean = (weights[:, None] * rows).sum(axis=0) / _divisor(total, rows.dtype)
        centred = jnp.sqrt(weights)[:, None] * (rows - mean)
    return _make(count, mean, gram(centred), total)


def merge(a: Statistics, b: Statistics) -> Statistics:
    """Statistics of the union of two sets of rows, of one precision.

    A plain function of arrays, to be compiled; :func:`merge_all` does it for results on the host.
    """
    dtype = a.mean.dtype
    total = a.total + b.total
    share = b.total.astype(dtype) / _divisor(total, dtype)
    shift = b.mean - a.mean
    if a.mean_low is not None and b.mean_low is not None:
        shift = shift + (b.mean_low - a.mean_low)
    mean, mean_low = _add(a.mean, a.mean_low, shift * share)
    scatter, scatter_low = _add(a.scatter, a.scatter_low, b.scatter)
    between = a.total.astype(dtype) * share
    scatter, scatter_low = _add(scatter, scatter_low, between * jnp.outer(shift, shift))
    if scatter_low is not None and b.scatter_low is not None:
        scatter_low = scatter_low + b.scatter_low
    weight = None if a.weight is None and b.weight is None else total.astype(dtype)
    return Statistics(a.count + b.count, mean, scatter, mean_low, scatter_low, weight)


def update(
    statistics: Statistics,
    rows: jax.Array,
    mask: jax.Array | None = None,
    weights: jax.Array | None = None,
) -> Statistics:
    """Statistics with the rows of one more batch; see :func:`row_statistics`."""
    return merge(statistics, row_statistics(rows.astype(statistics.mean.dtype), mask, weights))


def merge_all(parts: Sequence[Statistics]) -> Statistics:
    """Statistics of the union of several sets, merged in pairs in float64 on the host.

    Args:
        parts: statistics of any precision, on any device.

    Returns:
        NumPy arrays.

    Raises:
        ValueError: there is nothing to merge, or the sets have different numbers of features.
    """
    sizes = sorted({part.dimension for part in parts})
    if len(sizes) != 1:
        raise ValueError(
            f"cannot merge statistics of {sizes or 'no'} features; "
            "give at least one set, all from the same extractor"
        )
    merged = [to_float64(part) for part in parts]
    with host_float64():
        while len(merged) > 1:
            pairs = [_merge(a, b) for a, b in zip(merged[::2], merged[1::2], strict=False)]
            merged = pairs + merged[2 * len(pairs) :]
        return jax.device_get(merged[0])


_merge = jax.jit(merge)


def to_float64(statistics: Statistics) -> Statistics:
    """The same statistics as float64 NumPy arrays, with the float32 rounding errors added back."""
    arrays: Any = jax.device_get(statistics)
    mean, scatter = np.asarray(arrays.mean, np.float64), np.asarray(arrays.scatter, np.float64)
    if arrays.mean_low is not None:
        mean, scatter = mean + arrays.mean_low, scatter + arrays.scatter_low
    return arrays.replace(
        count=np.asarray(arrays.count, np.int64),
        mean=mean,
        scatter=scatter,
        mean_low=None,
        scatter_low=None,
        weight=None if arrays.weight is None else np.asarray(arrays.weight, np.float64),
    )


def merge_over_devices(statistics: Statistics, axis_name: str) -> Statistics:
    """Statistics of the rows of all devices, inside ``jax.shard_map``; the same on every device.

    Args:
        statistics: statistics of the rows of this device.
        axis_name: name of the mesh axis to merge over.
    """
    add = functools.partial(jax.lax.psum, axis_name=axis_name)
    dtype = statistics.mean.dtype
    total, weight = add(statistics.total), statistics.total.astype(dtype)
    # Means relative to one device's, so that a large common offset costs no precision.
    first = jax.lax.axis_index(axis_name) == 0
    reference = add(jnp.where(first, statistics.mean, 0))
    own = statistics.mean - reference
    if statistics.mean_low is not None:
        own = own + statistics.mean_low
    common = add(weight * own) / _divisor(total, dtype)
    shift = own - common
    low = None if statistics.mean_low is None else jnp.zeros_like(common)
    mean, mean_low = _add(reference, low, common)
    scatter = add(statistics.scatter + weight * jnp.outer(shift, shift))
    return Statistics(
        count=add(statistics.count),
        mean=mean,
        scatter=scatter,
        mean_low=mean_low,
        scatter_low=jax.tree.map(add, statistics.scatter_low),
        weight=None if statistics.weight is None else total,
    )


def covariance(statistics: Statistics, ddof: int = 1) -> jax.Array:
    """[d, d] covariance, divided by total - ddof; zero where there are too few rows."""
    scatter = statistics.scatter
    if statistics.scatter_low is not None:
        scatter = scatter + statistics.scatter_low
    rows = statistics.total - ddof
    return jnp.where(rows > 0, scatter / _divisor(rows, scatter.dtype), 0)


def rank_bound(statistics: Statistics) -> jax.Array:
    """[] the largest rank that the covariance of so many rows can have."""
    return jnp.clip(statistics.count - 1, 0, statistics.dimension)


def _make(
    count: jax.Array, mean: jax.Array, scatter: jax.Array, weight: jax.Array | None = None
) -> Statistics:
    low = (None, None)
    if mean.dtype != jnp.float64:
        low = jnp.zeros_like(mean), jnp.zeros_like(scatter)
    return Statistics(count, mean, scatter, *low, weight)


def _divisor(total: jax.Array, dtype: DTypeLike) -> jax.Array:
    """``total``, or 1 where that is not positive, so that nothing divides by zero."""
    return jnp.where(total > 0, total, 1).astype(dtype)


def _add(
    high: jax.Array, low: jax.Array | None, term: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    """``high + term``, and ``low`` with its rounding error added."""
    total = high + term
    if low is None:
        return total, None
    taken = total - high
    return total, low + ((high - (total - taken)) + (term - taken))
