"""Gaussian statistics of rows that arrive in pieces, for sets that do not fit in memory."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from atomjax.similarity.measures.statistics import (
    Statistics,
    empty_statistics,
    host_float64,
    update,
)

_update = jax.jit(update, donate_argnums=0)


class StatisticsStream:
    """Statistics of rows that arrive in pieces of any size, in float64 on the host's processor.

    Rows are gathered into blocks, so that the O(d²) cost of a merge is paid once a block and one
    shape is compiled.

    Args:
        dimension: number d of features.
        block: rows of a block.
    """

    def __init__(self, dimension: int, block: int = 2048):
        self._block = np.empty((block, dimension))
        self._weights = np.ones(block)
        self._filled, self._weighted = 0, False
        with host_float64():
            empty: Any = empty_statistics(dimension)
            self._merged = empty.replace(weight=jnp.zeros(()))

    def add(self, rows: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Takes in rows.

        Args:
            rows: [n, d].
            weights: [n] not negative; None gives every row weight 1.

        Raises:
            ValueError: the rows have another width, or hold values that are not finite.
        """
        if rows.ndim != 2 or rows.shape[1] != self._block.shape[1]:
            raise ValueError(
                f"feature rows of shape {rows.shape} do not fit statistics of "
                f"{self._block.shape[1]} features; use one extractor for a whole set"
            )
        if not np.isfinite(rows).all():
            bad = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            raise ValueError(
                f"row {bad} of the features is not finite; check the extractor's weights and "
                "the structure it came from"
            )
        self._weighted |= weights is not None
        weights = np.ones(len(rows)) if weights is None else weights
        while len(rows):
            taken = len(self._block) - self._filled
            place = slice(self._filled, self._filled + len(rows[:taken]))
            self._block[place], self._weights[place] = rows[:taken], weights[:taken]
            self._filled = place.stop
            rows, weights = rows[taken:], weights[taken:]
            if self._filled == len(self._block):
                self._flush()

    def result(self) -> Statistics:
        """Statistics of all rows so far, as float64 NumPy arrays."""
        if self._filled:
            self._flush()
        merged: Any = jax.device_get(self._merged)
        return merged if self._weighted else merged.replace(weight=None)

    def _flush(self) -> None:
        with host_float64():
            mask = np.arange(len(self._block)) < self._filled
            self._merged = _update(self._merged, self._block, mask, self._weights)
            # The block is written to again while the computation may still read it.
            jax.block_until_ready(self._merged)
        self._filled = 0
