"""Sizes kept in a store: those of the graphs, measured once, for a part or the whole."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from atomjax.batching import store_sizes as module
from atomjax.batching.store_sizes import sizes_path, stored_table, work
from atomjax.graphs import GraphConfig
from atomjax.graphs.capacity import FIELDS, Sizes
from atomjax.graphs.config import limits_in_proportion
from atomjax.graphs.interactions import build_many
from atomjax.structures.store import Store, write_store

CONFIG = GraphConfig(cutoff=4.0, **limits_in_proportion(6))
EDGES = FIELDS.index("n_edge")


@pytest.fixture
def structures(molecule):
    return [molecule(3 + n % 5, seed=n) for n in range(11)]


@pytest.fixture
def store(structures, tmp_path) -> Store:
    return write_store(tmp_path / "store", structures, shard_size=4, precision="float64")


@pytest.fixture
def measured(monkeypatch) -> list[int]:
    """Workers as calls in this process, in small blocks; numbers of structures they told."""
    log: list[int] = []

    def run(_, requests, told):
        def tell(structures):
            log.append(structures)
            told({"structures": structures})

        monkeypatch.setattr(module, "tell", tell)
        for request in requests:
            work(request)

    monkeypatch.setattr(module, "run_workers", run)
    monkeypatch.setattr(module, "_BLOCK", 4)
    monkeypatch.setattr(module, "_CHUNK", 3)
    return log


def test_sizes_are_those_of_the_graphs_and_measured_once(store, structures, measured):
    expected = Sizes.measure(build_many(structures, CONFIG)).table
    found = stored_table(store, CONFIG, workers=2)
    np.testing.assert_array_equal(found, expected)
    assert sum(measured) == 11
    part = store[2:9].subset(np.array([4, 0]))
    np.testing.assert_array_equal(stored_table(part, CONFIG), expected)
    assert isinstance(found.base, np.memmap)
    assert sum(measured) == 11
    assert [path.name for path in (store.path / "sizes").iterdir()] == [
        sizes_path(store, CONFIG).name
    ]


def test_trainings_side_by_side_measure_once(store, structures, measured):
    together = threading.Barrier(2)

    def train(_: int) -> np.ndarray:
        together.wait()
        return stored_table(store, CONFIG)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(train, range(2)))
    expected = Sizes.measure(build_many(structures, CONFIG)).table
    np.testing.assert_array_equal(found, [expected, expected])
    assert sum(measured) == 11


def test_other_graphs_have_other_sizes(store, measured):
    wide = stored_table(store, dataclasses.replace(CONFIG, cutoff_molecule=9.0))
    near = stored_table(store, dataclasses.replace(CONFIG, cutoff_molecule=1.2))
    assert wide[:, EDGES].sum() > near[:, EDGES].sum()
    dropped = dataclasses.replace(CONFIG, edge_dropout=0.5)
    assert sizes_path(store, dropped) == sizes_path(store, CONFIG)
    assert sizes_path(store, dropped, 1) != sizes_path(store, dropped, 2)
    few = stored_table(store, dropped, seed=1)
    assert few[:, EDGES].sum() < stored_table(store, CONFIG)[:, EDGES].sum()


def test_what_was_interrupted_goes_on(store, measured, monkeypatch):
    build, calls = module.build_many, iter(range(100))

    def fail_at_the_fourth(*arguments):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return build(*arguments)

    monkeypatch.setattr(module, "build_many", fail_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        stored_table(store, CONFIG)
    stored_table(store, CONFIG)
    assert next(calls) == 7  # the first block's two calls are not made again


def test_a_worker_process_measures(store, structures):
    found = stored_table(store, CONFIG)
    expected = Sizes.measure(build_many(structures, CONFIG)).table
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("damage", ["bit", "another store", "cut"])
def test_a_damaged_table_is_measured_again(store, measured, damage):
    expected = np.array(stored_table(store, CONFIG))
    path = sizes_path(store, CONFIG)
    raw = bytearray(path.read_bytes())
    raw[150] ^= 4
    path.write_bytes(raw if damage == "bit" else raw[:150])
    if damage == "another store":
        np.save(path, np.zeros((3, len(FIELDS)), np.int32))
    with pytest.warns(UserWarning, match=r"sizes/.*npy .*delete it; sizes are then measured again"):
        found = stored_table(store, CONFIG)
    np.testing.assert_array_equal(found, expected)
    assert stored_table(store, CONFIG) is not None
