"""Which structures form which batch: every structure once an epoch, in batches of equal work.

A plan is a pure function of the sizes, the batch size, the seed and the epoch. It knows nothing
of devices: each global batch is split over them afterwards, so that the number of devices changes
neither what a step sees nor in which order.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from atomjax.graphs.capacity import Sizes

# Candidate cuts between classes; the search over them is quadratic.
_MAX_CUTS = 64
# Only the few heaviest batches decide a bucket's size, so a few swaps do.
_MAX_SWAPS = 256


@dataclass(frozen=True)
class Plan:
    """The batches of one epoch.

    Attributes:
        batches: arrays of structure indices; each structure is in exactly one.
        classes: [len(batches)] class of size that each batch was drawn from.
    """

    batches: list[np.ndarray]
    classes: np.ndarray


def count_batches(n_structure: int, batch_size: int) -> int:
    """Batches an epoch: as few as hold ``batch_size`` structures each or one less."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: give at least 1")
    return -(-n_structure // batch_size)


def plan_epoch(
    sizes: Sizes, batch_size: int, seed: int, epoch: int, *, num_buckets: int = 1, attempt: int = 0
) -> Plan:
    """Divide all structures into batches with nearly equal numbers of main edges.

    Args:
        sizes: sizes of the S structures.
        batch_size: most structures in a batch; the ceil(S / batch_size) batches of the epoch hold
            this number or all nearly the same, differing by at most one.
        seed: seed of the run.
        epoch: number of the epoch, which draws another plan.
        num_buckets: into how many classes of size to sort the structures; each batch is drawn
            from one.
        attempt: draws yet another plan for the same epoch.

    Returns:
        The batches in random order.
    """
    n_batch = count_batches(len(sizes), batch_size)
    if n_batch == 0:
        return Plan([], np.zeros(0, dtype=np.int64))
    rng = np.random.default_rng([seed, epoch, attempt])
    counts = np.full(n_batch, len(sizes) // n_batch)
    counts[: len(sizes) % n_batch] += 1
    batches, classes = [], []
    for label, (members, n) in enumerate(_classes(sizes, counts, num_buckets)):
        batches += _deal(members, sizes.column("n_edge")[members], n, rng)
        classes += [label] * n
    order = rng.permutation(n_batch)
    return Plan([batches[i] for i in order], np.array(classes)[order])


def split_batch(sizes: Sizes, batch: np.ndarray, num_devices: int) -> list[np.ndarray]:
    """Divide one batch over devices, with nearly equal numbers of main edges on each.

    Args:
        sizes: sizes of all structures.
        batch: indices of the structures of the batch.
        num_devices: number of parts; their lengths differ by at most one.
    """
    if num_devices == 1:
        return [batch]
    weights = sizes.column("n_edge")[batch]
    order = np.argsort(-weights, kind="stable")
    total = np.zeros(num_devices, dtype=np.int64)
    table = np.full((-(-len(batch) // num_devices), num_devices), -1, dtype=np.int64)
    for i, row in enumerate(table):
        dealt = order[i * num_devices : (i + 1) * num_devices]
        to = np.argsort(total, kind="stable")[: len(dealt)]
        row[to] = dealt
        total[to] += weights[dealt]
    return [batch[np.sort(part)] for part in _balanced_columns(table, weights, total)]


def _balanced_columns(
    table: np.ndarray, weights: np.ndarray, total: np.ndarray
) -> list[np.ndarray]:
    """The columns of ``table`` without their -1, after swaps that even out their total weights."""
    columns = [column[column >= 0] for column in table.T]
    for _ in range(min(4 * len(columns), _MAX_SWAPS)):
        heavy, light = int(np.argmax(total)), int(np.argmin(total))
        gap = int(total[heavy] - total[light])
        if not len(columns[light]) or gap < 2:
            break
        moves = weights[columns[heavy]][:, None] - weights[columns[light]][None, :]
        i, j = np.unravel_index(np.argmin(np.abs(moves - gap / 2)), moves.shape)
        if not 0 < moves[i, j] < gap:
            break
        columns[heavy][i], columns[light][j] = columns[light][j], columns[heavy][i]
        total[heavy] -= moves[i, j]
        total[light] += moves[i, j]
    return columns


def _classes(sizes: Sizes, counts: np.ndarray, num_buckets: int) -> list[tuple[np.ndarray, int]]:
    """Classes of structures with their numbers of batches.

    Structures are sorted by main neighbour slots, then atoms, and cut where the classes together
    need the fewest slots (atoms of a class × slots of its atom with most).
    """
    n_batch = len(counts)
    if num_buckets == 1 or n_batch == 1:
        return [(np.arange(len(sizes)), n_batch)]
    order = np.lexsort((sizes.column("n_node"), sizes.column("max_neighbors")))
    ends = np.concatenate([[0], np.cumsum(counts)])
    candidates = np.unique(np.linspace(0, n_batch, min(n_batch, _MAX_CUTS) + 1).astype(np.int64))
    atoms = np.concatenate([[0], np.cumsum(sizes.column("n_node")[order])])[ends[candidates]]
    width = sizes.column("max_neighbors")[order][ends[candidates[1:]] - 1]
    cuts = candidates[_cheapest_cuts(atoms, width, min(num_buckets, n_batch))]
    return [
        (np.sort(order[ends[start] : ends[stop]]), int(stop - start))
        for start, stop in pairwise(cuts)
    ]


def _cheapest_cuts(atoms: np.ndarray, width: np.ndarray, n_class: int) -> list[int]:
    """Cuts 0 = c_0 < ... < c_n of the intervals that minimise Σ (atoms of a class × its width)."""
    n = len(width)
    n_class = min(n_class, n)
    cost = np.full((n_class + 1, n + 1), np.inf)
    cost[0, 0] = 0
    origin = np.zeros((n_class + 1, n + 1), dtype=np.int64)
    for c in range(1, n_class + 1):
        for stop in range(c, n + 1):
            options = cost[c - 1, :stop] + (atoms[stop] - atoms[:stop]) * width[stop - 1]
            origin[c, stop] = int(np.argmin(options))
            cost[c, stop] = options[origin[c, stop]]
    cuts = [n]
    for c in range(n_class, 0, -1):
        cuts.append(int(origin[c, cuts[-1]]))
    return cuts[::-1]


def _deal(
    members: np.ndarray, weights: np.ndarray, n_batch: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Deal the members out by falling weight, one to each batch in every round.

    Every other round is dealt at random, so that batches differ from epoch to epoch, and the ones
    between give the heaviest to the lightest batch, so that they stay balanced.
    """
    shuffled = rng.permutation(len(members))
    order = shuffled[np.argsort(-weights[shuffled], kind="stable")]
    n_round = -(-len(order) // n_batch)
    table = np.full((n_round, n_batch), -1, dtype=np.int64)
    total = np.zeros(n_batch, dtype=np.int64)
    for i in range(n_round):
        dealt = order[i * n_batch : (i + 1) * n_batch]
        last = len(dealt) < n_batch
        to = np.argsort(total, kind="stable") if i % 2 or last else rng.permutation(n_batch)
        to = to[: len(dealt)]
        table[i, to] = dealt
        total[to] += weights[dealt]
    return [members[np.sort(column)] for column in _balanced_columns(table, weights, total)]
