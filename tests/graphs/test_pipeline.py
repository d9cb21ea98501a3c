import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from atomjax.batching.dataset import GraphDataset
from atomjax.batching.loader import BatchLoader
from atomjax.graphs.batch import GraphBatch
from atomjax.graphs.capacity import CapacityError
from atomjax.graphs.interactions import GraphConfig
from atomjax.graphs.neighbors import GraphError
from atomjax.structures import PropertyScale, References
from tests.processes import has_ended, wait_until

Batches = Iterable[tuple[int, GraphBatch]]


@pytest.fixture
def structures(molecule):
    atoms = np.random.default_rng(0).integers(4, 21, 75)
    return [molecule(int(n), seed=i, targets={"gap": float(i)}) for i, n in enumerate(atoms)]


@pytest.fixture
def dataset(structures):
    return GraphDataset("molecules", structures)


def members(batch: GraphBatch) -> list[tuple[int, int]]:
    """(data set, structure) of every real structure of a stacked batch."""
    targets = batch.targets
    real = np.asarray(targets.structure) >= 0
    dataset, index = np.asarray(targets.dataset)[real], np.asarray(targets.structure)[real]
    return sorted(zip(dataset.tolist(), index.tolist(), strict=True))


def assert_same(ours: Batches, theirs: Batches):
    for (step, batch), (other_step, other) in zip(ours, theirs, strict=True):
        assert step == other_step
        jax.tree.map(np.testing.assert_array_equal, batch, other)


def loader_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("grain-prefetch")]


def threads_end() -> bool:
    """Whether the threads of closed loaders come to their end, which nothing waits for."""
    for thread in loader_threads():
        thread.join(timeout=60)
    return loader_threads() == []


@pytest.mark.parametrize("num_devices", [1, 2, 4])
def test_an_epoch_holds_every_structure_once(dataset, num_devices):
    loader = BatchLoader([dataset], batch_size=16, epochs=2, num_devices=num_devices)
    assert (loader.steps_per_epoch, loader.num_steps, len(loader)) == (5, 10, 10)
    steps, batches = zip(*loader, strict=True)
    assert steps == tuple(range(10))
    for epoch in (batches[:5], batches[5:]):
        everything = sorted(member for batch in epoch for member in members(batch))
        assert everything == [(0, i) for i in range(75)]
    assert {leaf.shape[0] for leaf in jax.tree.leaves(batches[0])} == {num_devices}
    assert len({str(jax.tree.map(np.shape, batch)) for batch in batches}) == 1
    assert loader.padding_report()["shapes_emitted"] == 1


@pytest.mark.parametrize("edge_dropout", [0.0, 0.1])
def test_what_a_step_sees_does_not_depend_on_the_devices(structures, edge_dropout):
    config = GraphConfig(edge_dropout=edge_dropout)

    def steps(num_devices: int) -> list:
        data = GraphDataset("set", structures, config)
        loader = BatchLoader([data], batch_size=16, num_devices=num_devices)
        return [
            (members(batch), int((batch.slots.position < batch.slots.index[0].size).sum()))
            for _, batch in loader
        ]

    assert steps(1) == steps(2) == steps(4)


@pytest.mark.parametrize("edge_dropout", [0.0, 0.2])
@pytest.mark.parametrize("start", [3, 7, 10])
def test_resuming_yields_the_same_batches(structures, edge_dropout, start):
    config = GraphConfig(edge_dropout=edge_dropout)
    settings: dict[str, Any] = {"batch_size": 16, "epochs": 2, "seed": 5}
    unbroken = BatchLoader([GraphDataset("set", structures, config)], **settings)
    resumed = BatchLoader([GraphDataset("set", structures, config)], **settings)
    assert_same(list(unbroken)[start:], resumed.batches(start))


def test_threads_change_nothing(dataset):
    settings: dict[str, Any] = {"batch_size": 16, "epochs": 2}
    alone = BatchLoader([dataset], prefetch=0, **settings)
    assert_same(alone, BatchLoader([dataset], prefetch=3, num_threads=3, **settings))


