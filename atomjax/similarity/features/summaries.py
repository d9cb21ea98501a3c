"""Summaries of a set's rows for measures that need more than moments: arrays that merge.

Every process of a run sees all rows, batch by batch, and a set may be read in parts: whatever the
division, merging gives the summary of the whole.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Self

import numpy as np

from atomjax.runtime.code import code_of

Arrays = Mapping[str, np.ndarray]
# Blocks whose new places are found at a time.
CHUNK = 256
# Array that says the block of each row, beside those of the summary.
BLOCK = "_block"


@dataclasses.dataclass(frozen=True)
class SetRows:
    """Rows of a batch of a set, in the order of the structures: n atoms, or n structures."""

    values: np.ndarray  # [n, d] features
    structure: np.ndarray  # [n] place of each row's structure in the data set, ascending
    weights: np.ndarray  # [n] weight of each row, 1 on average over structures
    atomic_numbers: np.ndarray  # [n] where every atom is a row, else [0]
    energy: np.ndarray  # [n] eV of each row's structure; NaN where it has none
    forces: np.ndarray  # [n, 3] eV/Å where every atom is a row, NaN where it has none; else [0, 3]

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> Self:
        """The rows with these places, or where a mask is true."""
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        taken = {name: a[rows] if len(a) == len(self) else a for name, a in arrays.items()}
        return dataclasses.replace(self, **taken)


def add_arrays(first: Arrays, second: Arrays) -> Arrays:
    """Sums, array by array."""
    return {name: array + second[name] for name, array in first.items()}


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Arrays of each of S blocks of structures, which add."""

    arrays: Arrays  # [S, ...]
    structures: np.ndarray  # [S] number of structures in each block

    def __len__(self) -> int:
        return len(self.structures)

    @property
    def dimension(self) -> int:
        """Number of values kept of a block."""
        return sum(array[0].size for array in self.arrays.values())

    def choose(self, weights: np.ndarray) -> Arrays:
        """Sums [B, ...] of B choices of blocks, which take each so often: ``weights`` [B, S]."""
        return {name: np.tensordot(weights, array, 1) for name, array in self.arrays.items()}

    def blockwise(self, change: Callable[[np.ndarray], np.ndarray]) -> Self:
        """The same with a function applied to the first axis of every array."""
        arrays = {name: change(array) for name, array in self.arrays.items()}
        return dataclasses.replace(self, arrays=arrays, structures=change(self.structures))

    def joined(self, other: Self) -> Self:
        """The blocks of both sets, these first."""
        arrays = {n: np.concatenate([a, other.arrays[n]]) for n, a in self.arrays.items()}
        structures = np.concatenate([self.structures, other.structures])
        return dataclasses.replace(self, arrays=arrays, structures=structures)


@dataclasses.dataclass(frozen=True)
class BlockRows:
    """Rows of S blocks of structures, which do not add, each with a weight."""

    arrays: Arrays  # [n, ...], "weight" among them
    block: np.ndarray  # [n] block of each row
    structures: np.ndarray  # [S] number of structures in each block

    def __len__(self) -> int:
        return len(self.structures)

    @property
    def dimension(self) -> int:
        """Number of values kept of a row."""
        return sum(int(np.prod(array.shape[1:])) for array in self.arrays.values())

    def choose(self, weights: np.ndarray) -> list[Arrays]:
        """Rows of B choices of blocks, which take each so often: ``weights`` [B, S]."""
        return [self._chosen(one[self.block]) for one in weights]

    def blockwise(self, change: Callable[[np.ndarray], np.ndarray]) -> Self:
        """The same with the blocks put together, or left out, as a function does with sums."""
        goes = np.full(len(self), -1)
        # The blocks' new places, some blocks at a time: of many, one matrix would fill the memory.
        for start in range(0, len(self), CHUNK):
            some = np.arange(start, min(start + CHUNK, len(self)))
            places = change((np.arange(len(self))[:, None] == some).astype(float))
            goes[some] = np.where(places.any(axis=0), places.argmax(axis=0), -1)
        kept = goes[self.block] >= 0
        arrays = {name: array[kept] for name, array in self.arrays.items()}
        block = goes[self.block[kept]]
        return dataclasses.replace(
            self, arrays=arrays, block=block, structures=change(self.structures)
        )

    def joined(self, other: Self) -> Self:
        """The blocks of both sets, these first."""
        arrays = {n: np.concatenate([a, other.arrays[n]]) for n, a in self.arrays.items()}
        block = np.concatenate([self.block, len(self) + other.block])
        structures = np.concatenate([self.structures, other.structures])
        return dataclasses.replace(self, arrays=arrays, block=block, structures=structures)

    def _chosen(self, weight: np.ndarray) -> Arrays:
        kept = weight > 0
        arrays = {name: array[kept] for name, array in self.arrays.items()}
        return {**arrays, "weight": arrays["weight"] * weight[kept]}


