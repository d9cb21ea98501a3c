"""The similarity job through the command line, with sets of a few small structures."""

import csv
import json
import math
import re
import shutil
from pathlib import Path

import ase.build
import jax
import numpy as np
import pytest
from ase.io import write
from rich.console import Console

from atomjax.data.settings import DatasetSettings
from atomjax.data.store_view import open_store
from atomjax.graphs import pack_structures
from atomjax.launch import main
from atomjax.models import HeadConfig, build_model, find_backbone, init_variables
from atomjax.runtime.config import ConfigError, load_config
from atomjax.runtime.run import Run
from atomjax.similarity.features.cache import SetExtractor
from atomjax.similarity.features.extractor import load_extractor
from atomjax.similarity.features.sampling import class_codes, sample
from atomjax.similarity.settings import SimilaritySettings, plan_training
from atomjax.similarity.workflow.selection_job import write_choice
from atomjax.structures import Structure
from atomjax.structures.readers import read
from atomjax.training.running.checkpoint import save_converted
from atomjax.training.settings import RunSettings
from tests.training.sections import train_section, train_settings
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
    batch = pack_structures([water], find_backbone(MODEL_CONFIG).graph)
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
            "train": train_section(batch_size=5, epochs=3, scale_factor_batches=2),
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
    assert re.search(r"\(`csi`; small is near\).*; [\d.e-]+ s, without the features\.\n", report)
    assert "For task, pretrain on near" in report
    assert "never seen: H, C, O" in report
    figures = ["bars", "heat_map", "map", "elements", "coverage", "embeddings", "orientation_task"]
    for name in figures:
        assert f"(plots/{name}.png)" in report
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
    assert {row["unit"] for row in rows.values()} == {"class"}
    assert rows["far"]["distinguishable"] == "True"
    assert float(rows["far"]["csi"]) > float(rows["far"]["noise_floor"]) > 0
    summary = json.loads((finished / "run" / "csi.json").read_text())
    assert {s["name"]: s["unit"] for s in summary["sets"]} == dict.fromkeys(
        ("far", "near", "task"), "class"
    )
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


def test_a_choice_made_again_replaces_the_store(finished, tmp_path):
    for name in ("run", "near.extxyz", "far.extxyz", "task.extxyz", "gemnet"):
        copy = shutil.copytree if (finished / name).is_dir() else shutil.copy2
        copy(finished / name, tmp_path / name)
    run = Run(tmp_path / "run")
    molecules = read(tmp_path / "near.extxyz", length_unit="Å", energy_unit="eV")
    folder = tmp_path / "run" / "selected" / "task"

    def broken():
        yield molecules[0]
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_choice(run, "selected/task", broken(), "greedy", "near")
    assert len(open_store("chosen", str(folder))) == 6
    write_choice(run, "selected/task", molecules[:3], "greedy", "near")
    assert len(open_store("chosen", str(folder))) == 3
    assert [p.name for p in folder.parent.iterdir()] == ["task"]


