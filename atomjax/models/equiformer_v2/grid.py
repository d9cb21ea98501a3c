"""Functions of features as values on a grid over the sphere.

The coefficient axis leads while on the grid: both transforms are then one large matrix product,
and the pointwise work between them runs over contiguous memory.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from atomjax.models.equiformer_v2.config import EquiformerV2Config
from atomjax.models.equiformer_v2.harmonics import grid_matrices, orders, rows_by_order
from atomjax.models.equiformer_v2.published_grid import published_grid_matrices


def on_grid(
    function: Callable[[jax.Array], jax.Array],
    x: jax.Array,
    matrices: tuple[np.ndarray, np.ndarray],
) -> jax.Array:
    """Applies a function to the values on the grid.

    Args:
        function: [points, N, C] → [points, N, D].
        x: [N, I, C] coefficients.
        matrices: matrices to the grid [points, I] and from it [I, points].

    Returns:
        [N, I, D] coefficients.
    """
    to_grid, from_grid = (jnp.asarray(matrix, x.dtype) for matrix in matrices)
    n, count, width = x.shape
    flat = x.transpose(1, 0, 2).reshape(count, -1)
    values = function((to_grid @ flat).reshape(-1, n, width))
    back = from_grid @ values.reshape(values.shape[0], -1)
    return back.reshape(count, n, -1).transpose(1, 0, 2)


def feature_grid(config: EquiformerV2Config) -> tuple[np.ndarray, np.ndarray]:
    """Grid matrices of features with all orders, by degree."""
    return _matrices(config, config.lmax)


def message_grid(config: EquiformerV2Config) -> tuple[np.ndarray, np.ndarray]:
    """Grid matrices of messages in the frame of their edge, in the order of ``rows_by_order``."""
    lmax, mmax = config.lmax, config.mmax
    to_grid, from_grid = _matrices(config, mmax)
    kept = np.flatnonzero(np.abs(orders(lmax)) <= mmax)
    place = np.searchsorted(kept, rows_by_order(lmax, mmax))
    return to_grid[:, place], from_grid[place]


def _matrices(config: EquiformerV2Config, mmax: int) -> tuple[np.ndarray, np.ndarray]:
    if config.exact_grid:
        return grid_matrices(config.lmax, mmax, config.grid_resolution)
    return published_grid_matrices(config.lmax, mmax)