@dataclasses.dataclass(frozen=True)
class Summary:
    """One thing that measures need of a set; measures that need the same share it."""

    name: str  # name in the files of features
    # Rows → named arrays, of the same shapes for all batches; or with a row for each structure.
    reduce: Callable[[SetRows], Arrays]
    # Arrays of two sets of rows → those of their union.
    merge: Callable[[Arrays, Arrays], Arrays] = add_arrays
    # Keep it for every block of structures, too, so that blocks can be drawn again.
    by_block: bool = False
    # Whether what is kept by block adds; if not, it is one row for each structure, with a "weight".
    adds: bool = True
    # Whether it reads energies or forces, so that a data set has to say their units.
    labels: bool = True

    def __post_init__(self):
        if "/" in self.name:
            raise ValueError(f'summary "{self.name}" has a slash in its name; files cannot hold it')
        if self.by_block and self.merge is not add_arrays:
            raise ValueError(f'summary "{self.name}" is kept by block, so its arrays have to add')
        if not (self.adds or self.by_block):
            raise ValueError(
                f'summary "{self.name}" does not add; set by_block=True, or give merge'
            )

    @functools.cached_property
    def key(self) -> list[str]:
        """Key of the computation: the name, and a hash of the code in its source file."""
        source = Path(self.reduce.__code__.co_filename)
        if source.is_file():
            text = code_of(source.read_text("utf-8")).encode()
        else:
            text = self.reduce.__code__.co_code
        return [self.name, hashlib.sha256(text).hexdigest()]


def blocks_of(arrays: Arrays, structures: np.ndarray) -> Blocks | BlockRows:
    """Blocks from the result of a collector and the number [S] of structures in each."""
    if BLOCK not in arrays:
        return Blocks(arrays, structures)
    rest = {name: array for name, array in arrays.items() if name != BLOCK}
    return BlockRows(rest, arrays[BLOCK], structures)


def arrays_of(blocks: Blocks | BlockRows) -> Arrays:
    """The arrays that `blocks_of` makes blocks of."""
    rows = isinstance(blocks, BlockRows)
    return {**blocks.arrays, BLOCK: blocks.block} if rows else blocks.arrays


class SummaryCollector:
    """Reduces and merges a summary batch by batch."""

    def __init__(self, summary: Summary):
        self.summary = summary
        self._merged: dict[int, Arrays] = {}
        self._rows: list[Arrays] = []

    def add(self, rows: SetRows, block: np.ndarray) -> None:
        """Takes in rows and the number [n] of each one's block."""
        if not self.summary.adds:
            first = np.unique(rows.structure, return_index=True)[1]
            self._rows.append({**self.summary.reduce(rows), BLOCK: block[first]})
            return
        for number, part in self._divided(rows, block):
            arrays = {name: np.asarray(a) for name, a in self.summary.reduce(part).items()}
            if number in self._merged:
                arrays = self.summary.merge(self._merged[number], arrays)
            self._merged[number] = arrays

    def result(self) -> Arrays:
        """Arrays of the whole set, [S, ...] of all blocks, or rows with the block of each."""
        if not self.summary.adds:
            return {n: np.concatenate([one[n] for one in self._rows]) for n in self._rows[0]}
        if not self.summary.by_block:
            return self._merged[0]
        order = sorted(self._merged)
        return {n: np.stack([self._merged[b][n] for b in order]) for n in self._merged[order[0]]}

    def _divided(self, rows: SetRows, block: np.ndarray) -> Iterable[tuple[int, SetRows]]:
        if not self.summary.by_block:
            return [(0, rows)]
        order = np.argsort(block, kind="stable")
        numbers, first = np.unique(block[order], return_index=True)
        parts = np.split(order, first[1:])
        return [(b, rows.take(part)) for b, part in zip(numbers.tolist(), parts, strict=True)]
