"""The programs that users run: the other tests leave most of LLVM's passes out (see conftest.py).

Parity of both networks and of the CSI, and one training, each in a process of its own with nothing
left out.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.workflow import write_structures

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str) -> str:
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("models", [["gemnet_oc_tiny"], ["eqv2_tiny", "csi"]], ids=", ".join)
def test_parity_in_float32(shared: Path, models: list[str]) -> None:
    options = ("--oracle", str(shared / "oracle"), "--dtype", "float32")
    printed = run("atomjax.parity", *options, *(f"--model={model}" for model in models))
    assert "FAILED" not in printed
    assert all(f"\n{model} " in printed for model in models)


def test_a_training_learns(tmp_path: Path) -> None:
    structures = write_structures(tmp_path / "chains.xyz", count=40)
    printed = run(
        "tests.training.workflow", str(tmp_path / "run"), str(structures), "epochs=16", "budget=384"
    )
    results = json.loads(printed.splitlines()[-1])
    assert results["steps"] == 64
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [
        value["train/loss"] for line in metrics if "train/loss" in (value := json.loads(line))
    ]
    assert losses[-1] < 0.5 * losses[0]
