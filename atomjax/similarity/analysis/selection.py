"""Selection of structures of an upstream set to pretrain on, for a given downstream set.

The paper chooses whole data sets; these choose inside one. Both work on the sums over structures
(projected features), in coordinates where the downstream set has zero mean and unit covariance:
there a mean m and covariance C are at the squared Fréchet distance ``‖m‖² + ‖C^½ - 1‖²`` from it,
which is ``‖m‖² + ¼ ‖C - 1‖²`` to leading order.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from atomjax.similarity.features.structure_sums import StructureSums, unpack
from atomjax.similarity.measures.precision import host_float64
from atomjax.similarity.measures.resampling import check_comparable

# Whitened directions; those in which the downstream set varies most.
DIRECTIONS = 16
# Directions in which the variance is a smaller fraction of the largest one count as noise.
NOISE = 1e-6


def select_nearest(
    upstream: StructureSums, downstream: StructureSums, size: int, directions: int = DIRECTIONS
) -> np.ndarray:
    """The structures whose atoms lie nearest to the middle of the downstream set.

    Nearest by the mean squared whitened distance of their atoms. Costs S · q³ operations for S
    structures. It favours typical structures, so the spread of what it picks is too small.

    Args:
        upstream: candidates.
        downstream: the target.
        size: number of structures to pick.
        directions: whitened directions to compare in.

    Returns:
        [size] indices of structures, nearest first.

    Raises:
        ValueError: there are fewer candidates, or the sets were projected differently.
    """
    _check(upstream, downstream, size)
    counts, _, second = _whitened(upstream, downstream, directions)
    distance = np.trace(second, axis1=1, axis2=2) / counts
    return np.argsort(distance, kind="stable")[:size]


def select_greedily(
    upstream: StructureSums, downstream: StructureSums, size: int, directions: int = DIRECTIONS
) -> np.ndarray:
    """Structures picked one by one, each the one that lowers the distance of the choice most.

    Herding (Welling, ICML 2009) of mean and covariance together: the distance is the quadratic
    form above, of q + q (q + 1)/2 moments. Costs S · q² operations a pick, and S · q² numbers.

    Args:
        upstream: candidates.
        downstream: the target.
        size: number of structures to pick.
        directions: q, whitened directions to compare in.

    Returns:
        [size] indices of structures in the order of picking.

    Raises:
        ValueError: there are fewer candidates, or the sets were projected differently.
    """
    _check(upstream, downstream, size)
    counts, sums, second = _whitened(upstream, downstream, directions)
    q = sums.shape[1]
    i, j = np.triu_indices(q)
    # Off-diagonal elements stand twice in the norm; the factor ¼ is that of the expansion.
    weight = np.sqrt(np.where(i == j, 0.25, 0.5))
    moments = np.concatenate([sums, second[:, i, j] * weight], axis=1)
    target = np.concatenate([np.zeros(q), (i == j) * weight])
    with host_float64():
        return jax.device_get(_herd(counts.astype(np.float64), moments, target, size))


@functools.partial(jax.jit, static_argnames="size")
def _herd(counts: jax.Array, moments: jax.Array, target: jax.Array, size: int) -> jax.Array:
    """[size] picks; counts [S], sums of moments [S, f], mean moments to reach [f]."""
    # ‖(A + a)/(N + n) - t‖² with a and n of the candidate, expanded so that a pick costs one
    # matrix-vector product.
    excess = moments - counts[:, None] * target
    squares = (excess**2).sum(axis=1)

    def pick(state, _):
        total, rows, free = state
        gaps = (total @ total + 2 * excess @ total + squares) / (rows + counts) ** 2
        best = jnp.argmin(jnp.where(free, gaps, jnp.inf))
        return (total + excess[best], rows + counts[best], free.at[best].set(False)), best

    start = (jnp.zeros_like(target), jnp.zeros(()), jnp.ones(len(counts), bool))
    return lax.scan(pick, start, None, length=size)[1]


def _whitened(
    upstream: StructureSums, downstream: StructureSums, directions: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows [S], sums [S, q] and second moments [S, q, q] in the downstream set's coordinates."""
    rows = downstream.counts.sum()
    offset = downstream.sums.sum(axis=0) / rows
    products = unpack(downstream.products.sum(axis=0), downstream.dimension)
    values, vectors = np.linalg.eigh(products / rows - np.outer(offset, offset))
    kept = np.argsort(-values)[:directions]
    kept = kept[values[kept] > NOISE * values.max()]
    if not len(kept):
        raise ValueError("the downstream features do not vary; nothing can be selected by them")
    whiten = vectors[:, kept] / np.sqrt(values[kept])
    shift = (downstream.center + offset - upstream.center) @ whiten
    counts, sums = upstream.counts, upstream.sums @ whiten
    second = whiten.T @ unpack(upstream.products, upstream.dimension) @ whiten
    cross = sums[:, :, None] * shift
    second = second - cross - cross.transpose(0, 2, 1)
    second = second + counts[:, None, None] * np.outer(shift, shift)
    return counts, sums - counts[:, None] * shift, second


def _check(upstream: StructureSums, downstream: StructureSums, size: int) -> None:
    check_comparable([upstream, downstream])
    if not 1 <= size <= len(upstream.counts):
        raise ValueError(
            f"cannot select {size} of {len(upstream.counts)} structures; "
            "lower the size or add candidates"
        )
