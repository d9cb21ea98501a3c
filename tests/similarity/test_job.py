"""The similarity job through the command line, with sets of a few small structures."""

import csv
import json
import math
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from atomjax.data.settings import DatasetSettings
from atomjax.data.store_view import open_store
from atomjax.graphs import pack_structures
from atomjax.launch import main
from atomjax.models import HeadConfig, build_model, default_graph, init_variables
from atomjax.runtime.config import ConfigError, load_config
from atomjax.similarity.features.default import FOLDER, NAME, load_weights
from atomjax.similarity.settings import SimilaritySettings, plan_training
from atomjax.structures import Structure
from atomjax.structures.readers import read
from atomjax.training.running.checkpoint import CheckpointError, save_converted
from atomjax.training.settings import RunSettings, TrainSettings
from tests.training.workflow import MODEL, write_structures

ROOT = Path(__file__).resolve().parents[2]
MODEL_CONFIG = {"name": MODEL["name"], **MODEL["overrides"]}


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


def gemnet_checkpoint(folder: Path) -> Path:
    """An untrained GemNet-OC in the form of a converted checkpoint."""
    head = HeadConfig(name="any", kind="energy")
    model = build_model(MODEL_CONFIG, [head])
    water = Structure(
        atomic_numbers=np.array([8, 1, 1]),
        positions=np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.2]]),
    )
    batch = pack_structures([water], default_graph(MODEL_CONFIG))
    variables = init_variables(model, jax.random.key(0), batch)
    weights = jax.tree.map(np.asarray, {"backbone": variables["params"]["backbone"]})
    factors = jax.tree.map(np.ones_like, {"backbone": variables["scale_factors"]["backbone"]})
    save_converted(folder, weights, weights, factors, {"model": MODEL_CONFIG, "step": 1})
    return folder


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
    gemnet = gemnet_checkpoint(folder / "gemnet")
    graph = {"cutoff_molecule": 5.0, "max_neighbors": 6}
    views = {
        "strategies": ["balanced"],
        "extractors": [{"checkpoint": str(gemnet), "graph": graph, "batch_size": 10}],
        "rotations": 1,
    }
    assert launch(folder, make_config(folder, views=views, select={"size": 6})) == 0
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
    figures = ["bars", "heat_map", "map", "elements", "coverage", "embeddings", "orientation_task"]
    for name in figures:
        assert f"![plots/{name}.png]" in report
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
    assert variants == [
        "csi_flat-norms",
        "csi_mean",
        "csi_mean-norms",
        "csi_balanced sample",
        "csi_backbone gemnet_oc_tiny",
    ]
    # Every view agrees on so plain a case.
    for key in variants:
        assert float(rows["near"][key]) < float(rows["far"][key])


def test_rotations_move_the_published_distance_alone(finished):
    summary = json.loads((finished / "run" / "csi.json").read_text())
    for by_kind in summary["orientation"]["task"].values():
        change = {kind: test["rotated"][0] / test["stored"] - 1 for kind, test in by_kind.items()}
        assert set(change) == {"flat", "flat-norms"}
        assert abs(change["flat-norms"]) < 1e-2 * abs(change["flat"])
    assert "turning the structures of a candidate" in (finished / "run" / "report.md").read_text()


def test_chosen_structures_lower_the_distance_and_can_be_trained_on(finished):
    summary = json.loads((finished / "run" / "csi.json").read_text())
    (choice,) = summary["selections"]
    assert (choice["candidate"], choice["size"], choice["available"]) == ("near", 6, 20)
    assert choice["chosen"] < choice["drawn"]
    settings = DatasetSettings(
        name="chosen", kind="store", path=str(finished / "run" / choice["path"])
    )
    stored = open_store(settings.name, settings.path)
    assert len(stored) == 6
    source = read(finished / "near.extxyz", length_unit="Å", energy_unit="eV")
    energies = {round(float(s.energy), 9) for s in source if s.energy is not None}
    assert {round(float(s.energy), 9) for s in stored if s.energy is not None} <= energies
    assert all(s.forces is not None for s in stored)


def test_sets_can_be_stores(finished, tmp_path, capfd):
    chosen = finished / "run" / "selected" / "task"
    config = make_config(tmp_path, resamples=10, aggregations=["flat"], invariants=["none"])
    config["candidates"][0] = {"name": "far", "kind": "store", "path": str(chosen)}
    config["sampling"]["size"] = 6
    assert launch(tmp_path, config) == 0
    summary = json.loads((tmp_path / "run" / "csi.json").read_text())
    assert summary["available"] == {"far": 6, "near": 20}
    assert launch(tmp_path, config) == 0
    assert capfd.readouterr().out.count("features of an earlier run") == 3


def test_implied_config_runs_and_keeps_the_budget(finished):
    path = finished / "run" / "pretrain_task.py"
    settings = RunSettings.from_config(load_config(path))
    assert settings.data.train[0].name == "near"
    # 40 samples: 13 structures allow the 3 epochs asked for.
    assert (settings.train.epochs, settings.train.max_structures) == (3, 13)
    assert settings.train.budget == 39
    assert main([f"--config={path}", "--validate"]) == 0


def test_second_run_extracts_only_what_is_new(finished, tmp_path, capfd):
    for name in ("run", "near.extxyz", "far.extxyz", "task.extxyz", "gemnet"):
        copy = shutil.copytree if (finished / name).is_dir() else shutil.copy2
        copy(finished / name, tmp_path / name)
    before = json.loads((tmp_path / "run" / "csi.json").read_text())
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    capfd.readouterr()
    assert launch(tmp_path, config) == 0
    # Three sets of three views, two of them rotated, one as a whole.
    assert capfd.readouterr().out.count("features of an earlier run") == 3 * 3 + 2 + 1
    again = json.loads((tmp_path / "run" / "csi.json").read_text())
    for summary in (before, again):
        for selection in summary["selections"]:
            del selection["extraction_seconds"], selection["selection_seconds"]
    assert again == before
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
