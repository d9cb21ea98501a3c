"""Batches for training: planned over the data sets, built on host threads, ready to resume.

The loader has no state but the number of the step: what a step holds is a function of the data,
the seed and that number, so a run that resumes at step k sees the batches it would have seen.
"""

import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax
import numpy as np
from numpy.typing import DTypeLike

from atomjax.graphs.batch import GraphBatch
from atomjax.graphs.capacity import (
    FIELDS,
    Capacity,
    CapacityError,
    Sizes,
    check_fits,
    fit_capacity,
)
from atomjax.graphs.dataset import GraphDataset
from atomjax.graphs.interactions import GraphKind, InteractionGraphs
from atomjax.graphs.mixture import epoch_members, spread_members
from atomjax.graphs.packing import pack
from atomjax.graphs.planning import count_batches, plan_epoch, split_batch
from atomjax.structures.structure import Structure

# Structures to plan for when fitting the buckets; beyond, a margin covers the other epochs.
_PLANNED = 1_000_000
_MARGIN = 0.01
_ATTEMPTS = 16


@dataclass(frozen=True)
class _EpochPlan:
    """The steps of one epoch: global structure indices for each device, and the bucket."""

    groups: list[list[np.ndarray]]
    buckets: np.ndarray


class BatchLoader:
    """Padded batches over one or more data sets, for a number of epochs.

    Every structure comes once an epoch, or as often as ``samples`` says, in ceil(S / batch_size)
    batches whose numbers of structures differ by at most one and whose numbers of main edges are
    nearly equal. Neither depends on ``num_devices``, over which each batch is then divided.

    Args:
        datasets: the data sets; a structure's data set index is that of its data set, or the
            latter's place in this list.
        batch_size: structures of a global batch.
        seed: of the plan and of the edge dropout.
        epochs: how often to go through the data.
        num_devices: D, parts that each batch is divided into.
        num_buckets: classes of size, each with a shape of its own, so the number of compilations.
        shuffle: draw another plan each epoch; otherwise all epochs are alike.
        drop_edges: apply the data sets' edge dropout; by default where ``shuffle`` is set, as in
            training.
        dtype: float type of the batches.
        prefetch: batches to build ahead on threads; 0 builds each when it is asked for.
        num_threads: threads that build batches.
        capacity: shape or shapes of the buckets; fitted to the data if None.
        samples: structures that an epoch takes of each data set, in turn (see
            ``atomjax.graphs.mixture.epoch_members``); None takes all once.
        rows: which of the D parts to build, those of this process's devices; None builds all.

    Raises:
        ValueError: an argument out of range, two data sets with the same index, or data sets
            whose graphs are of different kinds.
        CapacityError: the data do not fit the given capacity.
        GraphError: the graph of a structure cannot be built.
    """

    def __init__(
        self,
        datasets: Sequence[GraphDataset],
        *,
        batch_size: int,
        seed: int = 0,
        epochs: int = 1,
        num_devices: int = 1,
        num_buckets: int = 1,
        shuffle: bool = True,
        drop_edges: bool | None = None,
        dtype: DTypeLike = np.float32,
        prefetch: int = 4,
        num_threads: int = 2,
        capacity: Capacity | Sequence[Capacity] | None = None,
        samples: Sequence[int] | None = None,
        rows: Sequence[int] | None = None,
    ):
        for name, value, least in (
            ("epochs", epochs, 0),
            ("num_devices", num_devices, 1),
            ("num_buckets", num_buckets, 1),
            ("prefetch", prefetch, 0),
            ("num_threads", num_threads, 1),
            ("datasets", len(datasets), 1),
        ):
            if value < least:
                raise ValueError(f"BatchLoader: {name} is {value}, give at least {least}")
        self.datasets = list(datasets)
        self.batch_size, self.seed, self.epochs = batch_size, seed, epochs
        self.num_devices, self.num_buckets = num_devices, num_buckets
        self.rows = list(range(num_devices)) if rows is None else list(rows)
        self.shuffle, self.dtype = shuffle, dtype
        self.prefetch, self.num_threads = prefetch, num_threads
        drop_edges = shuffle if drop_edges is None else drop_edges
        self._dropping = drop_edges and any(d.graph_config.edge_dropout for d in datasets)
        self._indices = [i if d.index is None else d.index for i, d in enumerate(datasets)]
        if len(set(self._indices)) < len(datasets):
            raise ValueError(f"BatchLoader: data sets share an index, they have {self._indices}")
        self._kind: GraphKind = _common_kind(self.datasets)
        self._first = np.cumsum([0, *(len(d) for d in datasets)])
        self._property_names = sorted({s.name for d in datasets for s in d.scales})
        self._sizes = Sizes.concatenate(
            d.drawn_sizes(seed) if self._dropping else d.sizes for d in datasets
        )
        self.samples = _checked_samples(samples, [len(d) for d in datasets])
        self._lock = threading.Lock()
        self._plans: dict[int, _EpochPlan] = {}
        self._emitted: set[Capacity] = set()
        self.steps_per_epoch = count_batches(self.samples_per_epoch, batch_size)
        self.num_steps = self.steps_per_epoch * epochs
        self.capacities = self._fit() if capacity is None else _smallest_first(capacity)

    def __len__(self) -> int:
        return self.num_steps

    @property
    def samples_per_epoch(self) -> int:
        """Structures of an epoch over all data sets, each counted as often as it comes."""
        return sum(self.samples)

    def __iter__(self) -> Generator[tuple[int, GraphBatch], None, None]:
        return self.batches()

    def batches(self, start_step: int = 0) -> Generator[tuple[int, GraphBatch], None, None]:
        """Steps with their batches, from ``start_step`` to the last of the last epoch.

        Returns:
            Generator of (step, batch) whose leaves are numpy arrays with a leading axis, D or as
            many as ``rows``; its threads end with it, also when it is closed early.

        Raises:
            ValueError: ``start_step`` is not a step of the run.
            CapacityError: a batch does not fit a given capacity.
            GraphError: the graph of a structure cannot be built.
        """
        if not 0 <= start_step <= self.num_steps:
            raise ValueError(f"start_step is {start_step}, the run has {self.num_steps} steps")
        return self._ahead(start_step) if self.prefetch else self._directly(start_step)

    def build(self, step: int) -> GraphBatch:
        """The batch of one step, leaves [D, ...] or as many as ``rows``."""
        epoch, place = divmod(step, self.steps_per_epoch)
        plan = self._plan(epoch)
        capacity = self.capacities[plan.buckets[place]]
        parts = [self._pack(plan.groups[place][d], capacity, epoch) for d in self.rows]
        self._emitted.add(capacity)
        return jax.tree.map(lambda *leaves: np.stack(leaves), *parts)

    def example_batch(self) -> GraphBatch:
        """The first device's share of the first batch, without the device axis."""
        plan = self._plan(0)
        return self._pack(plan.groups[0][0], self.capacities[plan.buckets[0]], 0)

    def identify(self, dataset: int, index: int) -> str:
        """How messages name the structure with ``Targets.dataset`` and ``Targets.structure``."""
        return self.datasets[self._indices.index(int(dataset))].identify(int(index))

    def padding_report(self) -> dict[str, float]:
        """What share of the padded batches of an epoch is real.

        Returns:
            Shares from 0 to 1 of "atoms", "main_edges", "main_slots" and "structures", and the
            numbers "buckets" and "shapes_emitted" (distinct shapes so far).
        """
        plan = self._plan(0)
        columns = [FIELDS.index(n) for n in ("n_node", "n_edge", "n_graph")]
        members = self._members(0)
        real = self._sizes.table[slice(None) if members is None else members][:, columns]
        atoms, edges, structures = real.sum(axis=0).tolist()
        chosen = [self.capacities[b] for b in plan.buckets]
        slots = sum(c.n_node * c.max_neighbors for c in chosen)
        return {
            "atoms": atoms / (self.num_devices * sum(c.n_node for c in chosen)),
            "main_edges": edges / (self.num_devices * sum(c.n_edge for c in chosen)),
            "main_slots": edges / (self.num_devices * slots),
            "structures": structures / (self.num_devices * sum(c.n_graph for c in chosen)),
            "buckets": len(self.capacities),
            "shapes_emitted": len(self._emitted),
        }

    def _directly(self, start_step: int) -> Generator[tuple[int, GraphBatch], None, None]:
        for step in range(start_step, self.num_steps):
            yield step, self.build(step)

    def _ahead(self, start_step: int) -> Generator[tuple[int, GraphBatch], None, None]:
        threads = min(self.num_threads, self.prefetch)
        executor = ThreadPoolExecutor(threads, thread_name_prefix="atomjax-loader")
        pending = deque()
        try:
            for step in range(start_step, self.num_steps):
                pending.append((step, executor.submit(self.build, step)))
                if len(pending) > self.prefetch:
                    ready, future = pending.popleft()
                    yield ready, future.result()
            while pending:
                ready, future = pending.popleft()
                yield ready, future.result()
        finally:
            executor.shutdown(wait=True, cancel_futures=True)

    def _draw(self, epoch: int, attempt: int = 0) -> tuple[list[list[np.ndarray]], np.ndarray]:
        """Groups of every step of an epoch, and the class of each step."""
        epoch = epoch if self.shuffle else 0
        return self._divide(self._members(epoch), epoch, attempt)

    def _members(self, epoch: int) -> np.ndarray | None:
        """Global indices of the structures of an epoch; None: all of them."""
        return epoch_members([len(d) for d in self.datasets], self.samples, self.seed, epoch)

    def _divide(
        self, members: np.ndarray | None, epoch: int, attempt: int
    ) -> tuple[list[list[np.ndarray]], np.ndarray]:
        """Groups and class of every step of an epoch that holds ``members``."""
        plan = plan_epoch(
            self._sizes if members is None else Sizes(self._sizes.table[members]),
            self.batch_size,
            self.seed,
            epoch,
            num_buckets=self.num_buckets,
            attempt=attempt,
        )
        batches = plan.batches if members is None else [members[b] for b in plan.batches]
        groups = [split_batch(self._sizes, b, self.num_devices) for b in batches]
        return groups, plan.classes

    def _step_needs(self, groups: list[list[np.ndarray]]) -> np.ndarray:
        """[steps, 13] most that any device needs in each step."""
        needs = self._sizes.needs([group for step in groups for group in step])
        return needs.reshape(len(groups), self.num_devices, -1).max(axis=1)

    def _fit(self) -> list[Capacity]:
        epochs = max(self.epochs, 1) if self.shuffle else 1
        affordable = max(1, _PLANNED // self.samples_per_epoch)
        sample = min(epochs, affordable)
        others = sample < epochs and self.samples != [len(d) for d in self.datasets]
        needs, classes = [], []
        for epoch in range(sample + others * min(affordable, _ATTEMPTS)):
            if epoch < sample:
                groups, labels = self._draw(epoch)
            else:
                # Later epochs hold other structures, so plan for the largest of all as well.
                weights = np.split(self._sizes.column("n_edge"), self._first[1:-1])
                members = spread_members(weights, self.samples)
                groups, labels = self._divide(members, 0, attempt=epoch - sample)
            needs.append(self._step_needs(groups))
            classes.append(labels)
        needs, classes = np.concatenate(needs), np.concatenate(classes)
        if others:
            # Widths are those of a structure or two, and any of them will come.
            widest = classes == classes.max()
            needs[widest] = self._sizes.with_all_widths(needs[widest])
        margin = (_MARGIN if sample < epochs else 0.0) + self._dropout_margin(needs)
        margin += self._mixture_margin() if others else 0.0
        return _smallest_first(
            [fit_capacity(needs[classes == c], margin=margin) for c in np.unique(classes)]
        )

    def _mixture_margin(self) -> float:
        """Four standard deviations of an epoch's atoms and edges, as a share of them."""
        columns = [FIELDS.index(n) for n in ("n_node", "n_edge", "n_edge_a2ee2a")]
        parts = np.split(self._sizes.table[:, columns], self._first[1:-1])
        sums = sum(c * part.mean(axis=0) for c, part in zip(self.samples, parts, strict=True))
        squares = sum(c * part.var(axis=0) for c, part in zip(self.samples, parts, strict=True))
        return 4 * float(np.max(np.sqrt(squares) / np.maximum(sums, 1)))

    def _dropout_margin(self, needs: np.ndarray) -> float:
        """Four standard deviations of the share of edges that survive in the fullest batch."""
        if not self._dropping:
            return 0.0
        p = max(d.graph_config.edge_dropout for d in self.datasets)
        edges = max(int(needs[:, FIELDS.index("n_edge")].max()), 1)
        return 4 * float(np.sqrt(2 * p * (1 - p) / edges))

    def _plan(self, epoch: int) -> _EpochPlan:
        with self._lock:
            if epoch not in self._plans:
                # Threads at the turn of an epoch need two.
                for old in sorted(self._plans)[:-1]:
                    del self._plans[old]
                self._plans[epoch] = self._make_plan(epoch)
            return self._plans[epoch]

    def _make_plan(self, epoch: int) -> _EpochPlan:
        """The first draw of the epoch whose batches all fit a bucket."""
        limits = np.stack([capacity.limits for capacity in self.capacities])
        groups, unfit = [], np.zeros(0, dtype=np.int64)
        for attempt in range(_ATTEMPTS):
            groups, _ = self._draw(epoch, attempt)
            fits = (self._step_needs(groups)[:, None] <= limits).all(axis=-1)
            unfit = np.flatnonzero(~fits.any(axis=-1))
            if not len(unfit):
                return _EpochPlan(groups, np.argmax(fits, axis=1))
        for group in groups[unfit[0]]:
            names = [self.datasets[d].identify(i) for d, i in self._locate(group)]
            check_fits(Sizes(self._sizes.table[group]), self.capacities[-1], names)
        raise CapacityError(f"epoch {epoch}: no bucket of {self.capacities} holds its batches")

    def _locate(self, group: np.ndarray) -> list[tuple[int, int]]:
        """Place of the data set, and index in it, of each global index."""
        dataset = np.searchsorted(self._first, group, side="right") - 1
        return list(zip(dataset.tolist(), (group - self._first[dataset]).tolist(), strict=True))

    def _pack(self, group: np.ndarray, capacity: Capacity, epoch: int) -> GraphBatch:
        members = self._locate(group)
        structures = [self.datasets[d].structure(i) for d, i in members]
        labels = [
            self.datasets[d].labels(i, self._indices[d], structure)
            for (d, i), structure in zip(members, structures, strict=True)
        ]
        for attempt in range(_ATTEMPTS):
            graphs = self._graphs(members, structures, epoch, attempt)
            try:
                return pack(
                    graphs,
                    structures,
                    capacity,
                    labels=labels,
                    property_names=self._property_names,
                    dtype=self.dtype,
                    kind=self._kind,
                )
            except CapacityError:
                # Dropout is drawn again, from the attempt's own seed, where it left too much.
                if not self._dropping or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _graphs(
        self,
        members: list[tuple[int, int]],
        structures: list[Structure],
        epoch: int,
        attempt: int,
    ) -> list[InteractionGraphs]:
        graphs: dict[tuple[int, int], InteractionGraphs] = {}
        read = dict(zip(members, structures, strict=True))
        for d in sorted({d for d, _ in members}):
            own = [i for dataset, i in members if dataset == d]
            rngs = None
            if self._dropping:
                entropy = [self.seed, epoch, self._indices[d]]
                rngs = [np.random.default_rng([*entropy, i, attempt]) for i in own]
            built = self.datasets[d].graphs(own, rngs, {i: read[d, i] for i in own})
            graphs.update(zip(((d, i) for i in own), built, strict=True))
        return [graphs[member] for member in members]


def _common_kind(datasets: Sequence[GraphDataset]) -> GraphKind:
    kinds = {d.name: d.graph_config.kind for d in datasets}
    if len(set(kinds.values())) > 1:
        raise ValueError(
            f"BatchLoader: data sets have graphs of different kinds, {kinds}; a model reads one "
            "kind, so give all the same GraphConfig.kind"
        )
    return datasets[0].graph_config.kind


def _checked_samples(samples: Sequence[int] | None, sizes: list[int]) -> list[int]:
    """The samples of each data set, by default all its structures."""
    if samples is None:
        return sizes
    if len(samples) != len(sizes) or min(samples) < 1:
        raise ValueError(
            f"BatchLoader: samples is {list(samples)}; give a positive number for each of the "
            f"{len(sizes)} data sets"
        )
    return [int(count) for count in samples]


def _smallest_first(capacities: Capacity | Sequence[Capacity]) -> list[Capacity]:
    """Distinct capacities, those with the fewest main slots and edges first."""
    given = [capacities] if isinstance(capacities, Capacity) else list(capacities)
    return sorted(set(given), key=lambda c: (c.n_node * c.max_neighbors, c.n_edge))
