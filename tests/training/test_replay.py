"""Replay: shares of every batch, the head that goes on, and labels by the checkpoint."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atomjax.batching import BatchLoader, GraphDataset, epochs
from atomjax.models import HeadConfig
from atomjax.runtime.config import ConfigError, build
from atomjax.runtime.run import Run
from atomjax.structures.readers import read
from atomjax.structures.store import Store
from atomjax.training.finetune import finetune
from atomjax.training.replay import Replay, find_replay
from atomjax.training.running.checkpoint import load_checkpoint, read_metadata
from atomjax.training.running.leaves import flatten
from atomjax.training.settings import ReplaySettings, RunSettings
from tests.training.workflow import make_config, run_here, write_structures

STILL = {"learning_rate": 1e-30, "weight_decay": 0.0}


@pytest.fixture(scope="module")
def structures(tmp_path_factory) -> Path:
    return write_structures(tmp_path_factory.mktemp("data") / "chains.xyz")


@pytest.fixture(scope="module")
def source(structures, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    workdir = tmp_path_factory.mktemp("source") / "run"
    return workdir, run_here(workdir, structures, epochs=2)


def replayed(structures: Path, source: Path, workdir: Path, replay: Any, **train: Any) -> Any:
    config = make_config(structures, **{"epochs": 2, **train})
    (task,) = config["data"]["train"]
    upstream = {**task, "split": {"test": 8}}
    task |= {"name": "task", "split": {"train": 10, "validation": 8, "test": 4, "seed": 1}}
    config["data"]["cache_dir"] = str(workdir.parent / "cache")
    replay = {"dataset": upstream, **replay}
    start = {"checkpoint": str(source), "replay": replay}
    settings = RunSettings.from_config({**config, "workflow": "finetune", "finetune": start})
    return finetune(settings, Run(workdir, settings))


def members(loader: BatchLoader) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Data set and number of each structure, batch by batch."""
    for _, batch in loader:
        real = batch.targets.structure[0] >= 0
        dataset, structure = batch.targets.dataset[0], batch.targets.structure[0]
        yield np.asarray(dataset)[real], np.asarray(structure)[real]


def test_every_batch_holds_the_share_of_each_group(structures) -> None:
    all_of_them = read(structures, energy_unit="eV")
    parts = [GraphDataset("task", all_of_them[:13]), GraphDataset("upstream", all_of_them[13:])]
    loader = BatchLoader(
        parts, batch_size=6, epochs=3, samples=[13, 4 * 2], strata=[0, 1], seed=2, prefetch=0
    )
    assert loader.steps_per_epoch == 4
    seen: dict[int, list[int]] = {0: [], 1: []}
    for dataset, structure in members(loader):
        assert (dataset == 1).sum() == 2
        assert (dataset == 0).sum() in (3, 4)
        for d in (0, 1):
            seen[d] += structure[dataset == d].tolist()
    assert sorted(seen[0]) == sorted(3 * list(range(13)))
    assert len(set(seen[1])) == 24, "the upstream set is gone through in turn"


def test_every_batch_holds_its_share_in_epochs_of_several_windows(structures, monkeypatch) -> None:
    monkeypatch.setattr(epochs, "WINDOW", 30)
    all_of_them = read(structures, energy_unit="eV")
    parts = [GraphDataset("task", all_of_them[:13]), GraphDataset("upstream", all_of_them[13:])]
    # 41 batches of two windows or more, all but some with 4 of the task and 1 of upstream.
    loader = BatchLoader(
        parts, batch_size=5, epochs=2, samples=[161, 41], strata=[0, 1], seed=3, prefetch=0
    )
    seen: dict[int, list[int]] = {0: [], 1: []}
    for dataset, structure in members(loader):
        assert (dataset == 1).sum() == 1
        assert (dataset == 0).sum() in (3, 4)
        for d in (0, 1):
            seen[d] += structure[dataset == d].tolist()
    assert len(seen[0]) == 2 * 161
    assert max(np.bincount(seen[0])) - min(np.bincount(seen[0])) <= 1


def test_a_part_of_the_upstream_set_alone_has_the_properties_of_the_task_masked(structures) -> None:
    upstream = GraphDataset("upstream", read(structures, energy_unit="eV")[:2], index=1)
    loader = BatchLoader([upstream], batch_size=2, prefetch=0, property_names=["gap"])
    (batch,) = (batch for _, batch in loader.batches())
    assert not batch.targets.property_masks["gap"].any()


@pytest.mark.parametrize(
    ("share", "batch_size", "message"),
    [
        (0.1, 5, r"0.5 structures, none of every batch; write share=0.2 or raise .* to 6$"),
        (0.9, 4, r"3.6 structures, all of every batch; write share=0.75 or raise .* to 6$"),
        (1.0, 4, r"4 structures, all of every batch; write share=0.75$"),
    ],
)
def test_a_share_does_not_vanish_by_rounding(share, batch_size, message) -> None:
    dataset = {"name": "a", "kind": "generate", "generator": "conformers"}
    settings = build(ReplaySettings, {"dataset": dataset, "share": share})
    nothing: dict[str, Any] = {"graph": None, "backbone": {}, "references": None}
    replay = Replay(settings=settings, source="a", head=HeadConfig(name="a"), **nothing)
    with pytest.raises(ConfigError, match=message):
        replay.per_batch(batch_size)
    if share < 1:
        assert replay.per_batch(20) == 20 * share


