"""Batches for training: planned over the data sets, built on host threads or by processes.

The loader has no state but the number of the step: what a step holds is a function of the data,
the seed and that number, so a run that resumes at step k sees the batches it would have seen.
Building ahead, on threads or in worker processes, is grain's.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import grain
import jax
import numpy as np
from absl import flags
from numpy.typing import DTypeLike

from atomjax.batching.dataset import GraphDataset
from atomjax.batching.epochs import EpochPlans
from atomjax.batching.loader_worker import begin_worker
from atomjax.batching.planning import Fill
from atomjax.batching.size_table import JoinedSizes
from atomjax.graphs.batch import GraphBatch
from atomjax.graphs.capacity import FIELDS, Capacity, CapacityError
from atomjax.graphs.interactions import InteractionGraphs
from atomjax.graphs.packing import pack
from atomjax.structures.structure import Structure

# Draws of the edge dropout until the remaining edges fit.
_ATTEMPTS = 16


class BatchLoader:
    """Padded batches over one or more data sets, for a number of epochs.

    Every structure comes once an epoch, or as often as ``samples`` says, in ceil(S / batch_size)
    batches whose numbers of main edges are nearly equal. Neither depends on ``num_devices``, over
    which each batch is then divided.

    Args:
        datasets: the data sets; a structure's data set index is that of its data set, or the
            latter's place in this list.
        batch_size: structures of a global batch, on average where it is filled by size.
        seed: seed of the plan and of the edge dropout.
        epochs: number of passes over the data.
        num_devices: D, parts that each batch is divided into.
        num_buckets: classes of size that structures are sorted into, each with a shape of its
            own, so the number of compilations. 0 pads batches as they come to as few shapes as
            leave 0.9 of the main edges real: at most four, and one for every 200 steps.
        shuffle: draw another plan each epoch; otherwise all epochs are alike.
        drop_edges: apply the data sets' edge dropout; by default where ``shuffle`` is set, as in
            training.
        dtype: float type of the batches.
        prefetch: batches to build ahead, by each worker process where there are any; 0 builds
            each when it is asked for.
        num_threads: threads that build batches, in this process or in each worker.
        num_workers: processes that build batches; 0 builds them on threads of this process. They
            are spawned, so a script that is run itself needs ``if __name__ == "__main__"``.
        fill: rule for filling batches: "count", with numbers of structures that differ by at most
            one; "size", with nearly equal numbers of edges and atoms instead; "auto", by count
            unless less than 0.9 of the padded main edges would be real, in as many shapes (see
            ``atomjax.batching.planning``).
        capacity: shape or shapes of the buckets; fitted to the data if None.
        samples: structures that an epoch takes of each data set, in turn (see
            ``atomjax.batching.mixture.epoch_members``); None takes all once.
        strata: number of the group that each data set belongs to; every batch then has as many
            structures of a group as any other, to within one, and is filled by count. None divides
            the samples of an epoch as they come.
        rows: parts of the D to build, those of this process's devices; None builds all.
        property_names: properties of the batches beside those of the data sets, masked out.

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
        num_buckets: int = 0,
        shuffle: bool = True,
        drop_edges: bool | None = None,
        dtype: DTypeLike = np.float32,
        prefetch: int = 4,
        num_threads: int = 2,
        num_workers: int = 0,
        fill: Fill | Literal["auto"] = "count",
        capacity: Capacity | Sequence[Capacity] | None = None,
        samples: Sequence[int] | None = None,
        strata: Sequence[int] | None = None,
        rows: Sequence[int] | None = None,
        property_names: Sequence[str] = (),
    ):
        needed = {"num_devices": num_devices, "num_threads": num_threads}
        _check_least({"datasets": len(datasets), **needed}, 1)
        counts = {"epochs": epochs, "num_buckets": num_buckets, "prefetch": prefetch}
        _check_least({**counts, "num_workers": num_workers}, 0)
        self.datasets = list(datasets)
        self.batch_size, self.seed, self.epochs = batch_size, seed, epochs
        self.num_devices = num_devices
        self.rows = list(range(num_devices)) if rows is None else list(rows)
        self.shuffle, self.dtype = shuffle, dtype
        self.prefetch, self.num_threads, self.num_workers = prefetch, num_threads, num_workers
        drop_edges = shuffle if drop_edges is None else drop_edges
        self._dropping = drop_edges and any(d.graph_config.edge_dropout for d in datasets)
        self._indices = [i if d.index is None else d.index for i, d in enumerate(datasets)]
        if len(set(self._indices)) < len(datasets):
            raise ValueError(f"BatchLoader: data sets share an index, they have {self._indices}")
        self._kind, self._stress = _common_kind(self.datasets), any(d.stress for d in datasets)
        names = {s.name for d in datasets for s in d.scales}
        self._property_names = sorted({*names, *property_names})
        self.samples = _checked_samples(samples, [len(d) for d in datasets])
        self._emitted: set[tuple[Any, ...]] = set()
        self.plans = EpochPlans(
            self._joined_sizes(),
            self.samples,
            batch_size=batch_size,
            strata=strata,
            seed=seed,
            epochs=epochs,
            num_devices=num_devices,
            num_buckets=num_buckets,
            shuffle=shuffle,
            fill=fill,
            dropped=self._dropped,
            capacity=capacity,
            identify=self._name,
        )
        self.steps_per_epoch = self.plans.steps_per_epoch
        self.num_steps = self.steps_per_epoch * epochs
        self.capacities = self.plans.capacities

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.plans.sizes = self._joined_sizes()

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
        return self._batches(start_step)

    def dataset(self, start_step: int = 0) -> "grain.IterDataset[tuple[int, GraphBatch]]":
        """The batches as a grain dataset, whose iterators can be saved with a checkpoint."""
        if self.num_workers:
            for one in self.datasets:
                one.leave_to(self.num_workers)
        options = grain.ReadOptions(self.num_threads if self.prefetch else 0, self.prefetch)
        steps = grain.MapDataset.source(_Steps(self, start_step))
        built = steps.to_iter_dataset(options)
        if not self.num_workers:
            return built
        if not flags.FLAGS.is_parsed():
            # Grain asks for flags of absl, which parses them for programs that it runs itself.
            flags.FLAGS.mark_as_parsed()
        ahead = max(self.prefetch, 1)
        workers = grain.multiprocessing.MultiprocessingOptions(
            num_workers=self.num_workers, per_worker_buffer_size=ahead
        )
        return built.mp_prefetch(workers, worker_init_fn=begin_worker)

    def build(self, step: int) -> GraphBatch:
        """The batch of one step, leaves [D, ...] or as many as ``rows``."""
        plan, epoch = self.plans.step(step), step // self.steps_per_epoch
        capacity = self.capacities[plan.bucket]
        parts = [self._pack(plan.groups[d], capacity, epoch) for d in self.rows]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *parts)

    def example_batch(self) -> GraphBatch:
        """The first device's part of the first batch, without the device axis."""
        plan = self.plans.step(0)
        return self._pack(plan.groups[0], self.capacities[plan.bucket], 0)

    def identify(self, dataset: int, index: int) -> str:
        """Name in messages of the structure with ``Targets.dataset`` and ``Targets.structure``."""
        return self.datasets[self._indices.index(int(dataset))].identify(int(index))

    def padding_report(self) -> dict[str, float]:
        """Real fraction of the padded batches of an epoch.

        Returns:
            Fractions from 0 to 1 of "atoms", "main_edges", "main_slots" and "structures"; the mean,
            least and most structures of a global batch, "batch_size", "batch_size_min" and
            "batch_size_max"; the numbers "buckets" and "shapes_emitted" (distinct shapes so
            far). Long epochs are judged by their beginning.
        """
        real, shapes, counts = self.plans.reported()
        row = dict(zip(FIELDS, real.tolist(), strict=True))
        edges, slots = row["n_edge"], sum(c.n_node * c.max_neighbors for c in shapes)
        devices = self.num_devices
        return {
            "atoms": row["n_node"] / (devices * sum(c.n_node for c in shapes)),
            "main_edges": edges / (devices * sum(c.n_edge for c in shapes)),
            "main_slots": edges / (devices * slots),
            "structures": row["n_graph"] / (devices * sum(c.n_graph for c in shapes)),
            "batch_size": float(counts.mean()),
            "batch_size_min": int(counts.min()),
            "batch_size_max": int(counts.max()),
            "buckets": len(self.capacities),
            "shapes_emitted": len(self._emitted),
        }

    def _batches(self, start_step: int) -> Generator[tuple[int, GraphBatch], None, None]:
        iterator = iter(self.dataset(start_step))
        try:
            for step, batch in iterator:
                self._emitted.add(tuple(np.shape(leaf) for leaf in jax.tree.leaves(batch)))
                yield int(step), batch
        finally:
            iterator.close()

    def _joined_sizes(self) -> JoinedSizes:
        seed = self.seed if self._dropping else None
        return JoinedSizes(dataset.size_table(seed) for dataset in self.datasets)

    @property
    def _dropped(self) -> float:
        """Largest fraction of edges that dropout removes."""
        return max(d.graph_config.edge_dropout for d in self.datasets) if self._dropping else 0.0

    def _name(self, index: int) -> str:
        """Name in messages of the structure with a global index."""
        ((d, i),) = self._locate(np.array([index]))
        return self.datasets[d].identify(i)

    def _locate(self, group: np.ndarray) -> list[tuple[int, int]]:
        """Place of the data set, and index in it, of each global index."""
        dataset, own = self.plans.sizes.locate(group)
        return list(zip(dataset.tolist(), own.tolist(), strict=True))

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
                    stress=self._stress,
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


def _common_kind(datasets: Sequence[GraphDataset]) -> str:
    kinds = {d.name: d.graph_config.kind for d in datasets}
    if len(set(kinds.values())) > 1:
        raise ValueError(
            f"BatchLoader: data sets have graphs of different kinds, {kinds}; a model reads one "
            "kind, so give all the same GraphConfig.kind"
        )
    return datasets[0].graph_config.kind


def _check_least(values: Mapping[str, int], least: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ValueError(f"BatchLoader: {name} is {value}, give at least {least}")


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


@dataclass(frozen=True)
class _Steps:
    """The steps of a loader from a first one on, as grain reads them."""

    loader: BatchLoader
    start: int

    def __len__(self) -> int:
        return self.loader.num_steps - self.start

    def __getitem__(self, index: Any) -> tuple[int, GraphBatch]:
        step = self.start + int(index)
        return step, self.loader.build(step)
