"""Runs of several real processes over the CPU's collectives, against a run of one."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atomjax.runtime.run import Run
from atomjax.training.pretrain import pretrain
from atomjax.training.running.checkpoint import load_checkpoint
from atomjax.training.settings import RunSettings
from tests.processes import HEARTBEAT, ROOT, Processes, logged_steps, records, write_config
from tests.training.workflow import make_config, write_structures

TRAIN = {"epochs": 4, "checkpoint_every": 1, "eval_every": 3, "shard_optimizer": True}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Config, workdir and results of a run of one process."""
    folder = tmp_path_factory.mktemp("unbroken")
    structures = write_structures(folder / "chains.xyz")
    config = make_config(structures, **TRAIN)
    write_config(folder / "config.py", config)
    settings = RunSettings.from_config(config)
    run = Run(folder / "one", settings)
    results = pretrain(settings, run)
    run.close()
    return folder / "config.py", folder / "one", results


def assert_same_run(workdir: Path, results: dict[str, Any], expected: Path, wanted: Any) -> None:
    """Every loss, the weights and the errors are those of the other run, to rounding."""
    ours, theirs = records(workdir), records(expected)
    assert [record["step"] for record in ours] == [record["step"] for record in theirs]
    for a, b in zip(ours, theirs, strict=True):
        for name in (name for name in b if name.endswith("/loss")):
            assert a[name] == pytest.approx(b[name], rel=2e-5), (b["step"], name)
    weights = [load_checkpoint(path, "latest", averaged=False)[0] for path in (workdir, expected)]
    import jax

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), *weights)
    for split in ("validation", "test"):
        for name, value in wanted[split]["chains"].items():
            assert results[split]["chains"][name] == pytest.approx(value, rel=1e-3), name


@pytest.mark.slow
def test_killed_process_ends_the_run_and_one_process_resumes_it(unbroken, tmp_path):
    config, expected, wanted = unbroken
    workdir = tmp_path / "killed"
    processes = Processes(2, config, workdir)
    processes.wait_for_step(7)
    processes.all[1].kill()
    statuses = processes.finish(seconds=3 * HEARTBEAT)
    output = processes.logs()[0]
    assert statuses == [75, -signal.SIGKILL], output
    assert "another process was lost" in output or "lost 1 of 2 processes" in output
    assert "Traceback" not in output
    assert json.loads((workdir / "versions.json").read_text())[0]["processes"] == 2
    settings = RunSettings.from_config(make_config(config.with_name("chains.xyz"), **TRAIN))
    run = Run(workdir, settings)
    results = pretrain(settings, run)
    run.close()
    assert_same_run(workdir, results, expected, wanted)


JOIN = """
import sys
import time

from atomjax.runtime.cluster import processes

processes.join(sys.argv[1], 2, int(sys.argv[2]))
print("joined", flush=True)
time.sleep(600)
"""


def test_others_are_told_of_the_death_of_process_0():
    """While they wait for nothing, so that only the coordinator's absence tells them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", JOIN, address, str(i)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        for process in pair:
            assert process.stdout.readline() == "joined\n", process.communicate()
        pair[0].kill()
        _, said = pair[1].communicate(timeout=60)
    finally:
        for process in pair:
            process.kill()
    assert pair[1].returncode == 75, said
    assert "error: process 0, which coordinates the run, cannot be reached: " in said
    assert "the same command on every host resumes from the last checkpoint" in said
    for word in ("stack trace", "terminate called", "Traceback"):
        assert word not in said


@pytest.mark.slow
def test_four_then_two_then_one_process_make_one_run(unbroken, tmp_path):
    config, expected, wanted = unbroken
    workdir = tmp_path / "shrinking"
    four = Processes(4, config, workdir)
    four.wait_for_step(3)
    four.all[2].send_signal(signal.SIGTERM)
    assert four.finish() == [143] * 4, "\n".join(four.logs())
    assert "stopped by SIGTERM after step" in four.logs()[0]
    stopped = max(logged_steps(workdir))
    assert stopped < 16
    two = Processes(2, config, workdir)
    two.wait_for_step(min(stopped + 3, 14))
    # Process 0 serves the others: without it they have nobody to ask.
    two.all[0].kill()
    assert two.finish(seconds=5 * HEARTBEAT) == [-signal.SIGKILL, 75], "\n".join(two.logs())
    last = two.logs()[1]
    assert "process 0, which coordinates" in last or "another process was lost" in last
    assert "stack trace" not in last
    one = Processes(1, config, workdir)
    assert one.finish() == [0], one.logs()[0]
    results = json.loads((workdir / "results.json").read_text())
    assert_same_run(workdir, results, expected, wanted)
    counts = [start["processes"] for start in json.loads((workdir / "versions.json").read_text())]
    assert counts == [4, 2, 1]


@pytest.mark.slow
def test_failure_of_one_process_ends_all(unbroken, tmp_path):
    config, _, _ = unbroken
    # As on hosts that do not share the directory: a relative path, in two places.
    pair = Processes(2, config, Path("run"), folders=[tmp_path / "a", tmp_path / "b"])
    assert pair.finish() == [2, 2], "\n".join(pair.logs())
    first, second = pair.logs()
    assert "error: run on" in second
    assert "is not the directory that process 0 writes to" in second
    assert "ended by process 1" in first
    assert "one --workdir on a shared file system" in first