def test_the_upstream_head_goes_on_and_is_tested(structures, source, tmp_path) -> None:
    workdir, before = source
    results = replayed(structures, workdir, tmp_path / "run", {"share": 0.5}, **STILL)
    assert results["test"].keys() == {"chains", "task"}
    assert results["validation"].keys() == {"task"}, "the task chooses the weights"
    for metric, value in before["test"]["chains"].items():
        assert results["test"]["chains"][metric] == pytest.approx(value, rel=1e-5, abs=1e-6)
    assert results["structures"] == 10
    # 10 structures, three a step beside three that are replayed, for two epochs.
    assert results["steps"] == 2 * 4
    assert results["budget"] == 2 * (10 + 4 * 3)
    metadata = read_metadata(tmp_path / "run")
    assert [head["name"] for head in metadata["heads"]] == ["task", "chains"]
    stored = {name: one["references"] for name, one in metadata["datasets"].items()}
    assert stored["chains"] == read_metadata(workdir)["datasets"]["chains"]["references"]
    assert stored["chains"] != stored["task"]
    # A finished run is not trained again, and finds its own head under its own name.
    again = replayed(structures, workdir, tmp_path / "run", {"share": 0.5}, **STILL)
    assert again["test"] == results["test"]


def test_without_a_share_the_upstream_set_is_tested_alone(structures, source, tmp_path) -> None:
    results = replayed(structures, source[0], tmp_path / "run", {"share": 0.0})
    assert results["steps"] == 2 * 2
    assert results["test"]["chains"] != source[1]["test"]["chains"], "it is forgotten a little"
    weights = [flatten(load_checkpoint(run)[0]) for run in (source[0], tmp_path / "run")]
    assert read_metadata(tmp_path / "run")["graphs"].keys() == {"task", "chains"}
    kept = [path for path in weights[1] if path.startswith("params/head_chains/")]
    assert len(kept) > 5
    for path in kept:
        np.testing.assert_array_equal(weights[0][path], weights[1][path])
    # As many steps in this process, and the head is trained: another function.
    results = replayed(structures, source[0], tmp_path / "trained", {"share": 1 / 6})
    assert results["steps"] == 2 * 2
    trained = flatten(load_checkpoint(tmp_path / "trained")[0])
    assert any(not np.array_equal(weights[0][path], trained[path]) for path in kept)


def test_labels_by_the_checkpoint_are_made_once(structures, source, tmp_path) -> None:
    # Under another name, which the head then has in the checkpoints of this training.
    (upstream,) = make_config(structures)["data"]["train"]
    upstream |= {"name": "before", "split": {"test": 8}}
    replay = {"share": 0.5, "labels": "checkpoint", "head_from": "chains", "dataset": upstream}
    results = replayed(structures, source[0], tmp_path / "run", replay, **STILL)
    errors = results["test"]["before"]
    assert errors["energy_mae_mev"] < 0.1
    assert errors["force_mae_mev_per_angstrom"] < 0.1
    stores = sorted((tmp_path / "cache").glob("before-predicted-*"))
    assert [len(Store(path)) for path in stores] in ([8, 32], [32, 8])
    times = [path.stat().st_mtime_ns for path in stores]
    for workdir in ("run", "again"):
        again = replayed(structures, source[0], tmp_path / workdir, replay, **STILL)
        assert again["test"]["before"] == errors
    assert sorted((tmp_path / "cache").glob("before-predicted-*")) == stores
    assert [path.stat().st_mtime_ns for path in stores] == times


def test_a_head_that_is_not_there_is_named(structures, source, tmp_path) -> None:
    metadata = read_metadata(source[0])
    dataset = {"name": "upstream", "kind": "store", "path": "nowhere"}
    wrong = build(ReplaySettings, {"dataset": dataset, "head_from": "chain"})
    with pytest.raises(ConfigError, match=r"has the heads chains; name.*Did you mean 'chains'"):
        find_replay(wrong, metadata, resumed=False)
    found = find_replay(build(ReplaySettings, {"dataset": dataset}), metadata, resumed=False)
    assert (found.source, found.head.name) == ("chains", "upstream")
    assert found.references.to_dict() == metadata["datasets"]["chains"]["references"]
    start = {"workflow": "finetune", "finetune": {"replay": {"dataset": dataset}}}
    settings = RunSettings.from_config({**make_config(structures), **start})
    with pytest.raises(ConfigError, match="keeps the head of a pretrained model"):
        finetune(settings, Run(tmp_path / "run", settings))
