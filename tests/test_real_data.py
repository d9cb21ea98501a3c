"""The configs for public data, run on the real files as a user runs them."""

import json
from pathlib import Path

import pytest

from tests.test_quickstart import ROOT, launch, overrides

# Fewer structures and steps than the configs say; the same data, model and code.
SHORT = {
    "data__train__0__arguments__count": 300,
    "data__train__0__split__validation": 30,
    "train__epochs": 12,
    "train__eval_every": 100,
    "finetune__train__epochs": 20,
    "finetune__seeds": "(0,)",
}


def run_config(name: str, path: Path, workdir: Path) -> dict:
    pytest.importorskip("tblite", reason="the upstream set is labelled with tblite (extra demo)")
    config = f"--config={ROOT / 'configs' / name}:{path}"
    result = launch(config, f"--workdir={workdir}", *overrides(**SHORT))
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return json.loads((workdir / "report.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "file"),
    [("s66x8.py", "s66x8_wb97x6-31gd.h5"), ("li_electrode.py", "Li_electrode_finetune.xyz")],
)
def test_finetuning_on_real_labels(shared, tmp_path, config, file):
    report = run_config(config, shared / "data" / file, tmp_path / "run")
    key = "force_mae_mev_per_angstrom"
    finetuned, scratch = (report[name][key]["mean"] for name in ("finetuned", "scratch"))
    assert finetuned < 0.9 * report["baseline"][key]
    assert finetuned < scratch
