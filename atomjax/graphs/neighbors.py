"""Neighbour search: directed edges within a cutoff, through periodic images.

An edge runs from a sender s to a receiver t and carries the lattice offset o of the image of s
that t sees, so that its vector is ``x_t - x_s - o @ cell``. Offsets refer to the positions as
they were given, wherever these lie relative to the cell. The search itself only proposes pairs;
vectors and distances are computed here in float64 from the input, and decide what is inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import vesin

from atomjax.structures.structure import Structure

IMAGE_BASE = 1024
MAX_OFFSET = 127  # sums of four offsets stay below half of IMAGE_BASE, so their codes are unique

# All pairs of a molecule are cheaper than a cell list up to about this many atoms.
_ALL_PAIRS_LIMIT = 256


class GraphError(ValueError):
    """A structure whose graph cannot be built; the message names it and the remedy."""


@dataclass(frozen=True)
class Edges:
    """The directed edges of one structure, sorted by receiver, then by distance.

    Attributes:
        senders: [E] int32 sending atom s.
        receivers: [E] int32 receiving atom t.
        offsets: [E, 3] int32 lattice offset of the image of the sender.
        vectors: [E, 3] float64 Å, ``x_t - x_s - offset @ cell``.
        distances: [E] float64 Å.
    """

    senders: np.ndarray
    receivers: np.ndarray
    offsets: np.ndarray
    vectors: np.ndarray
    distances: np.ndarray

    def __len__(self) -> int:
        return len(self.senders)

    @property
    def nbytes(self) -> int:
        """Memory held by the arrays in bytes."""
        return sum(getattr(self, name).nbytes for name in _COLUMNS)

    def take(self, index: np.ndarray) -> "Edges":
        """The edges at the positions ``index``, in that order."""
        return Edges(*(getattr(self, name).take(index, axis=0) for name in _COLUMNS))

    def mirrored(self) -> "Edges":
        """These edges followed by the reverse of each."""
        return Edges(
            np.concatenate([self.senders, self.receivers]),
            np.concatenate([self.receivers, self.senders]),
            np.concatenate([self.offsets, -self.offsets]),
            np.concatenate([self.vectors, -self.vectors]),
            np.concatenate([self.distances, self.distances]),
        )


_COLUMNS = ("senders", "receivers", "offsets", "vectors", "distances")


def image_codes(offsets: np.ndarray) -> np.ndarray:
    """One int32 per lattice offset [..., 3], which adds, negates and orders as offsets do.

    Codes of offsets (and of sums of up to four of them) are equal only if the offsets are, and
    sort lexicographically, as long as no component exceeds ``MAX_OFFSET``.
    """
    code = offsets[..., 0] * (IMAGE_BASE * IMAGE_BASE) + offsets[..., 1] * IMAGE_BASE
    return (code + offsets[..., 2]).astype(np.int32)


def find_edges(structures: Sequence[Structure], cutoff: float) -> tuple[Edges, np.ndarray]:
    """All edges no longer than the cutoff, in one table over all structures.

    Args:
        structures: either one structure of any kind, or any number of them without periodicity,
            small enough that all pairs of their atoms fit in memory.
        cutoff: Å.

    Returns:
        Edges between atoms numbered through all structures, sorted by receiver and then by
        distance (to 1e-8 Å), sender and offset, which settles every tie; and [E] the place of
        the reverse of each.

    Raises:
        GraphError: an atom lies more than ``MAX_OFFSET`` lattice vectors from a neighbour's image.
    """
    if all(is_small_molecule(s) for s in structures):
        table, reverse = _all_pairs(structures, cutoff)
    elif len(structures) == 1:
        half = _cell_list(structures[0], cutoff)
        table, reverse = half.mirrored(), np.roll(np.arange(2 * len(half)), len(half))
    else:
        raise ValueError("periodic or large structures are searched one at a time")
    order = edge_order(table)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return table.take(order), place[reverse[order]]


def is_small_molecule(structure: Structure) -> bool:
    """Whether all pairs of the structure's atoms are the fastest way to its edges."""
    return len(structure.positions) <= _ALL_PAIRS_LIMIT and not np.any(structure.pbc)


