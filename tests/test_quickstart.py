"""The main jobs as a user runs them, shrunk by overrides: generate, pretrain, finetune, report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from atomjax.launch import main
from tests.smallest import NO_LAYERS

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    "num_blocks": 1,
    "emb_size_edge": 16,
    "quad_interaction": False,
    **NO_LAYERS,
}


def launch(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "atomjax.launch", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )


def overrides(**values: object) -> list[str]:
    return [f"--config.{key.replace('__', '.')}={value}" for key, value in values.items()]


def small_transfer(workdir: Path) -> list[str]:
    return [
        f"--config={ROOT / 'configs' / 'transfer.py'}",
        f"--workdir={workdir}",
        *overrides(**{f"model__overrides__{key}": value for key, value in SMALL.items()}),
        *overrides(
            pretraining__data__train__0__arguments__count=40,
            pretraining__data__train__0__arguments__molecules=4,
            pretraining__data__train__0__arguments__heavy_atoms="(2, 4)",
            pretraining__data__train__0__split__validation=8,
            pretraining__train__batching__batch_size=8,
            pretraining__train__epochs=2,
            pretraining__train__schedule__warmup_steps=2,
            pretraining__train__batching__scale_factor_batches=1,
            finetuning__data__train__0__arguments__count=20,
            finetuning__data__train__0__arguments__equilibration=5,
            finetuning__data__train__0__arguments__stride=1,
            finetuning__data__train__0__split__train=8,
            finetuning__data__train__0__split__validation=4,
            finetuning__data__train__0__split__test=8,
            finetuning__train__batching__batch_size=4,
            finetuning__train__epochs=2,
            finetuning__train__schedule__warmup_steps=1,
            finetuning__train__batching__scale_factor_batches=1,
            finetuning__seeds="(3,)",
        ),
    ]


@pytest.mark.slow
def test_transfer_pretrains_finetunes_and_reports(tmp_path, capfd):
    pytest.importorskip("tblite", reason="the sets are labelled with tblite (extra demo)")
    command = small_transfer(tmp_path / "run")
    first = launch(*command)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    for stage in ("pretrain", "finetuned/seed_3", "scratch/seed_3"):
        assert f"== {stage}" in first.stdout
    assert first.stdout.count("data card") == 3

    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["seeds"] == [3]
    errors = {}
    for name in ("finetuned", "scratch"):
        errors[name] = force_error(tmp_path / "run" / name / "seed_3")
        mean = report["errors"][name]["aspirin"]["force_mae_mev_per_angstrom"]["mean"]
        assert mean == pytest.approx(errors[name], rel=1e-4)
    assert report["improvement"]["mean"] == pytest.approx(
        1 - errors["finetuned"] / errors["scratch"], abs=1e-4
    )
    for file in ("report.md", "plots/curves.png", "plots/forces.png"):
        assert (tmp_path / "run" / file).stat().st_size > 0

    # The same command again finds every stage done and the same result.
    assert main(command) == 0
    assert capfd.readouterr().out.count("done before") == 3
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == report


def force_error(run: Path) -> float:
    """Mean absolute error of the forces that a run has predicted, meV/Å."""
    with np.load(run / "predictions" / "aspirin.npz") as file:
        return float(1000 * np.abs(file["forces_predicted"] - file["forces_true"]).mean())


def small_study(workdir: Path) -> list[str]:
    sets = {
        f"candidates__{i}__{key}": value
        for i in range(4)
        for key, value in {"arguments__count": 16, "split__validation": 4}.items()
    }
    return [
        f"--config={ROOT / 'configs' / 'quickstart.py'}",
        f"--workdir={workdir}",
        *overrides(**{f"plan__model__overrides__{key}": value for key, value in SMALL.items()}),
        *overrides(
            **sets,
            candidates__0__arguments__heavy_atoms="(2, 3)",
            sampling__size=8,
            plan__budget=24,
            plan__train__epochs=2,
            plan__train__batching__batch_size=4,
            plan__train__schedule__warmup_steps=1,
            finetuning__data__train__0__arguments__count=20,
            finetuning__data__train__0__split__train=8,
            finetuning__data__train__0__split__validation=4,
            finetuning__data__train__0__split__test=8,
            finetuning__train__batching__batch_size=4,
            finetuning__train__schedule__warmup_steps=1,
            finetuning__train__epochs=2,
        ),
    ]


@pytest.mark.slow
def test_quickstart_says_whether_the_prediction_held(tmp_path):
    pytest.importorskip("tblite", reason="the sets are labelled with tblite (extra demo)")
    result = launch(*small_study(tmp_path / "run"))
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    study = json.loads((tmp_path / "run" / "report.json").read_text())
    assert set(study["csi"]) == {"conformers", "reactions", "slabs", "oxides"}
    near, far = study["recommended"], study["farthest"]
    # A molecule's frames are nearer to molecules than to metal, whatever the network has learnt.
    assert near in ("conformers", "reactions")
    assert far in ("slabs", "oxides")
    errors = {
        name: force_error(tmp_path / "run" / folder / "seed_0")
        for name, folder in (
            (near, f"finetuned/{near}"),
            (far, f"finetuned/{far}"),
            ("scratch", "scratch"),
        )
    }
    assert study["mean"] == pytest.approx(errors, rel=1e-4)
    assert study["held"] == (errors[near] < errors[far])
    words = "held" if study["held"] else "did NOT hold"
    assert f"The prediction {words}" in (tmp_path / "run" / "report.md").read_text()
