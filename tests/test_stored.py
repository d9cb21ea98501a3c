"""Training on a store: the batches of a list, and memory that does not grow with the set."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from atomjax.batching import BatchLoader
from atomjax.data.load import load_datasets
from atomjax.data.settings import DatasetSettings, DataSettings
from atomjax.data.store_view import StoredDataset
from atomjax.runtime.config import ConfigError, build
from atomjax.runtime.run import Run
from atomjax.structures import Structure, split_indices
from atomjax.structures.readers import read
from atomjax.structures.store import Store, write_store
from atomjax.training.pretrain import pretrain
from atomjax.training.settings import RunSettings
from tests.training.workflow import make_config, write_structures

ROOT = Path(__file__).resolve().parent.parent
GRAPH = {"cutoff_molecule": 5.0, "max_neighbors": 6}


@pytest.fixture(scope="module")
def chains(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chains")
    structures = read(write_structures(folder / "chains.xyz", count=30), energy_unit="eV")
    write_store(folder / "store", structures, precision="float64", shard_size=16)
    return folder


def settings(folder: Path, kind: str, **split) -> DataSettings:
    entry = {"name": "chains", "kind": kind, "graph": GRAPH}
    if kind == "store":
        entry["path"] = str(folder / "store")
    else:
        units = {"energy_unit": "eV", "length_unit": "Å", "energy_kind": "total"}
        entry.update(path=str(folder / "chains.xyz"), **units)
    if split:
        entry["split"] = split
    return build(DataSettings, {"train": [entry], "workers": 1})


@pytest.mark.parametrize("by", ["structure", "class_key"])
def test_batches_are_those_of_the_list(chains, tmp_path, by):
    split = {"validation": 8, "test": 4, "by": by}
    run = Run(tmp_path)
    listed = load_datasets(settings(chains, "read", **split), run)
    stored = load_datasets(settings(chains, "store", **split), run)
    (kept,) = stored.train
    assert isinstance(kept, StoredDataset)
    assert isinstance(stored.validation[0].structures, Store)
    a, b = listed.references[0], stored.references[0]
    np.testing.assert_allclose(a.element_energies, b.element_energies, rtol=1e-9, atol=1e-12)
    loaders = [
        BatchLoader(splits.train, batch_size=5, epochs=2, prefetch=2) for splits in (listed, stored)
    ]
    assert loaders[0].capacities == loaders[1].capacities
    for (_, first), (_, second) in zip(*loaders, strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), first, second)


def test_subsets_and_edge_dropout(chains, tmp_path):
    splits = load_datasets(
        settings(chains, "store"), Run(tmp_path), max_structures=12, edge_dropout=0.3
    )
    (train,) = splits.train
    assert len(train) == 12
    full, drawn = train.sizes, train.size_table(0).everything()
    assert drawn.column("n_edge").sum() < full.column("n_edge").sum()
    assert len(list(BatchLoader([train], batch_size=4))) == 3


def test_a_run_trains_on_a_store(chains, tmp_path):
    config = make_config(chains, epochs=1)
    entry = {"name": "chains", "kind": "store", "path": str(chains / "store"), "graph": GRAPH}
    config["data"]["train"] = [{**entry, "split": {"validation": 6, "test": 6}}]
    run_settings = RunSettings.from_config(config)
    results = pretrain(run_settings, Run(tmp_path / "run", run_settings))
    assert results["structures"] == 18
    assert np.isfinite(results["test"]["chains"]["energy_mae_mev"])


def test_what_a_store_decides_is_not_declared(tmp_path):
    entry = {"name": "set", "kind": "store", "path": str(tmp_path)}
    with pytest.raises(ConfigError, match="energy_unit must be left out"):
        build(DatasetSettings, {**entry, "energy_unit": "Ha"})
    with pytest.raises(ConfigError, match="defines no split of its own"):
        build(DatasetSettings, {**entry, "split": {"by": "official"}})
    with pytest.raises(ConfigError, match="does not declare path"):
        build(DatasetSettings, {**entry, "path": None})
    with pytest.raises(ConfigError, match=r"dataset .set.: .* not finished"):
        load_datasets(build(DataSettings, {"train": [entry]}), Run(tmp_path / "run"))


def test_a_split_by_class_needs_no_structure(chains, monkeypatch):
    store = Store(chains / "store")
    expected = split_indices(list(store), {"test": 5, "train": None}, by="class_key")
    monkeypatch.setattr(Store, "__getitem__", None)
    found = split_indices(store, {"test": 5, "train": None}, by="class_key")
    assert all((found[part] == expected[part]).all() for part in expected)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_set(tmp_path):
    """An epoch over 200,000 structures needs hardly more memory than one over 20,000."""
    rng = np.random.default_rng(0)
    atoms = {"atomic_numbers": [8, 1, 1], "energy": -1.0, "forces": np.zeros((3, 3))}
    places = np.diag([1.0, 2.0, 3.0]) + rng.normal(scale=0.1, size=(100, 3, 3))
    water = [Structure(positions=positions, **atoms) for positions in places]
    needed = []
    for count in (20_000, 200_000):
        write_store(tmp_path / str(count), (water[i % 100] for i in range(count)))
        command = [sys.executable, "-c", EPOCH, str(tmp_path / str(count))]
        needed.append(int(subprocess.check_output(command, cwd=ROOT)))
    # 85 bytes a structure are mapped, and windows have an end; as objects a structure takes 2 kB.
    assert needed[1] - needed[0] < 180_000 * 600


EPOCH = """
import os
import sys
from pathlib import Path
from rich.console import Console
from atomjax.batching import BatchLoader
from atomjax.graphs import GraphConfig
from atomjax.graphs.config import limits_in_proportion
from atomjax.runtime.run import Run
from atomjax.data.store_view import StoredDataset
from atomjax.structures.store import Store

store = Store(sys.argv[1])
run = Run(Path(sys.argv[1]) / "run", console=Console(file=open(os.devnull, "w")))
graph = GraphConfig(cutoff=5.0, **limits_in_proportion(4))
data = StoredDataset("set", store, graph, run=run, workers=2, references=store.references())
for step, batch in BatchLoader([data], batch_size=500):
    pass
lines = Path("/proc/self/status").read_text().splitlines()
print(1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))))
"""
