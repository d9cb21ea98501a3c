"""Real processes, killed and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from atomjax.models import BACKBONES
from atomjax.runtime.cluster.preemption import RunInterrupted
from atomjax.runtime.run import Run
from atomjax.training.pretrain import pretrain
from atomjax.training.running.checkpoint import load_checkpoint, read_metadata
from atomjax.training.settings import RunSettings
from tests.processes import with_devices
from tests.training.workflow import make_config, run_here, write_structures

ROOT = Path(__file__).resolve().parents[2]
# Saving at every step makes it likely that a kill hits a save.
SETTINGS = {
    "epochs": 3,
    "checkpoint_every": 1,
    "eval_every": 3,
    "dropout": 0.1,
    "edge_dropout": 0.1,
}


def start(workdir: Path, structures: Path, devices: int = 1, **changes: Any) -> subprocess.Popen:
    settings = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.workflow", str(workdir), str(structures), *settings],
        cwd=ROOT,
        env=with_devices(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> dict:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out[-2000:] + err[-4000:]
    return json.loads(out.splitlines()[-1])


def logged_steps(workdir: Path) -> list[int]:
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("\n")]


def wait_for_step(workdir: Path, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while max(logged_steps(workdir), default=0) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def leaves(workdir: Path, which) -> list[np.ndarray]:
    import jax

    variables, _ = load_checkpoint(workdir, which, averaged=False)
    averaged, _ = load_checkpoint(workdir, which)
    return jax.tree.leaves((variables, averaged["params"]))


@pytest.mark.slow
def test_killed_and_resumed_run_ends_with_identical_parameters(tmp_path):
    structures = write_structures(tmp_path / "chains.xyz")
    unbroken = run_here(tmp_path / "unbroken", structures, **SETTINGS)
    assert unbroken["steps"] == 12
    workdir = tmp_path / "killed"
    for number, step in ((signal.SIGKILL, 2), (signal.SIGTERM, 5), (signal.SIGKILL, 8)):
        process = start(workdir, structures, **SETTINGS)
        wait_for_step(workdir, step, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=240)
        if number == signal.SIGTERM:
            assert process.returncode == 128 + signal.SIGTERM, err[-4000:]
            assert "stopped by SIGTERM after step" in out
            assert "The same command resumes" in out
        else:
            assert process.returncode == -signal.SIGKILL
    resumed = run_here(workdir, structures, **SETTINGS)
    for which in ("latest", "best"):
        expected, got = leaves(tmp_path / "unbroken", which), leaves(workdir, which)
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_array_equal(a, b)
    for name in ("steps", "best_step", "validation", "test", "parameters"):
        assert resumed[name] == unbroken[name]
    records = [
        read_metadata(tmp_path / name, "latest")["record"] for name in ("unbroken", "killed")
    ]
    assert records[0] == records[1]
    assert logged_steps(workdir) == logged_steps(tmp_path / "unbroken")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_goes_on_where_it_was_stopped(name, tmp_path):
    """In this process, with the functions of the unbroken run."""
    config = make_config(write_structures(tmp_path / "chains.xyz"), epochs=2, checkpoint_every=2)
    backbone = BACKBONES[name]
    config["model"] = {"name": next(iter(backbone.sizes)), "overrides": backbone.conformance}
    settings = RunSettings.from_config(config)

    class Stopped(Run):
        """Is told to end at its fifth step."""

        def log(self, step, metrics):
            super().log(step, metrics)
            if step == 5:
                os.kill(os.getpid(), signal.SIGTERM)

    for kind, workdir in ((Run, "unbroken"), (Stopped, "stopped"), (Run, "stopped")):
        run = kind(tmp_path / workdir, settings, console=Console(quiet=True))
        with pytest.raises(RunInterrupted) if kind is Stopped else nullcontext():
            pretrain(settings, run)
        run.close()
    assert logged_steps(tmp_path / "stopped") == logged_steps(tmp_path / "unbroken")
    for a, b in zip(
        *(leaves(tmp_path / w, "latest") for w in ("unbroken", "stopped")), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_number_of_devices_does_not_change_the_training(tmp_path):
    structures = write_structures(tmp_path / "chains.xyz")
    four = start(tmp_path / "4", structures, devices=4, epochs=3)
    results = [run_here(tmp_path / "1", structures, epochs=3), finish(four)]
    curves = []
    for workdir in (tmp_path / "1", tmp_path / "4"):
        lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        curves.append([v for line in lines for k, v in line.items() if k.endswith("/loss")])
    assert len(curves[0]) == 12 + 3
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5)
    test = [result["test"]["chains"] for result in results]
    assert test[0] == pytest.approx(test[1], rel=1e-4)
