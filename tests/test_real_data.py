"""The configs for public data, run on the real files as a user runs them."""

import json
from pathlib import Path

import pytest

from tests.test_quickstart import ROOT, launch, overrides

# Fewer structures and steps than the configs say; the same data, model and code.
SHORT = {
    "pretraining__data__train__0__arguments__count": 300,
    "pretraining__data__train__0__split__validation": 30,
    "pretraining__train__epochs": 12,
    "pretraining__train__validation__eval_every": 100,
    "finetuning__train__epochs": 20,
    "finetuning__seeds": "(0,)",
}


def run_config(name: str, path: Path, workdir: Path) -> dict:
    pytest.importorskip("tblite", reason="the upstream set is labelled with tblite (extra demo)")
    config = f"--config={ROOT / 'configs' / name}:{path}"
    result = launch(config, f"--workdir={workdir}", *overrides(**SHORT))
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return json.loads((workdir / "report.json").read_text())


def mean_error(report: dict, name: str, data_set: str) -> float:
    return report["errors"][name][data_set]["force_mae_mev_per_angstrom"]["mean"]


@pytest.mark.slow
def test_dimers_profit_from_pretraining(shared, tmp_path):
    path = shared / "data" / "s66x8_wb97x6-31gd.h5"
    report = run_config("s66x8.py", path, tmp_path / "run")
    finetuned, scratch = (mean_error(report, name, "s66x8") for name in ("finetuned", "scratch"))
    assert finetuned < scratch < report["baseline"]


@pytest.mark.slow
def test_a_periodic_cathode_is_learnt(shared, tmp_path):
    path = shared / "data" / "Li_electrode_finetune.xyz"
    report = run_config("li_electrode.py", path, tmp_path / "run")
    for name in ("finetuned", "scratch"):
        assert mean_error(report, name, "li_electrode") < report["baseline"]
