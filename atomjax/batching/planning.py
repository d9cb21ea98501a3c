"""Division of structures into batches: every structure once, in batches of equal work.

A plan is a pure function of the sizes, the batch size and a key. It knows nothing of devices:
each global batch is split over them afterwards, so that the number of devices changes neither
what a step sees nor in which order.

Batches are filled in one of two ways. By count they have the same number of structures, to within
one, and nearly the same number of edges, which few large structures among small ones can prevent.
By size they have nearly the same number of edges and atoms, and their numbers of structures vary
about the mean; the number of batches is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from atomjax.graphs.capacity import Sizes

# Candidate cuts between classes; the search over them is quadratic.
_MAX_CUTS = 64
# Only the heaviest batches decide a bucket's size, so these swaps do.
_MAX_SWAPS = 4096
# Filling by size: a round deals to so many of the batches, the emptiest ones...
_EMPTIEST = 4
# ... and structures up to this many times lighter may come before a heavier one.
_DISORDER = 4.0
# Atoms cost less than edges, so a batch may be so much fuller of them.
_ATOM_WEIGHT = 0.95

Fill = Literal["count", "size"]


@dataclass(frozen=True)
class Plan:
    """The batches of one epoch."""

    batches: list[np.ndarray]  # arrays of structure indices; each structure is in exactly one
    classes: np.ndarray  # [len(batches)] class of size that each batch was drawn from


def count_batches(n_structure: int, batch_size: int) -> int:
    """Batches an epoch: as few as hold ``batch_size`` structures each or one less."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: give at least 1")
    return -(-n_structure // batch_size)


def plan_batches(
    sizes: Sizes,
    batch_size: int,
    key: Sequence[int],
    *,
    num_buckets: int = 1,
    fill: Fill = "count",
    n_batch: int | None = None,
) -> Plan:
    """Divide structures into batches with nearly equal numbers of main edges.

    Args:
        sizes: sizes of the S structures.
        batch_size: most structures in a batch filled by count; the ceil(S / batch_size) batches
            then hold this number or all nearly the same, differing by at most one. Of batches
            filled by size it bounds the mean.
        key: key of the random choices, such as seed and epoch.
        num_buckets: into how many classes of size to sort the structures; each batch is drawn
            from one.
        fill: "count" or "size".
        n_batch: number of batches, whatever the batch size.

    Returns:
        The batches in random order.
    """
    n_batch = count_batches(len(sizes), batch_size) if n_batch is None else n_batch
    if n_batch == 0:
        return Plan([], np.zeros(0, dtype=np.int64))
    rng = np.random.default_rng(list(key))
    counts = np.full(n_batch, len(sizes) // n_batch)
    counts[: len(sizes) % n_batch] += 1
    deal = _deal_sizes if fill == "size" else _deal_counts
    batches, classes = [], []
    for label, (members, n) in enumerate(_classes(sizes, counts, num_buckets)):
        own = Sizes(sizes.table[members])
        batches += [members[part] for part in deal(own, n, rng)]
        classes += [label] * n
    order = rng.permutation(n_batch)
    return Plan([batches[i] for i in order], np.array(classes)[order])


def plan_strata(sizes: Sizes, strata: np.ndarray, batch_size: int, key: Sequence[int]) -> Plan:
    """Divide structures into batches that have equally many of each stratum, to within one.

    Args:
        sizes: sizes of the S structures.
        strata: [S] stratum of each, numbers from 0.
        batch_size: most structures in a batch.
        key: key of the random choices.
    """
    n_batch, parts = count_batches(len(sizes), batch_size), []
    for stratum in np.unique(strata).tolist():
        members = np.flatnonzero(strata == stratum)
        own = Sizes(sizes.table[members])
        plan = plan_batches(own, batch_size, (*key, stratum), n_batch=n_batch)
        batches = [members[batch] for batch in plan.batches]
        if parts:
            # The largest and heaviest of this stratum to the smallest and lightest of those before.
            lightest, heaviest = (_by_count_and_load(sizes, one) for one in (parts, batches))
            for place, other in zip(lightest, heaviest[::-1], strict=True):
                parts[place] = np.concatenate([parts[place], batches[other]])
        else:
            parts = batches
    return Plan(parts, np.zeros(n_batch, dtype=np.int64))


def _by_count_and_load(sizes: Sizes, batches: Sequence[np.ndarray]) -> list[int]:
    """Places of batches, by structures and then by main edges."""
    loads = [sizes.column("n_edge")[batch].sum() for batch in batches]
    return np.lexsort((loads, [len(batch) for batch in batches])).tolist()


def split_batch(sizes: Sizes, num_devices: int, fill: Fill = "count") -> list[np.ndarray]:
    """Divide one batch over devices, with nearly equal numbers of main edges on each.

    Args:
        sizes: sizes of the structures of the batch.
        num_devices: number of parts.
        fill: "count", whose parts have lengths that differ by at most one, or "size".

    Returns:
        Places in the batch, for each device.
    """
    if num_devices == 1:
        return [np.arange(len(sizes))]
    if fill == "size":
        return _deal_sizes(sizes, num_devices)
    return _deal_counts(sizes, num_devices)


def classes_of_load(loads: np.ndarray, num_classes: int) -> np.ndarray:
    """Sort batches into classes by load, so that padding each to its class's largest costs least.

    Args:
        loads: [batches] number of padded items, such as edges.
        num_classes: at most so many.

    Returns:
        [batches] class of each, numbered by rising load.
    """
    order = np.argsort(loads, kind="stable")
    rising = loads[order]
    # Even in rank, which cuts a spread of sizes well, and even in load, which finds a rare few.
    by_rank = np.linspace(0, len(loads), min(len(loads), _MAX_CUTS) + 1).astype(np.int64)
    steps = np.linspace(rising[0], rising[-1], _MAX_CUTS)
    by_load = np.searchsorted(rising, steps, side="right")
    candidates = np.unique(np.concatenate([by_rank, by_load]))
    cuts = candidates[_cheapest_cuts(candidates, rising[candidates[1:] - 1], num_classes)]
    classes = np.empty(len(loads), dtype=np.int64)
    classes[order] = np.searchsorted(cuts, np.arange(len(loads)), side="right") - 1
    return classes


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


def _cheapest_cuts(count: np.ndarray, width: np.ndarray, n_class: int) -> list[int]:
    """Cuts 0 = c_0 < ... < c_n of the intervals that minimise Σ (count in a class × its width).

    Args:
        count: [n + 1] how many there are before each place.
        width: [n] of each interval between two places, rising.
        n_class: at most so many intervals.
    """
    n = len(width)
    n_class = min(n_class, n)
    cost = np.full((n_class + 1, n + 1), np.inf)
    cost[0, 0] = 0
    origin = np.zeros((n_class + 1, n + 1), dtype=np.int64)
    for c in range(1, n_class + 1):
        for stop in range(c, n + 1):
            options = cost[c - 1, :stop] + (count[stop] - count[:stop]) * width[stop - 1]
            origin[c, stop] = int(np.argmin(options))
            cost[c, stop] = options[origin[c, stop]]
    cuts = [n]
    for c in range(n_class, 0, -1):
        cuts.append(int(origin[c, cuts[-1]]))
    return cuts[::-1]


def _deal_counts(
    sizes: Sizes, n_part: int, rng: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Deal structures out by falling weight, one to each part in every round.

    Each round gives the heaviest to the lightest part, so that they stay balanced. With an
    ``rng`` every other round is dealt at random, so that parts differ from epoch to epoch.
    """
    weights = sizes.column("n_edge")
    shuffled = np.arange(len(sizes)) if rng is None else rng.permutation(len(sizes))
    order = shuffled[np.argsort(-weights[shuffled], kind="stable")]
    total = np.zeros(n_part, dtype=np.int64)
    part_of = np.zeros(len(sizes), dtype=np.int64)
    for number, start in enumerate(range(0, len(order), n_part)):
        dealt = order[start : start + n_part]
        at_random = number % 2 == 0 and len(dealt) == n_part
        if rng is not None and at_random:
            to = rng.permutation(n_part)
        else:
            to = np.argsort(total, kind="stable")
        part_of[dealt] = to[: len(dealt)]
        total[to[: len(dealt)]] += weights[dealt]
    return _evened(part_of, n_part, weights[:, None], keep_counts=True)


def _deal_sizes(
    sizes: Sizes, n_part: int, rng: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Deal structures out by falling weight, each time to the parts that are emptiest.

    The load of a part is the larger of its edges and its atoms, each in units of their mean. With
    an ``rng`` the order is only roughly that of weight, so that parts differ from epoch to epoch.
    """
    loads = np.stack([sizes.column("n_edge"), sizes.column("n_node")], axis=1).astype(np.float64)
    loads *= n_part / np.maximum(loads.sum(axis=0), 1) * [1, _ATOM_WEIGHT]
    weights = loads.max(axis=1)
    rank = np.log(np.maximum(weights, np.finfo(float).tiny))
    if rng is not None:
        rank += rng.uniform(0, np.log(_DISORDER), len(sizes))
    order = np.argsort(-rank, kind="stable")
    full = np.zeros((n_part, 2))
    part_of = np.zeros(len(sizes), dtype=np.int64)
    # The first round fills all parts, so that none stays empty.
    start, length = 0, n_part
    while start < len(order):
        dealt = order[start : start + length]
        dealt = dealt[np.argsort(-weights[dealt], kind="stable")]
        to = np.argsort(full.max(axis=1), kind="stable")[: len(dealt)]
        part_of[dealt] = to
        full[to] += loads[dealt]
        start, length = start + length, max(n_part // _EMPTIEST, 1)
    return _evened(part_of, n_part, loads, keep_counts=False)


def _evened(
    part_of: np.ndarray, n_part: int, loads: np.ndarray, *, keep_counts: bool
) -> list[np.ndarray]:
    """The parts of ``part_of`` [S] after exchanges that lower the largest load.

    Args:
        part_of: [S] part of each structure.
        n_part: number of parts.
        loads: [S, L] quantities whose sums are evened, such as edges and atoms.
        keep_counts: exchange structures one for one, and give none away.

    Returns:
        Sorted places of the structures of each part.
    """
    order = np.argsort(part_of, kind="stable")
    ends = np.cumsum(np.bincount(part_of, minlength=n_part))
    parts = np.split(order, ends[:-1])
    full = np.stack([np.bincount(part_of, load, n_part) for load in loads.T], axis=1)
    nothing = np.zeros((0 if keep_counts else 1, loads.shape[1]))
    worst = full.max(axis=1)
    for _ in range(min(4 * n_part, _MAX_SWAPS)):
        heavy, light = int(np.argmax(worst)), int(np.argmin(worst))
        if not len(parts[light]) or len(parts[heavy]) < 2 and not keep_counts:
            break
        given = loads[parts[heavy]][:, None]
        back = np.concatenate([loads[parts[light]], nothing])[None]
        left = (full[heavy] - given + back).max(axis=-1)
        got = (full[light] + given - back).max(axis=-1)
        i, j = np.unravel_index(np.argmin(np.maximum(left, got)), left.shape)
        if max(left[i, j], got[i, j]) >= worst[heavy]:
            break
        full[heavy] += back[0, j] - given[i, 0]
        full[light] += given[i, 0] - back[0, j]
        worst[[heavy, light]] = full[[heavy, light]].max(axis=1)
        mine, other = parts[heavy][i], parts[light][j : j + 1]
        parts[heavy] = np.concatenate([np.delete(parts[heavy], i), other])
        parts[light] = np.append(np.delete(parts[light], slice(j, j + 1)), mine)
    return [np.sort(part) for part in parts]
