"""Reports of single trainings, from what their directories hold."""

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from atomjax.runtime.run import Run
from atomjax.studies.engine import TRAININGS
from atomjax.studies.joined import MOST_SETTINGS, join_reports
from atomjax.studies.results import ReportError
from atomjax.studies.single import describe_training, finetune
from tests.studies.trainings import FORCE


def training(folder: Path, error: float, **settings) -> Run:
    """A directory as a training leaves it, of whose report nothing is known."""
    config = {
        "workflow": "finetune",
        "head": {"kind": "energy_forces", "unit": ""},
        "data": {"train": [{"name": "aspirin"}]},
        **settings,
    }
    run = Run(folder, config, console=Console(quiet=True))
    for step in (10, 20):
        run.log(step, {"train/loss": 4.0 / step, f"train/aspirin/{FORCE}": error})
        run.log(step, {"validation/loss": 5.0 / step, f"validation/aspirin/{FORCE}": 1000 / step})
    run.close()
    true = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0]])
    arrays = {
        "identifier": np.array(["first", "second"]),
        "n_atoms": np.array([1, 2]),
        "energy_true": np.array([-10.0, -30.0]),
        "energy_predicted": np.array([-10.5, -30.0]),
        "forces_true": true,
        "forces_predicted": true + np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1e-3 * error]]),
        "forces_structure": np.array([0, 1, 1]),
    }
    np.savez(run.path("predictions", "aspirin.npz"), **arrays)
    results = {
        "seed": 3,
        "steps": 20,
        "best_step": 10,
        "seconds": 61.0,
        "budget": 1200,
        "structures": 50,
        "parameters": 1234,
        "validation": {"aspirin": {FORCE: 50.0}},
        "test": {"aspirin": {FORCE: error, "force_cosine": 0.99}},
        "predictions": {"aspirin": "/elsewhere/predictions/aspirin.npz"},
    }
    run.write_json("results.json", results)
    return run


def test_a_training_is_described_by_its_files(tmp_path):
    document = describe_training(training(tmp_path / "run", 80.0))
    text = document.markdown()
    assert text.startswith("# Finetuning on aspirin\n")
    assert "| part | force MAE (meV/Å) | cosine of forces |" in text
    assert "| test, aspirin | 80 | 0.99 |" in text
    assert "| validation, aspirin | 50 |  |" in text
    assert "Test errors by formula" not in text
    assert "50 structures, 1,234 parameters, 20 steps (C = 1,200 samples) in 1:01, seed 3" in text
    curves, parity = document.plots
    losses, errors = (panel(curves.draw().axes[i]) for i, panel in enumerate(curves.panels))
    assert {note.text for note in losses} >= {"validation\nstep 20\nloss 0.25"}
    assert "training\nstep 10\nforce MAE (meV/Å) 80" in {note.text for note in errors}
    forces, energies = (panel(parity.draw().axes[i]) for i, panel in enumerate(parity.panels))
    # The component that errs most, and the structure that it is of; energies are per atom.
    assert forces[0].text == "second\ntrue 8, predicted 8.08 eV/Å"
    assert energies[0].text == "first\ntrue -10, predicted -10.5 eV/atom"
    assert {note.text for note in energies} >= {"second\ntrue -15, predicted -15 eV/atom"}


def test_errors_by_formula_are_reported(tmp_path):
    run = training(tmp_path / "run", 80.0)
    kinds = {"seen": {FORCE: 20.0, "structures": 5}, "unseen": {FORCE: 90.0, "structures": 1200}}
    results = json.loads(run.path("results.json").read_text())
    run.write_json("results.json", {**results, "test_by_formula": {"aspirin": {"ani1x": kinds}}})
    text = describe_training(run).markdown()
    table = text[text.index("Test errors by formula:") :]
    assert "| part | force MAE (meV/Å) |" in table
    assert "| aspirin, 5 seen in ani1x | 20 |" in table
    assert "| aspirin, 1,200 unseen in ani1x | 90 |" in table


def test_the_first_process_alone_reports(tmp_path, monkeypatch):
    # The others find no results.json, which the first may not have written yet.
    monkeypatch.setitem(TRAININGS, "finetune", lambda config, run: {"seed": 0})
    for primary in (False, True):
        run = Run(tmp_path / str(primary), {"workflow": "finetune"}, console=Console(quiet=True))
        run.primary = primary
        if primary:
            with pytest.raises(FileNotFoundError, match=r"results\.json"):
                finetune({}, run)
        else:
            assert finetune({}, run) == {"seed": 0}


def test_trainings_of_before_are_joined_and_compared(tmp_path, figures):
    many = {f"key_{i}": i for i in range(MOST_SETTINGS + 5)}
    first = training(tmp_path / "a" / "run", 80.0, seed=3)
    second = training(tmp_path / "b", 60.0, seed=4, notes=many)
    output = tmp_path / "both.html"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    join_reports([first.workdir, second.workdir], output)
    # Runs are read, nothing is written to them.
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert {path: when for path, when in after.items() if path != output} == before
    page = output.read_text()
    assert "<th>aspirin: force MAE (meV/Å)</th>" in page.replace(' style="text-align:right"', "")
    assert page.index(">80<") < page.index(">60<")
    assert "<title>run\nstep 20\nvalidation force MAE (meV/Å) 50</title>" in page
    assert "<code>seed</code>" in page
    assert "6 more are in the configurations below" in page
    assert 'href="a/run/predictions/aspirin.npz"' in page
    with pytest.raises(ReportError, match="nowhere holds no report"):
        join_reports([tmp_path / "nowhere"], output)
    assert not (tmp_path / "nowhere").exists()


def test_studies_and_comparisons_are_compared_too(tmp_path):
    folders = []
    for name, error in (("one", 5.0), ("two", 7.0)):
        folders.append(tmp_path / name)
        Run(folders[-1], {"workflow": "study"}, console=Console(quiet=True))
        found = {
            "near": {"task": {FORCE: {"mean": error, "std": 1.0, "values": [error, error + 2]}}}
        }
        (folders[-1] / "report.json").write_text(json.dumps({"errors": found}))
        (folders[-1] / "report.md").write_text("# Did it hold?\n\n**It did.**\n")
    pair = {"upstream": "near", "downstream": "task", "csi": 1.5, "lower": None, "upper": 2.0}
    csi = {"measures": [{"column": "csi", "label": "CSI"}], "pairs": [pair]}
    (folders[0] / "csi.json").write_text(json.dumps(csi))
    join_reports(folders, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    for cell in (">6 ± 1.4<", ">8 ± 1.4<", ">1.5<", ">2<"):
        assert cell in page
    assert page.count("<h1>Did it hold?</h1>") == 2
    assert "Settings that differ" not in page


def test_runs_whose_results_are_no_errors_are_joined(tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        Run(folder, {"workflow": "statistics"}, console=Console(quiet=True))
        (folder / "results.json").write_text(json.dumps({"statistics": {}}))
        (folder / "report.md").write_text("# Statistics of data sets\n")
    join_reports(folders, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<h1>Statistics of data sets</h1>") == 2
    assert "Test errors" not in page
    # A study without a complete seed.
    (folders[1] / "report.md").unlink()
    with pytest.raises(ReportError, match="holds no report"):
        join_reports(folders, tmp_path / "page.html")
