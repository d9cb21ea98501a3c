"""What a transfer study says of its trainings."""

import json

import pytest
from rich.console import Console

from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.studies import ReportError
from atomjax.studies.transfer import TRANSFER
from tests.studies.trainings import ENERGY, FORCE, replace_trainings, start, transfer_config


def report(
    folder, monkeypatch, finetuned=(80.0, 100.0, 90.0), scratch=(100.0, 200.0, 90.0), **finetune
) -> dict:
    """The summary of a study whose trainings had these errors, in the folder ``run``."""

    def errors(settings):
        error = (finetuned if start(settings) else scratch)[settings.seed]
        return {FORCE: error, ENERGY: error / 10} if settings.finetune else {}

    replace_trainings(monkeypatch, errors)
    config = transfer_config(folder / "chains.xyz", range(len(finetuned)), **finetune)
    config["seed"] = 0
    return TRANSFER(config, Run(folder / "run", config, console=Console(quiet=True)))


def test_summary_compares_seed_by_seed(tmp_path, monkeypatch):
    summary = report(tmp_path, monkeypatch)
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == summary
    assert (summary["judged_by"], summary["unit"]) == (FORCE, "meV/Å")
    assert summary["seeds"] == [0, 1, 2]
    assert summary["improvement"]["values"] == pytest.approx([0.2, 0.5, 0.0])
    assert summary["improvement"]["mean"] == pytest.approx(0.7 / 3)
    assert summary["seeds_ahead"] == 2
    error = summary["errors"]["finetuned"]["task"][FORCE]
    assert (error["mean"], error["std"]) == pytest.approx((90.0, 10.0))
    assert summary["baseline"] == pytest.approx(200.0)
    assert (summary["training_structures"], summary["budget"]) == (50, 100)


def test_report_says_it_as_it_is(tmp_path, monkeypatch, figures):
    report(tmp_path, monkeypatch)
    text = (tmp_path / "run" / "report.md").read_text()
    for fragment in (
        "force MAE on the test set of task: 90 ± 10 meV/Å finetuned, 130 ± 61 meV/Å from scratch, "
        "23% lower (ahead in 2 of 3 seeds)",
        "| start | force MAE (meV/Å) | energy MAE (meV/atom) |",
        "| finetuned | 90 ± 10 | 9 ± 1 | +23.3% ± 25.2% | 2 of 3 | 80, 100, 90 |",
        "zero forces has a force MAE of 200 meV/Å",
        "| pretraining | 0:00 |",
    ):
        assert fragment in text
    for plot in ("plots/training.png", "plots/parity.png"):
        assert f"({plot})" in text
        assert (tmp_path / "run" / plot).read_bytes().startswith(b"\x89PNG")


def test_page_shows_every_seed_and_the_predictions(tmp_path, monkeypatch, figures):
    report(tmp_path, monkeypatch)
    page = (tmp_path / "run" / "report.html").read_text()
    for label in ("finetuned", "scratch"):
        for seed in range(3):
            assert f"<title>{label}, seed {seed}\nstep 10\nvalidation force MAE" in page
    assert "<title>pretraining\nstep 10\nvalidation loss 1</title>" in page
    assert "finetuned: MAE 0.08 eV/Å" in page


def test_worse_is_said_too(tmp_path, monkeypatch):
    report(tmp_path, monkeypatch, (120.0,), (100.0,))
    assert "20% higher (one seed)" in (tmp_path / "run" / "report.md").read_text()


def test_scalar_task_without_forces(tmp_path, monkeypatch):
    values = {True: {"value_mae": 0.1}, False: {"value_mae": 0.2}}
    head = {"kind": "scalar", "targets": [{"name": "gap", "unit": "eV"}]}
    replace_trainings(monkeypatch, lambda s: values[start(s) is not None] if s.finetune else {})
    config = transfer_config(tmp_path / "chains.xyz", head=head)
    run = Run(tmp_path / "run", config, console=Console(quiet=True))
    assert TRANSFER(config, run)["unit"] == "eV"
    text = (tmp_path / "run" / "report.md").read_text()
    assert "MAE on the test set of task: 0.1 eV finetuned" in text
    assert "| start | MAE (eV) |" in text
    assert "plots/training.png" in text
    assert "plots/parity.png" not in text


def test_mistakes_are_explained(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="seeds"):
        report(tmp_path, monkeypatch, (), ())
    with pytest.raises(ConfigError, match=r"finetuning\.data"):
        report(tmp_path / "data", monkeypatch, data=None)
    replace_trainings(monkeypatch, lambda _: {})
    config = transfer_config(tmp_path / "chains.xyz")
    run = Run(tmp_path / "empty", config, console=Console(quiet=True))
    with pytest.raises(ReportError, match=r"task.*test split"):
        TRANSFER(config, run)
