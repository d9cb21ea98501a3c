"""Epochs of batches, planned a window at a time, and the static shapes that hold them.

An epoch is a random order of its samples, which is never drawn as a whole
(``atomjax.batching.shuffling``). It is cut into windows of some 10^5 samples; only the batches of
the window that a step lies in are planned, from the sizes of its structures alone. So neither
time nor memory before the first step, or to resume at any other, grow with the data.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from atomjax.batching.mixture import epoch_members, share_out, spread_members
from atomjax.batching.planning import (
    Fill,
    classes_of_load,
    count_batches,
    plan_batches,
    plan_strata,
    split_batch,
)
from atomjax.batching.size_table import JoinedSizes
from atomjax.graphs.capacity import FIELDS, Capacity, CapacityError, Sizes, check_fits, fit_capacity

# Samples of a window: enough for sums over a window to vary by a fraction of a percent.
WINDOW = 1 << 16
# Samples to plan for when fitting the buckets; beyond, a margin covers the other windows.
_PLANNED = 1 << 19
_MARGIN = 0.01
_ATTEMPTS = 16
# Real fraction of the main edges from which on nothing more is tried.
_GOOD_SHARE = 0.9
# Shapes where their number is left open. Each is compiled for, which takes as long as some tens of
# steps on a CPU and a few hundred on an accelerator, so a run needs so many steps for each.
MAX_BUCKETS = 4
_STEPS_PER_BUCKET = 200
_FILLS: tuple[Fill, Fill] = ("count", "size")
# Windows that stand for an epoch in reports.
_REPORTED = 4


@dataclass(frozen=True)
class StepPlan:
    """Plan of one step."""

    groups: list[np.ndarray]  # global structure indices for each device
    bucket: int  # index of the capacity that holds it


@dataclass(frozen=True)
class _Window:
    """The batches of a window, divided over the devices."""

    groups: list[list[np.ndarray]]
    classes: np.ndarray
    needs: np.ndarray
    buckets: np.ndarray


class EpochPlans:
    """Batch plan of every step of a run, and the static shape of each batch.

    Args:
        sizes: sizes of all structures.
        samples: number of samples that an epoch takes of each data set.
        batch_size: structures of a global batch, or their mean where it is filled by size.
        strata: number of the group of each data set, of which all batches have equally many, filled
            by count; None draws from all alike.
        seed: seed of all random choices.
        epochs: epochs of the run, all of which the shapes have to hold.
        num_devices: D, parts of each batch.
        num_buckets: classes of size that structures are sorted into, each with a shape of its
            own; 0 sorts batches instead, when they are made, into as few shapes as leave 0.9 of
            the padded main edges real: at most four, and one for every 200 steps of the run.
        shuffle: draw other batches each epoch.
        fill: "count", "size", or "auto": by size where batches of a fixed count, in as many
            shapes, leave less than 0.9 of the padded main edges real.
        dropped: fraction of edges that dropout removes; its draws need a margin.
        capacity: the shapes; fitted if None.
        identify: global index → how messages name a structure.

    Attributes:
        steps_per_epoch: batches of an epoch.
        fill: the way of filling that was chosen.
        capacities: shapes of the buckets, smallest first.
    """

    fill: Fill

    def __init__(
        self,
        sizes: JoinedSizes,
        samples: Sequence[int],
        *,
        batch_size: int,
        strata: Sequence[int] | None = None,
        seed: int,
        epochs: int,
        num_devices: int,
        num_buckets: int,
        shuffle: bool,
        fill: Fill | Literal["auto"],
        dropped: float,
        capacity: Capacity | Sequence[Capacity] | None,
        identify: Callable[[int], str],
    ):
        self.sizes, self.samples = sizes, list(samples)
        self.batch_size, self.seed, self.epochs = batch_size, seed, epochs
        self.num_devices, self.num_buckets, self.shuffle = num_devices, num_buckets, shuffle
        self._dropped, self._identify = dropped, identify
        self._strata = None if strata is None else np.asarray(strata)
        self.samples_per_epoch = sum(self.samples)
        self.steps_per_epoch = count_batches(self.samples_per_epoch, batch_size)
        n_window = max(1, min(self.samples_per_epoch // WINDOW, self.steps_per_epoch))
        self._bounds = [i * self.steps_per_epoch // n_window for i in range(n_window + 1)]
        self._lock = threading.Lock()
        self._windows: dict[tuple[int, int], _Window] = {}
        self.fill = self._choose() if fill == "auto" else fill
        self.capacities = self._fit() if capacity is None else smallest_first(capacity)

    def __getstate__(self) -> dict[str, Any]:
        # A mapped table would travel as numbers: who receives the plans sets ``sizes`` again.
        return {**self.__dict__, "sizes": None, "_lock": None, "_windows": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def step(self, step: int) -> StepPlan:
        """Plan of step ``step`` of the run.

        Raises:
            CapacityError: it does not fit the given shapes.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        number = int(np.searchsorted(self._bounds, place, side="right")) - 1
        window, place = self._window(epoch, number), place - self._bounds[number]
        return StepPlan(window.groups[place], int(window.buckets[place]))

    def reported(self) -> tuple[np.ndarray, list[Capacity], np.ndarray]:
        """Sizes, shapes and structure counts at the beginning of the first epoch, for reports.

        Returns:
            [fields] sums of its structures' sizes, the shape of each of its steps, and the
            number of structures in each.
        """
        real, shapes, counts = np.zeros(len(FIELDS), dtype=np.int64), [], []
        for number in range(min(_REPORTED, len(self._bounds) - 1)):
            window = self._window(0, number)
            shapes += [self.capacities[bucket] for bucket in window.buckets]
            batches = [np.concatenate(groups) for groups in window.groups]
            counts += [len(batch) for batch in batches]
            real += self.sizes.take(np.concatenate(batches)).table.sum(axis=0)
        return real, shapes, np.array(counts)

    def _window(self, epoch: int, number: int) -> _Window:
        key = (epoch if self.shuffle else 0, number)
        with self._lock:
            if key not in self._windows:
                # Threads at the turn of a window need two.
                for old in list(self._windows)[:-1]:
                    del self._windows[old]
                self._windows[key] = self._planned(*key)
            return self._windows[key]

    def _planned(self, epoch: int, number: int) -> _Window:
        """The first draw of the window whose batches all fit a bucket."""
        limits = np.stack([capacity.limits for capacity in self.capacities])
        groups, unfit = [], np.zeros(0, dtype=np.int64)
        for attempt in range(_ATTEMPTS):
            groups, classes, needs = self._draw(epoch, number, attempt)
            fits = (needs[:, None] <= limits).all(axis=-1)
            unfit = np.flatnonzero(~fits.any(axis=-1))
            if not len(unfit):
                return _Window(groups, classes, needs, np.argmax(fits, axis=1))
        for group in groups[unfit[0]]:
            names = [self._identify(i) for i in group.tolist()]
            check_fits(self.sizes.take(group), self.capacities[-1], names)
        raise CapacityError(f"epoch {epoch}: no bucket of {self.capacities} holds its batches")

    def _members(self, epoch: int, number: int) -> np.ndarray:
        """Global indices of the structures of a window."""
        lengths, bounds = self.sizes.lengths, np.array(self._bounds[number : number + 2])
        if self._strata is None or len(self._bounds) == 2:
            groups = [self.samples]
        else:
            # Each in proportion to the steps, the first with what is left.
            numbers = np.unique(self._strata)[::-1]
            groups = [np.where(self._strata == one, self.samples, 0).tolist() for one in numbers]
        left, members = bounds * self.samples_per_epoch // self.steps_per_epoch, []
        for samples in groups:
            last = samples is groups[-1]
            ends = left if last else bounds * sum(samples) // self.steps_per_epoch
            left = left - ends
            places = np.arange(*ends)
            members.append(epoch_members(lengths, samples, self.seed, epoch, places))
        return np.concatenate(members)

    def _draw(
        self, epoch: int, number: int, attempt: int
    ) -> tuple[list[list[np.ndarray]], np.ndarray, np.ndarray]:
        members = self._members(epoch, number)
        return self._divided(members, (self.seed, epoch, number, attempt))

    def _divided(
        self, members: np.ndarray, key: Sequence[int], devices: int = 0
    ) -> tuple[list[list[np.ndarray]], np.ndarray, np.ndarray]:
        """Groups, class and largest need of a device, for every step made of ``members``."""
        fill, devices = self.fill, devices or self.num_devices
        sizes = self.sizes.take(members)
        if self._strata is None:
            options = {"num_buckets": max(self.num_buckets, 1), "fill": fill}
            plan = plan_batches(sizes, self.batch_size, key, **options)
        else:
            strata = self._strata[self.sizes.locate(members)[0]]
            plan = plan_strata(sizes, strata, self.batch_size, key)
        parts = [
            [batch[part] for part in split_batch(Sizes(sizes.table[batch]), devices, fill)]
            for batch in plan.batches
        ]
        needs = sizes.needs([part for batch in parts for part in batch])
        needs = needs.reshape(len(parts), devices, -1).max(axis=1)
        return [[members[part] for part in batch] for batch in parts], plan.classes, needs

    def _choose(self) -> Fill:
        """Rule of filling that needs the fewest shapes for a good real fraction, else the best.

        Batches are judged undivided: the structures of a step must not depend on the devices.
        """
        members, shares = self._members(0, 0), {}
        for fill in _FILLS:
            self.fill = fill
            _, classes, needs = self._divided(members, (self.seed, 0, 0, 0), devices=1)
            shares[fill] = [share for _, share in self._sorted(classes, needs)]
            if shares[fill][0] >= _GOOD_SHARE:
                return fill
        for pair in zip(*shares.values(), strict=True):
            if max(pair) >= _GOOD_SHARE:
                return _FILLS[0] if pair[0] >= _GOOD_SHARE else _FILLS[1]
        return max(_FILLS, key=lambda fill: shares[fill][-1])

    def _sorted(self, classes: np.ndarray, needs: np.ndarray) -> list[tuple[np.ndarray, float]]:
        """Ways to sort steps into shapes, from one shape to as many as are allowed.

        Args:
            classes: [steps] size classes; the only way where their number is given.
            needs: [steps, fields] needs of each step.

        Returns:
            For each way, [steps] shapes, and the real fraction of the padded main edges.
        """
        edges = needs[:, FIELDS.index("n_edge")]
        ways = [classes]
        if self.num_buckets == 0:
            steps = self.steps_per_epoch * max(self.epochs, 1)
            most = min(max(steps // _STEPS_PER_BUCKET, 1), MAX_BUCKETS)
            ways = [classes_of_load(edges, number) for number in range(1, most + 1)]
        return [(way, _real_share(edges, way)) for way in ways]

    def _fit(self) -> list[Capacity]:
        """The smallest shapes that hold the windows of the run, from all windows or a sample."""
        n_window = len(self._bounds) - 1
        windows = n_window * (max(self.epochs, 1) if self.shuffle else 1)
        length = -(-self.samples_per_epoch // n_window)
        affordable = max(1, _PLANNED // length)
        drawn = itertools.islice(self._all_windows(), min(windows, affordable))
        plans = [self._draw(epoch, number, 0) for epoch, number in drawn]
        whole_epochs = self.samples == self.sizes.lengths and affordable >= n_window
        unseen = windows > affordable and not whole_epochs
        margin, maxima = 0.0, None
        if unseen:
            # Other windows hold other structures, so plan for the largest of all as well.
            maxima, heaviest = self.sizes.largest()
            stand_ins = self.sizes.sample(_PLANNED, heaviest)
            members = self._imagined(stand_ins, length)
            attempts = range(min(affordable, _ATTEMPTS))
            plans += [self._divided(members, (self.seed, 0, 0, a)) for a in attempts]
            margin += self._mixture_margin(stand_ins, length)
        needs = np.concatenate([plan[2] for plan in plans])
        ways = self._sorted(np.concatenate([plan[1] for plan in plans]), needs)
        enough = (classes for classes, share in ways if share >= _GOOD_SHARE)
        classes = next(enough, max(ways, key=lambda way: way[1])[0])
        if maxima is not None:
            # Widths are set by one or two structures, any of which may be in a later window.
            widest = classes == classes.max()
            needs[widest] = Sizes(maxima[None]).with_all_widths(needs[widest])
        margin += (_MARGIN if windows > affordable else 0.0) + self._dropout_margin(needs)
        return smallest_first(
            [fit_capacity(needs[classes == c], margin=margin) for c in np.unique(classes)]
        )

    def _all_windows(self) -> Iterator[tuple[int, int]]:
        numbers = range(len(self._bounds) - 1)
        return ((epoch, number) for epoch in itertools.count() for number in numbers)

    def _imagined(self, stand_ins: Sequence[np.ndarray], length: int) -> np.ndarray:
        """Members of a window that is spread evenly over the sizes, the largest included."""
        weights = [self.sizes.take(part).column("n_edge") for part in stand_ins]
        places = spread_members(weights, share_out(length, self.samples))
        return np.concatenate(stand_ins)[places]

    def _mixture_margin(self, stand_ins: Sequence[np.ndarray], length: int) -> float:
        """Four standard deviations of a window's atoms and edges, as a fraction of them."""
        columns = [FIELDS.index(n) for n in ("n_node", "n_edge", "n_edge_a2ee2a")]
        parts = [self.sizes.take(part).table[:, columns] for part in stand_ins]
        counts = length * np.array(self.samples) / self.samples_per_epoch
        sums = sum(c * part.mean(axis=0) for c, part in zip(counts, parts, strict=True))
        squares = sum(c * part.var(axis=0) for c, part in zip(counts, parts, strict=True))
        return 4 * float(np.max(np.sqrt(squares) / np.maximum(sums, 1)))

    def _dropout_margin(self, needs: np.ndarray) -> float:
        """Four standard deviations of the fraction of edges kept in the fullest batch."""
        p, edges = self._dropped, max(int(needs[:, FIELDS.index("n_edge")].max()), 1)
        return 4 * float(np.sqrt(2 * p * (1 - p) / edges))


def _real_share(loads: np.ndarray, classes: np.ndarray) -> float:
    """Real fraction of the steps' loads when all of a class are padded to its largest."""
    largest = np.zeros(int(classes.max()) + 1)
    np.maximum.at(largest, classes, loads)
    return float(loads.sum() / max(largest[classes].sum(), 1))


def smallest_first(capacities: Capacity | Sequence[Capacity]) -> list[Capacity]:
    """Distinct capacities, those with the fewest main slots and edges first."""
    given = [capacities] if isinstance(capacities, Capacity) else list(capacities)
    return sorted(set(given), key=lambda c: (c.n_node * c.max_neighbors, c.n_edge))
