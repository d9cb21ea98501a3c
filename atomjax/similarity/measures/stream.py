"""Gaussian statistics of rows that arrive in pieces, for sets that do not fit in memory."""

import jax
import numpy as np

from atomjax.similarity.measures.precision import host_float64
from atomjax.similarity.measures.statistics import Statistics, row_statistics, update

_first = jax.jit(row_statistics)
_next = jax.jit(update, donate_argnums=0)


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
        self._filled = 0
        self._merged: Statistics | None = None

    def add(self, rows: np.ndarray) -> None:
        """Takes in rows [n, d].

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
        while len(rows):
            taken = rows[: len(self._block) - self._filled]
            self._block[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            rows = rows[len(taken) :]
            if self._filled == len(self._block):
                self._flush()

    def result(self) -> Statistics:
        """Statistics of all rows so far, as float64 NumPy arrays."""
        if self._filled or self._merged is None:
            self._flush()
        return jax.device_get(self._merged)

    def _flush(self) -> None:
        with host_float64():
            mask = np.arange(len(self._block)) < self._filled
            if self._merged is None:
                self._merged = _first(self._block, mask)
            else:
                self._merged = _next(self._merged, self._block, mask)
            # The block is written to again while the computation may still read it.
            jax.block_until_ready(self._merged)
        self._filled = 0


_first = jax.jit(row_statistics)
_next = jax.jit(update, donate_argnums=0)
