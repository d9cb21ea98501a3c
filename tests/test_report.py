"""The report of a transfer study."""

import json

import numpy as np
import pytest

from atomjax.runtime.run import Run
from atomjax.studies.report import (
    Outcome,
    ReportError,
    TransferOutcome,
    summarize,
    verdict,
    write_report,
)

FORCE = "force_mae_mev_per_angstrom"
ENERGY = "energy_mae_mev_per_atom"


def outcome(seed, error, **fields):
    forces = np.array([[0.2, -0.2, 0.0], [0.1, 0.3, -0.4]])
    return Outcome(
        seed=seed,
        seconds=61.0,
        steps=10,
        test={FORCE: error, ENERGY: error / 10},
        validation={"loss": 1.0},
        history=[
            {"step": 5, "train/loss": 2.0},
            {"step": 10, f"validation/aspirin/{FORCE}": error, "validation/loss": 1.0},
        ],
        predictions={"forces_true": forces, "forces_predicted": forces + error * 1e-3},
        **fields,
    )


def study(finetuned=(80.0, 100.0, 90.0), scratch=(100.0, 200.0, 90.0)):
    return TransferOutcome(
        upstream="conformers",
        upstream_structures=1000,
        budget=20_000,
        downstream="aspirin",
        labels=50,
        pretraining=outcome(0, 50.0),
        finetuned=[outcome(seed, error) for seed, error in enumerate(finetuned)],
        scratch=[outcome(seed, error) for seed, error in enumerate(scratch)],
    )


def test_summary_compares_seed_by_seed():
    summary = summarize(study())
    assert summary["judged_by"] == FORCE
    assert summary["unit"] == "meV/Å"
    assert [pair["improvement"] for pair in summary["seeds"]] == pytest.approx([0.2, 0.5, 0.0])
    assert summary["improvement"] == pytest.approx(0.7 / 3)
    assert summary["seeds_ahead"] == 2
    assert summary["finetuned"][FORCE] == pytest.approx({"mean": 90.0, "std": 10.0})
    assert summary["baseline"] == pytest.approx({FORCE: 200.0})
    assert summary["seconds"] == pytest.approx(7 * 61.0)


def test_verdict_says_it_as_it_is():
    assert verdict(summarize(study())) == (
        "force MAE on the test set of aspirin: 90 ± 10 meV/Å finetuned, 130 ± 60.8 meV/Å from "
        "scratch, 23% lower (ahead in 2 of 3 seeds)"
    )
    worse = verdict(summarize(study(finetuned=(120.0,), scratch=(100.0,))))
    assert worse.endswith("20% higher (one seed)")


def test_files(tmp_path):
    run = Run(tmp_path)
    summary = write_report(study(), run, command="python -m atomjax.launch --config x.py")
    assert json.loads((tmp_path / "report.json").read_text()) == summary
    text = (tmp_path / "report.md").read_text()
    for fragment in [
        verdict(summary),
        "| seed | start | force MAE (meV/Å) | energy MAE (meV/atom) |",
        "| 1 | scratch | 200 | 20 |",
        "| mean ± deviation | pretrained | 90 ± 10 | 9 ± 1 |",
        "zero forces has a force MAE of 200 meV/Å",
        "| pretraining | 1:01 | 10 |",
        "python -m atomjax.launch --config x.py",
    ]:
        assert fragment in text
    for plot in ("plots/curves.png", "plots/forces.png"):
        assert f"({plot})" in text
        assert (tmp_path / plot).read_bytes().startswith(b"\x89PNG")


def test_scalar_task_without_forces(tmp_path):
    def scalar(seed, error):
        return Outcome(seed=seed, seconds=1.0, test={"value_mae": error})

    result = TransferOutcome(
        upstream="conformers",
        upstream_structures=10,
        budget=10,
        downstream="gap",
        labels=5,
        pretraining=Outcome(seed=0, seconds=1.0),
        finetuned=[scalar(0, 0.1)],
        scratch=[scalar(0, 0.2)],
        property_unit="eV",
    )
    summary = write_report(result, Run(tmp_path))
    assert "MAE on the test set of gap: 0.1 eV finetuned" in verdict(summary)
    assert "| seed | start | MAE (eV) |" in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "plots" / "forces.png").exists()


def test_mistakes_are_explained():
    with pytest.raises(ReportError, match="scratch twin"):
        study(finetuned=(1.0, 2.0), scratch=(1.0,))
    with pytest.raises(ReportError, match=r"finetune\.seeds"):
        study(finetuned=(), scratch=())
    unlabelled = Outcome(seed=0, seconds=1.0)
    empty = TransferOutcome(
        upstream="u",
        upstream_structures=1,
        budget=1,
        downstream="aspirin",
        labels=1,
        pretraining=unlabelled,
        finetuned=[unlabelled],
        scratch=[unlabelled],
    )
    with pytest.raises(ReportError, match=r"aspirin.*test split"):
        summarize(empty)
