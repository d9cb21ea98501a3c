"""The similarity job through the command line, with sets of a few small structures."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from atomjax.config import ConfigError, load_config
from atomjax.launch import main
from atomjax.similarity.default_extractor import FOLDER, NAME, load_weights
from atomjax.similarity.settings import SimilaritySettings, plan_training
from atomjax.training.checkpoint import CheckpointError
from atomjax.training.settings import RunSettings, TrainSettings
from tests.training.workflow import MODEL, write_structures

ROOT = Path(__file__).resolve().parents[2]


def dataset(name: str, path: Path, **changes) -> dict:
    return {
        "name": name,
        "kind": "read",
        "path": str(path),
        "energy_unit": "eV",
        "length_unit": "Å",
        "energy_kind": "total",
        "graph": {"cutoff_molecule": 5.0, "max_neighbors": 6},
        **changes,
    }


def crowded(path: Path, count: int = 20) -> Path:
    """Structures unlike the chains: other elements, twice the atoms, other distances."""
    from ase import Atoms
    from ase.io import write

    rng = np.random.default_rng(7)
    frames = []
    for _ in range(count):
        grid = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), axis=-1).reshape(-1, 3)
        positions = 2.4 * grid + rng.normal(0, 0.05, grid.shape)
        frames.append(Atoms(rng.choice([13, 29], len(grid)), positions))
    write(path, frames, format="extxyz")
    return path


def make_config(folder: Path, **changes) -> dict:
    near = write_structures(folder / "near.extxyz", 24, seed=0)
    task = write_structures(folder / "task.extxyz", 20, seed=1)
    far = dataset("far", crowded(folder / "far.extxyz"), energy_kind="none")
    return {
        "workflow": "csi",
        "candidates": [far, dataset("near", near, split={"validation": 4})],
        "downstream": [dataset("task", task)],
        "extractor": {"batch_size": 10},
        "sampling": {"strategy": "random", "size": 16},
        "aggregations": ["flat", "mean"],
        "resamples": 30,
        "plan": {
            "model": MODEL,
            "budget": 40,
            "train": {"batch_size": 5, "epochs": 3, "scale_factor_batches": 2},
        },
        **changes,
    }


def launch(folder: Path, config: dict, *arguments: str) -> int:
    file = folder / "config.py"
    file.write_text(f"def get_config():\n    return {config!r}\n")
    # The tests' own cache of compiled programs is kept, whatever the workdir.
    return main([f"--config={file}", f"--workdir={folder / 'run'}", *arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("csi")
    assert launch(folder, make_config(folder)) == 0
    return folder


def test_job_recommends_the_set_that_is_like_the_task(finished):
    summary = json.loads((finished / "run" / "csi.json").read_text())
    (choice,) = summary["recommendations"]
    assert choice["ranking"] == ["near", "far"]
    assert choice["confidence"] == 1.0
    assert choice["clear"]
    assert not choice["outside"]
    report = (finished / "run" / "report.md").read_text()
    assert "For task, pretrain on near" in report
    assert "never seen: H, C, O" in report
    for name in ("bars", "heat_map", "map", "elements"):
        assert (finished / "run" / "plots" / f"{name}.png").stat().st_size > 0


def test_table_is_consistent(finished):
    with (finished / "run" / "csi.csv").open() as file:
        rows = {row["upstream"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"near", "far"}
    for row in rows.values():
        total = float(row["mean_term"]) + float(row["covariance_term"])
        assert float(row["csi"]) == pytest.approx(total, rel=1e-9)
        assert float(row["lower"]) < float(row["upper"])
        assert int(row["structures"]) == 16
    assert float(rows["far"]["unseen_share"]) == 1.0
    assert math.isnan(float(rows["far"]["within_elements"]))
    assert float(rows["near"]["unseen_share"]) == 0.0
    summary = json.loads((finished / "run" / "csi.json").read_text())
    mixed = summary["mixtures"]["mixture, balanced"]["task"]
    assert float(rows["near"]["csi"]) < mixed < float(rows["far"]["csi"])
    variants = [key for key in rows["near"] if key.startswith("csi_")]
    assert variants == ["csi_flat-norms", "csi_mean", "csi_mean-norms"]


def test_implied_config_runs_and_keeps_the_budget(finished):
    path = finished / "run" / "pretrain_task.py"
    settings = RunSettings.from_config(load_config(path))
    assert settings.data.train[0].name == "near"
    # 40 samples: 13 structures allow the 3 epochs asked for.
    assert (settings.train.epochs, settings.train.max_structures) == (3, 13)
    assert settings.train.budget == 39
    assert main([f"--config={path}", "--validate"]) == 0


def test_second_run_extracts_only_what_is_new(finished, tmp_path, capfd):
    for name in ("run", "near.extxyz", "far.extxyz", "task.extxyz"):
        copy = shutil.copytree if (finished / name).is_dir() else shutil.copy2
        copy(finished / name, tmp_path / name)
    before = json.loads((tmp_path / "run" / "csi.json").read_text())
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    capfd.readouterr()
    assert launch(tmp_path, config) == 0
    assert capfd.readouterr().out.count("features of an earlier run") == 3
    assert json.loads((tmp_path / "run" / "csi.json").read_text()) == before
    config["sampling"]["size"] = 12
    config["downstream"][0]["path"] = config["candidates"][1]["path"]
    assert launch(tmp_path, config, "--accept-changes") == 0
    assert "earlier run" not in capfd.readouterr().out


def test_default_extractor_is_small_and_says_how_it_was_made():
    variables, metadata = load_weights()
    assert (FOLDER / f"{NAME}.npz").stat().st_size < 5 * 2**20
    leaves = []
    for collection in variables.values():
        stack = [collection]
        while stack:
            node = stack.pop()
            if isinstance(node, dict):
                stack.extend(node.values())
            else:
                leaves.append(node)
    assert sum(leaf.size for leaf in leaves) == metadata["parameters"] > 100_000
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert metadata["seed"] == 0
    assert 0 < metadata["validation"]["slabs"]["force_mae_mev_per_angstrom"] < 100
    config = load_config(ROOT / "configs" / "csi" / "extractor.py")
    for key, value in config["model"]["overrides"].items():
        assert metadata["model"][key] == value


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=rf"{NAME}\.npz is missing; install atomjax again"):
        load_weights(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"downstream": []}, "downstream is empty"),
        ({"invariants": []}, "invariants is empty"),
        ({"workflow": "study"}, "takes its task from finetune.data"),
        ({"resamples": 1}, "give no interval"),
        ({"sampling": {"size": 3}}, "size=3 must be at least 4"),
        ({"plan": {"budget": 2}}, "budget=2 samples are less than one structure"),
        ({"plan": {"train": {"batch_size": 1, "epochs": 1, "budget": 5}}}, "set plan.budget"),
    ],
)
def test_contradictions_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        SimilaritySettings.from_config(make_config(tmp_path, **changes))


def test_names_must_differ(tmp_path):
    config = make_config(tmp_path)
    config["downstream"][0]["name"] = "near"
    with pytest.raises(ConfigError, match="two data sets share a name: near"):
        SimilaritySettings.from_config(config)


def test_sample_larger_than_the_set_is_explained(tmp_path, capfd):
    config = make_config(tmp_path, sampling={"strategy": "random", "size": 21})
    assert launch(tmp_path, config) == 2
    assert "sampling of data set 'far': cannot draw 21 distinct" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("budget", "available", "expected"),
    [(None, 70, (5, 70)), (100, 70, (5, 20)), (1000, 70, (14, 70)), (5, 70, (5, 1))],
)
def test_budget_is_spent_on_structures_before_epochs(budget, available, expected):
    train = plan_training(TrainSettings(batch_size=4, epochs=5), budget, available)
    assert (train.epochs, train.max_structures) == expected
    assert train.budget == math.prod(expected)


@pytest.mark.parametrize("name", ["csi/quickstart.py", "quickstart.py"])
def test_shipped_configs_are_valid(name):
    pytest.importorskip("tblite", reason="the sets are labelled with tblite (extra demo)")
    assert main([f"--config={ROOT / 'configs' / name}", "--validate"]) == 0