def edge_order(edges: Edges) -> np.ndarray:
    """[E] order by receiver, distance (to 1e-8 Å), sender and lexicographic offset."""
    bins = np.rint(edges.distances * 1e8).astype(np.int64)
    return _lexicographic_order([edges.receivers, bins, edges.senders, *edges.offsets.T])


def _lexicographic_order(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Order by integer columns, the first most significant; stable.

    A radix sort: numpy sorts 16-bit numbers in linear time, an order faster than wider ones.
    """
    order = np.arange(len(columns[0]))
    if len(order) < 2:
        return order
    for column in reversed(columns):
        low, high = int(column.min()), int(column.max())
        for shift in range(0, (high - low).bit_length(), 16):
            digit = ((column - low) >> shift).astype(np.uint16)
            order = order.take(np.argsort(digit.take(order), kind="stable"))
    return order


def _all_pairs(structures: Sequence[Structure], cutoff: float) -> tuple[Edges, np.ndarray]:
    """Edges of non-periodic structures from all pairs of their atoms, and their reverses."""
    positions = np.concatenate([s.positions for s in structures]).astype(np.float64, copy=False)
    counts = np.array([len(s.positions) for s in structures], dtype=np.int64)
    first = np.cumsum(counts) - counts
    row_length = np.repeat(counts, counts)
    row_start = np.cumsum(row_length) - row_length
    # The pair of receiver t and sender s is number start[t] + s.
    start = row_start - np.repeat(first, counts)
    receivers = np.repeat(np.arange(len(positions)), row_length)
    senders = np.arange(len(receivers)) - np.repeat(start, row_length)
    vectors = positions.take(receivers, axis=0) - positions.take(senders, axis=0)
    squares = np.einsum("ei,ei->e", vectors, vectors)
    keep = np.flatnonzero((squares <= cutoff * cutoff) & (senders != receivers))
    place = np.empty(len(receivers), dtype=np.int64)
    place[keep] = np.arange(len(keep))
    senders, receivers = senders.take(keep), receivers.take(keep)
    edges = Edges(
        senders.astype(np.int32),
        receivers.astype(np.int32),
        np.zeros((len(keep), 3), dtype=np.int32),
        vectors.take(keep, axis=0),
        np.sqrt(squares.take(keep)),
    )
    return edges, place[start[senders] + receivers]


def _cell_list(structure: Structure, cutoff: float) -> Edges:
    """One edge of each opposite pair of one structure, periodic or large."""
    positions = np.ascontiguousarray(structure.positions, dtype=np.float64)
    pbc = np.asarray(structure.pbc, dtype=bool)
    cell = _complete_cell(np.asarray(structure.cell, dtype=np.float64), pbc)
    search = vesin.NeighborList(cutoff=cutoff * (1 + 1e-9), full_list=False, n_threads=1)
    receivers, senders, offsets = search.compute(positions, cell, pbc.tolist(), "ijS")
    _check_offsets(structure, offsets)
    receivers, senders = receivers.astype(np.int32), senders.astype(np.int32)
    vectors = positions.take(receivers, axis=0) - positions.take(senders, axis=0) - offsets @ cell
    distances = np.sqrt(np.einsum("ei,ei->e", vectors, vectors))
    half = Edges(senders, receivers, offsets, vectors, distances)
    inside = distances <= cutoff
    return half if inside.all() else half.take(np.flatnonzero(inside))


def _complete_cell(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The cell with its non-periodic vectors replaced by unit normals, so that it has a volume."""
    if pbc.all():
        return cell
    basis = cell[pbc]
    # The last right singular vectors span what the periodic vectors leave free.
    normals = np.linalg.svd(basis)[2][len(basis) :] if len(basis) else np.eye(3)
    complete = cell.copy()
    complete[~pbc] = normals
    return complete


def _check_offsets(structure: Structure, offsets: np.ndarray) -> None:
    apart = max(int(offsets.max()), -int(offsets.min())) if len(offsets) else 0
    if apart > MAX_OFFSET:
        raise GraphError(
            f"structure {structure.identifier!r}: neighbours lie {apart} cells "
            f"apart, more than the {MAX_OFFSET} that image codes can tell apart; wrap its "
            "positions into the cell, and check that the cell is in Å"
        )