def copper(path: Path, seed: int, count: int = 15) -> Path:
    """Strained and rattled cells of one distribution."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        atoms = ase.build.bulk("Cu", cubic=True)
        strain = rng.normal(0, 0.03, (3, 3))
        atoms.set_cell(atoms.cell @ (np.eye(3) + strain + strain.T), scale_atoms=True)
        atoms.positions += rng.normal(0, 0.08, atoms.positions.shape)
        frames.append(atoms)
    write(path, frames, format="extxyz")
    return path


def test_sets_of_one_distribution_are_not_told_apart(tmp_path):
    sets = {
        name: dataset(name, copper(tmp_path / f"cu_{name}.extxyz", seed), energy_kind="none")
        for seed, name in enumerate(("a", "b", "task"))
    }
    config = make_config(tmp_path, resamples=60, aggregations=["flat"], invariants=["none"])
    # The default draws 10,000 with repetition from each 15.
    config["sampling"] = {}
    config["candidates"], config["downstream"] = [sets["a"], sets["b"]], [sets["task"]]
    assert launch(tmp_path, config) == 0
    summary = json.loads((tmp_path / "run" / "csi.json").read_text())
    (choice,) = summary["recommendations"]
    assert not choice["clear"]
    assert not choice["resolved"]
    assert len(choice["rivals"]) == 1
    for pair in summary["pairs"]:
        assert (pair["structures"], pair["unit"], pair["units"]) == (15, "structure", 15)
        assert not pair["distinguishable"]
        assert pair["lower"] == 0 <= pair["upper"]
    report = (tmp_path / "run" / "report.md").read_text()
    assert "cannot tell between" in report
    assert "What would decide" in report
    assert "Fewer structures than features" in report
    assert "15 structures" in report


def test_a_task_far_from_all_candidates_is_said_to_be(tmp_path, capfd):
    rng = np.random.default_rng(3)
    water = ase.build.molecule("H2O")
    frames = [water.copy() for _ in range(15)]
    for frame in frames:
        frame.positions += rng.normal(0, 0.02, (3, 3))
    write(tmp_path / "water.extxyz", frames, format="extxyz")
    config = make_config(tmp_path, resamples=20, aggregations=["flat"], invariants=["none"])
    config["sampling"] = {"strategy": "random", "size": 15}
    copper_set = dataset("copper", copper(tmp_path / "copper.extxyz", 0), energy_kind="none")
    config["candidates"] = [copper_set]
    config["downstream"] = [dataset("water", tmp_path / "water.extxyz", energy_kind="none")]
    assert launch(tmp_path, config) == 0
    (choice,) = json.loads((tmp_path / "run" / "csi.json").read_text())["recommendations"]
    assert choice["outside"] is True
    assert "lies outside all candidates" in capfd.readouterr().out


def test_repetition_of_the_original_is_a_weight(tmp_path):
    config = make_config(tmp_path, aggregations=["flat"], invariants=["none"], resamples=10)
    config["sampling"] = {"strategy": "balanced", "size": 30}
    config["extractor"]["conventions"] = "efficient_atom"
    settings = SimilaritySettings.from_config(config)
    extractor = load_extractor(settings.extractor)
    sets = SetExtractor(settings, extractor, Run(tmp_path / "run", console=Console(quiet=True)))
    # Its structures in the order of the file stand for a task; those of a candidate may repeat.
    dataset = settings.candidates[1]
    made = sets.extract(dataset).features
    structures = sets.load(dataset)
    codes, _ = class_codes([s.class_key for s in structures])
    indices = sample(codes, 30)
    counted = np.bincount(indices, minlength=len(structures))
    assert counted.max() > 1
    assert made.num_structures == (counted > 0).sum() < made.weight == 30
    atoms = np.array([len(s) for s in structures])
    assert float(made.statistics().total) == atoms[indices].sum()
    assert int(made.statistics().count) == atoms[counted > 0].sum() == made.num_atoms


@pytest.mark.slow
def test_sets_can_be_stores(finished, tmp_path, capfd):
    chosen = finished / "run" / "selected" / "task"
    config = make_config(tmp_path, resamples=10, aggregations=["flat"], invariants=["none"])
    config["candidates"][0] = {"name": "far", "kind": "store", "path": str(chosen)}
    config["sampling"]["size"] = 6
    assert launch(tmp_path, config) == 0
    summary = json.loads((tmp_path / "run" / "csi.json").read_text())
    assert summary["available"] == {"far": 6, "near": 20}
    (path,) = tmp_path.glob("run/features/near-*/rows.npz")
    damaged = bytearray(path.read_bytes())
    damaged[200] ^= 1
    path.write_bytes(damaged)
    assert launch(tmp_path, config) == 0
    printed = " ".join(capfd.readouterr().out.split())
    assert printed.count("features of an earlier run") == 3
    assert "rows.npz is damaged: it does not match its checksum" in printed
    assert json.loads((tmp_path / "run" / "csi.json").read_text()) == summary


def test_implied_config_runs_and_keeps_the_budget(finished):
    path = finished / "run" / "pretrain_task.py"
    settings = RunSettings.from_config(load_config(path))
    assert settings.data.train[0].name == "near"
    # 40 samples: 13 structures allow the 3 epochs asked for.
    assert (settings.train.epochs, settings.train.max_structures) == (3, 13)
    assert settings.train.budget == 39
    assert main([f"--config={path}", "--validate"]) == 0


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"downstream": []}, "downstream is empty"),
        ({"invariants": []}, "invariants is empty"),
        ({"workflow": "study"}, "takes its task from finetuning.data"),
        ({"resamples": 1}, "give no interval"),
        ({"sampling": {"size": 3}}, "size=3 must be at least 4"),
        ({"plan": {"budget": 2}}, "budget=2 samples are less than one structure"),
        ({"plan": {"train": train_section(batch_size=1, epochs=1, budget=5)}}, "set plan.budget"),
    ],
)
def test_contradictions_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        SimilaritySettings.from_config(make_config(tmp_path, **changes))


def test_labels_that_are_not_read_need_no_declaration(tmp_path, capsys):
    config = make_config(tmp_path)
    for one in (*config["candidates"], *config["downstream"]):
        del one["energy_unit"], one["energy_kind"]
    assert launch(tmp_path, config, "--validate") == 0
    assert "near: the pretraining implied has to declare its energy_unit and energy_kind" in (
        capsys.readouterr().out
    )
    # A selection writes structures with their labels, whatever these mean.
    assert launch(tmp_path, {**config, "select": {"size": 6}}, "--validate") != 0
    assert "says its energy_unit; add energy_unit=..." in " ".join(capsys.readouterr().err.split())


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
    train = plan_training(train_settings(batch_size=4, epochs=5), budget, available)
    assert (train.epochs, train.max_structures) == expected
    assert train.budget == math.prod(expected)


@pytest.mark.parametrize("name", ["csi/quickstart.py", "quickstart.py"])
def test_shipped_configs_are_valid(name):
    pytest.importorskip("tblite", reason="the sets are labelled with tblite (extra demo)")
    assert main([f"--config={ROOT / 'configs' / name}", "--validate"]) == 0