def test_worker_processes_change_nothing(structures):
    data = GraphDataset("set", structures, GraphConfig(edge_dropout=0.1))
    settings: dict[str, Any] = {"batch_size": 16, "epochs": 2, "num_devices": 2, "fill": "size"}
    alone = BatchLoader([data], prefetch=0, **settings)
    spread = BatchLoader([data], prefetch=2, num_workers=2, **settings)
    assert_same(list(alone)[3:], spread.batches(3))
    assert multiprocessing.active_children() == []


LOADS = """
import multiprocessing
import time

import numpy as np

from atomjax.batching import BatchLoader, GraphDataset
from atomjax.structures import Structure

if __name__ == "__main__":
    positions = np.eye(3) + np.arange(12.0).reshape(4, 1, 3)
    molecules = [Structure(atomic_numbers=[8, 1, 1], positions=p) for p in positions]
    loader = BatchLoader([GraphDataset("set", molecules)], batch_size=2, epochs=99, num_workers=2)
    batches = loader.batches()
    next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks /proc which processes there are")
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_workers_and_their_memory_end_with_a_process_that_is_killed(tmp_path, number):
    (tmp_path / "loads.py").write_text(LOADS)
    root = str(Path(__file__).resolve().parents[2])
    before = set(Path("/dev/shm").glob("psm_*"))
    with subprocess.Popen(
        [sys.executable, tmp_path / "loads.py"],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        workers = [int(pid) for pid in process.stdout.readline().split()]
        # Less that of other programs.
        memory = set(Path("/dev/shm").glob("psm_*")) - before
        process.send_signal(number)
    assert len(workers) == 2
    wait_until(lambda: all(has_ended(pid) for pid in workers))
    assert memory
    wait_until(lambda: not any(path.exists() for path in memory))


def test_hosts_build_their_own_shares(dataset):
    settings: dict[str, Any] = {"batch_size": 16, "num_devices": 4, "prefetch": 0}
    hosts = [BatchLoader([dataset], rows=rows, **settings) for rows in ([0, 1], [2, 3])]
    for (_, whole), *shares in zip(BatchLoader([dataset], **settings), *hosts, strict=True):
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(s for _, s in shares))
        jax.tree.map(np.testing.assert_array_equal, whole, joined)


def test_iterators_of_grain_keep_their_place(dataset):
    settings: dict[str, Any] = {"batch_size": 16, "epochs": 2}
    whole = list(BatchLoader([dataset], prefetch=0, **settings))
    iterator = iter(BatchLoader([dataset], **settings).dataset())
    for _ in range(4):
        next(iterator)
    saved = iterator.get_state()
    iterator.close()
    resumed = iter(BatchLoader([dataset], **settings).dataset())
    resumed.set_state(saved)
    assert_same(whole[4:], list(resumed))
    resumed.close()


def test_the_effective_batch_size_is_reported(structures, slab):
    data = GraphDataset("set", [*structures, *(slab(seed=i) for i in range(10))])
    loader = BatchLoader([data], batch_size=5, fill="size")
    counts = [len(members(batch)) for _, batch in loader]
    report = loader.padding_report()
    assert report["batch_size"] == pytest.approx(np.mean(counts)) == 5
    assert (report["batch_size_min"], report["batch_size_max"]) == (min(counts), max(counts))
    assert min(counts) < 5 < max(counts)


def test_without_shuffling_all_epochs_are_alike(dataset):
    fixed = [members(b) for _, b in BatchLoader([dataset], batch_size=16, epochs=2, shuffle=False)]
    assert fixed[:5] == fixed[5:]
    shuffled = [members(b) for _, b in BatchLoader([dataset], batch_size=16, epochs=2)]
    assert shuffled[:5] != shuffled[5:]


def test_edges_drop_in_training_only(structures):
    config = GraphConfig(cutoff=8.0, edge_dropout=0.3)

    def edges(**settings) -> int:
        loader = BatchLoader([GraphDataset("set", structures, config)], batch_size=75, **settings)
        ((_, batch),) = loader
        return int((batch.slots.position < batch.slots.index[0].size).sum())

    everything = sum(len(s) * (len(s) - 1) for s in structures)
    assert edges(shuffle=False) == edges(drop_edges=False) == everything
    assert edges() == edges(shuffle=False, drop_edges=True)
    assert abs(edges() / everything - 0.7) < 0.02


def test_dropped_edges_fit_the_bucket_and_fill_it(structures, slab):
    config = GraphConfig(edge_dropout=0.1, max_neighbors=10, max_neighbors_a2ee2a=8)
    mixed = [*structures, *(slab(seed=i) for i in range(10))]
    loader = BatchLoader([GraphDataset("set", mixed, config)], batch_size=17, epochs=6)
    filled = [np.mean(batch.slots.position < batch.slots.index[0].size) for _, batch in loader]
    assert np.mean(filled) > 0.9


def test_buckets_bound_the_number_of_shapes(structures, slab):
    data = GraphDataset("set", [*structures, *(slab(seed=i) for i in range(10))])
    one, three = (BatchLoader([data], batch_size=8, epochs=2, num_buckets=n) for n in (1, 3))
    shapes = {batch.slots.index.shape for _, batch in three}
    assert len(shapes) == len(three.capacities) == three.padding_report()["buckets"] == 3
    assert three.padding_report()["shapes_emitted"] == 3
    assert three.padding_report()["main_slots"] > 1.3 * one.padding_report()["main_slots"]


def test_most_of_a_batch_is_real(molecule):
    atoms = np.random.default_rng(1).integers(4, 21, 400)
    structures = [molecule(int(n), seed=i) for i, n in enumerate(atoms)]
    loader = BatchLoader([GraphDataset("set", structures)], batch_size=32, epochs=2)
    report = loader.padding_report()
    assert report["main_edges"] >= 0.95
    assert report["atoms"] >= 0.95
    ((_, batch),) = list(loader.batches())[:1]
    real = np.mean(batch.slots.position < batch.slots.index[0].size)
    assert abs(real - report["main_edges"]) < 0.02
    assert np.asarray(batch.slots.index < batch.slots.position.size).mean() == pytest.approx(
        report["main_slots"], rel=0.05
    )


def test_several_data_sets_keep_their_labels(structures, slab):
    slabs = [slab(seed=i) for i in range(9)]
    scale = PropertyScale.fit(structures, "gap")
    references = References.fit(slabs)
    datasets = [
        GraphDataset("molecules", structures[:20], scales=[scale]),
        GraphDataset("slabs", slabs, GraphConfig(max_neighbors=12), references=references, index=4),
    ]
    loader = BatchLoader(datasets, batch_size=10, dtype=np.float64)
    seen = []
    for _, batch in loader:
        seen += members(batch)
        targets = batch.targets
        for g in np.flatnonzero(targets.structure[0] >= 0):
            dataset, i = int(targets.dataset[0, g]), int(targets.structure[0, g])
            gap, energy = targets.properties["gap"][0, g], targets.energy[0, g]
            if dataset == 0:
                assert gap == pytest.approx(scale.normalize(structures[i]))
                assert energy == structures[i].energy
            else:
                assert gap == 0
                assert energy == pytest.approx(references.normalize_energy(slabs[i]))
    assert sorted(seen) == [(0, i) for i in range(20)] + [(4, i) for i in range(9)]
    assert loader.identify(0, 3) == structures[3].identifier
    assert loader.identify(4, 8) == slabs[8].identifier


def test_data_sets_must_have_indices_of_their_own(structures):
    datasets = [GraphDataset("a", structures, index=1), GraphDataset("b", structures)]
    with pytest.raises(ValueError, match=r"share an index, they have \[1, 1\]"):
        BatchLoader(datasets, batch_size=4)


@pytest.mark.parametrize("name", ["epochs", "num_devices", "num_buckets", "prefetch"])
def test_arguments_out_of_range_are_named(dataset, name):
    wrong: dict[str, Any] = {name: -1}
    with pytest.raises(ValueError, match=f"{name} is -1"):
        BatchLoader([dataset], batch_size=4, **wrong)


def test_steps_out_of_range_are_refused(dataset):
    loader = BatchLoader([dataset], batch_size=16)
    assert list(loader.batches(5)) == []
    with pytest.raises(ValueError, match="start_step is 6, the run has 5 steps"):
        loader.batches(6)


def test_more_devices_than_structures_leave_some_to_padding(molecule):
    loader = BatchLoader(
        [GraphDataset("set", [molecule(3), molecule(4)])], batch_size=2, num_devices=4
    )
    ((_, batch),) = loader
    assert (batch.targets.structure >= 0).sum(axis=1).tolist() == [1, 1, 0, 0]
    assert members(batch) == [(0, 0), (0, 1)]
    assert (loader.example_batch().targets.structure >= 0).any()


def test_example_batch_is_one_devices_share(dataset):
    loader = BatchLoader([dataset], batch_size=16, num_devices=2)
    _, first = next(loader.batches())
    jax.tree.map(
        np.testing.assert_array_equal, loader.example_batch(), jax.tree.map(lambda x: x[0], first)
    )


def test_a_given_capacity_is_used_or_refused(dataset):
    (fitted,) = BatchLoader([dataset], batch_size=16).capacities
    larger = fitted.enlarged(5)
    loader = BatchLoader([dataset], batch_size=16, capacity=[larger, fitted])
    assert loader.capacities == [fitted, larger]
    assert {batch.slots.index.shape[1:] for _, batch in loader} == {
        (fitted.n_node, fitted.max_neighbors)
    }
    small = replace(fitted, max_neighbors=12)
    with pytest.raises(CapacityError, match=r"structure 'molecule \d+/.*raise Capacity.max_nei"):
        list(BatchLoader([dataset], batch_size=16, capacity=small))


def test_unplanned_epochs_are_drawn_until_they_fit(dataset, monkeypatch):
    monkeypatch.setattr("atomjax.batching.epochs._PLANNED", 1)
    monkeypatch.setattr("atomjax.batching.epochs._MARGIN", 0.0)
    # Without a margin a third of all seeds have an epoch of which no draw fits; this one draws
    # an epoch up to four times.
    settings: dict[str, Any] = {"batch_size": 16, "epochs": 12, "seed": 4}
    loader = BatchLoader([dataset], **settings)
    everything = list(loader)
    assert sorted(m for _, b in everything[-5:] for m in members(b)) == [(0, i) for i in range(75)]
    assert_same(everything[31:], BatchLoader([dataset], **settings).batches(31))


@pytest.mark.parametrize("prefetch", [0, 4])
def test_errors_of_the_threads_reach_the_consumer(structures, prefetch):
    class Broken(list):
        broken = False

        def __getitem__(self, index):
            if self.broken and index == 42:
                raise OSError("disk gone")
            return super().__getitem__(index)

    flaky = Broken(structures)
    loader = BatchLoader(
        [GraphDataset("flaky", flaky, cache_bytes=0)], batch_size=8, prefetch=prefetch
    )
    flaky.broken = True
    with pytest.raises(GraphError, match=r"structure 42 of data set 'flaky'.*disk gone"):
        list(loader)
    assert threads_end()


def test_leaving_early_leaves_no_threads(dataset):
    loader = BatchLoader([dataset], batch_size=4, epochs=50)
    batches = loader.batches()
    next(batches)
    assert loader_threads()
    batches.close()
    assert threads_end()
    for step, _ in loader:
        if step == 2:
            break
    assert threads_end()
