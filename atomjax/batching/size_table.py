"""Sizes of many structures, looked up rather than held: a table in memory or mapped from a file."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from atomjax.graphs.capacity import FIELDS, Sizes

# Rows that are in memory at once when all are gone through.
_CHUNK = 1 << 18


class SizeTable:
    """Sizes of the S structures of one data set.

    Args:
        table: [T, fields] sizes without edge dropout; a mapped file stays one.
        drawn: [T, fields] sizes under one draw of the edge dropout; None where there is none.
        rows: [S] row of each structure in the tables; None where they are all of them in order.
    """

    def __init__(
        self,
        table: np.ndarray,
        drawn: np.ndarray | None = None,
        rows: np.ndarray | None = None,
    ):
        self._table, self._drawn, self._rows = table, drawn, rows

    def __len__(self) -> int:
        return len(self._table if self._rows is None else self._rows)

    def take(self, indices: np.ndarray) -> Sizes:
        """Sizes of some structures, in the order of ``indices`` [K]."""
        rows = indices if self._rows is None else self._rows[indices]
        sizes = Sizes(self._table[rows].astype(np.int64))
        if self._drawn is None:
            return sizes
        return sizes.with_dropout(Sizes(self._drawn[rows].astype(np.int64)))

    def everything(self) -> Sizes:
        """Sizes of all structures."""
        return self.take(np.arange(len(self)))

    def chunks(self) -> Iterator[Sizes]:
        """Sizes of all structures, a part at a time."""
        for start in range(0, len(self), _CHUNK):
            yield self.take(np.arange(start, min(start + _CHUNK, len(self))))


class JoinedSizes:
    """Sizes of several data sets, whose structures are numbered through in turn.

    Attributes:
        lengths: structures of each data set.
    """

    def __init__(self, tables: Iterable[SizeTable]):
        self._tables = list(tables)
        self.lengths = [len(table) for table in self._tables]
        self._first = np.cumsum([0, *self.lengths])

    def __len__(self) -> int:
        return int(self._first[-1])

    def locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[K] data set of each structure, and [K] its number there."""
        dataset = np.searchsorted(self._first, indices, side="right") - 1
        return dataset, indices - self._first[dataset]

    def take(self, indices: np.ndarray) -> Sizes:
        """Sizes of some structures, in the order of ``indices`` [K]."""
        dataset, own = self.locate(indices)
        table = np.zeros((len(indices), len(FIELDS)), dtype=np.int64)
        for d, part in enumerate(self._tables):
            chosen = np.flatnonzero(dataset == d)
            if len(chosen):
                table[chosen] = part.take(own[chosen]).table
        return Sizes(table)

    def largest(self) -> tuple[np.ndarray, list[int]]:
        """Maxima of all sizes, and the structures with the most main edges.

        Returns:
            [fields] maxima over all structures, and of each data set the number (of the joined
            ones) of the structure with the most main edges.
        """
        maxima, heaviest = np.zeros(len(FIELDS), dtype=np.int64), []
        for first, table in zip(self._first.tolist()[:-1], self._tables, strict=True):
            place, most, begin = 0, -1, 0
            for sizes in table.chunks():
                maxima = np.maximum(maxima, sizes.table.max(axis=0))
                edges = sizes.column("n_edge")
                if int(edges.max()) > most:
                    place, most = begin + int(np.argmax(edges)), int(edges.max())
                begin += len(sizes)
            heaviest.append(first + place)
        return maxima, heaviest

    def sample(self, count: int, heaviest: Sequence[int]) -> list[np.ndarray]:
        """Structures to stand for each data set: all, or ``count`` drawn at random.

        Args:
            count: most of a data set.
            heaviest: structures that are always among them, one of each data set.
        """
        parts = []
        for d, length in enumerate(self.lengths):
            own = np.arange(length)
            if length > count:
                own = np.random.default_rng([length, d]).integers(0, length, count)
                own[0] = heaviest[d] - self._first[d]
            parts.append(self._first[d] + own)
        return parts
