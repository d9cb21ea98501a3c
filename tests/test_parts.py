"""Parts of a run, in turn and side by side: done once, failed by name, ended together."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from atomjax.runtime.config import ConfigError
from atomjax.runtime.files import DamagedFile
from atomjax.runtime.parts import DONE, Part, PartError, Parts, allowed_jobs, compute_part
from atomjax.runtime.run import Run
from atomjax.runtime.workers import core_shares
from tests.parts_program import NAMES, compute
from tests.processes import has_ended, wait_until

ROOT = Path(__file__).resolve().parent.parent


def make_parts(folder: Path, *parts: Part) -> tuple[Parts, io.StringIO, list[int]]:
    """Parts, what is shown of them, and a list that grows with each that is finished."""
    shown, finished = io.StringIO(), []
    run = Run(folder, console=Console(file=shown, width=200))
    return Parts(lambda _: parts, run, lambda: finished.append(1)), shown, finished


def test_side_by_side_each_on_its_cores_and_a_failure_is_named(tmp_path):
    # The last waits for "after", so that this is never ready alone, which is computed here.
    plain = [Part(name=name, settings={"n": name}) for name in NAMES[:-1]]
    plain.append(Part(name=NAMES[-1], settings={"until": "after"}))
    after = Part(name="after", settings={}, after="a")
    broken = Part(name="broken", settings={"fail": True})
    never = Part(name="never", settings={}, after="broken")
    killed = Part(name="killed", settings={"kill": True})
    parts, shown, finished = make_parts(tmp_path, killed, broken, *plain, never, after)
    log = tmp_path / "broken" / "log.txt"
    with pytest.raises(PartError, match="2 of 7 parts failed") as failure:
        parts.compute(compute, jobs=2)
    assert f"broken: ValueError: this part fails (log: {log})" in str(failure.value)
    assert "killed: the process was killed" in str(failure.value)
    assert "Traceback" in log.read_text()
    assert "working on b" in (tmp_path / "b" / "log.txt").read_text()
    assert "working on" not in shown.getvalue()
    assert set(parts.records) == {*NAMES, "after"}
    assert len(finished) == 4
    workers = {record["process"]: record["cores"] for record in parts.records.values()}
    # One more in place of the one that was killed.
    assert len(workers) in (2, 3)
    assert os.getpid() not in workers
    shares = [sorted(share) for share in core_shares(2)]
    assert all(cores in shares for cores in workers.values())
    assert "after: done in 0:00" in shown.getvalue()
    assert "4 of 7 parts" in shown.getvalue()

    # What failed is computed again, and nothing else; one that is left is computed here.
    mended, shown, finished = make_parts(tmp_path, *plain, Part(name="broken", settings={}))
    (tmp_path / "broken" / "config.json").unlink()
    mended.compute(compute, jobs=2)
    assert shown.getvalue().count("done before") == 3
    assert mended.records["broken"]["process"] == os.getpid()
    assert len(finished) == 1


@contextlib.contextmanager
def program(workdir: Path, seconds: float) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-m", "tests.parts_program", str(workdir), str(seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks /proc which processes there are")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_kill_ends_all_and_the_same_command_resumes(tmp_path, number):
    files = [tmp_path / name / "pid" for name in NAMES[:2]]
    with program(tmp_path, 600) as first:
        wait_until(lambda: all(file.exists() and file.read_text() for file in files))
        children = [int(file.read_text()) for file in files]
        first.send_signal(number)
        first.wait(60)
    assert first.returncode == {signal.SIGTERM: 143}.get(number, -number)
    wait_until(lambda: all(has_ended(pid) for pid in children))
    assert all((tmp_path / name / "saved").exists() for name in NAMES[:2])
    assert not (tmp_path / NAMES[2]).exists()
    with program(tmp_path, 600):
        done = [tmp_path / name / "stage.json" for name in NAMES[:2]]
        wait_until(lambda: all(file.exists() for file in done))


def test_a_damaged_record_of_a_part_is_named(tmp_path):
    part = Part(name="one", settings=None)
    run = Run(tmp_path)
    compute_part(lambda settings, child: {"value": 1}, run, part)
    assert Parts(lambda _: [part], run, lambda: None).records["one"]["value"] == 1
    path = tmp_path / "one" / DONE
    path.write_text(path.read_text().replace('"value": 1', '"value": 3'))
    with pytest.raises(DamagedFile, match=r"one/stage.json is damaged: .*delete it; the part"):
        Parts(lambda _: [part], run, lambda: None)


def test_jobs_of_a_machine(monkeypatch):
    assert allowed_jobs(3) == 3
    assert allowed_jobs(0) == len(set().union(*core_shares(1))) or os.cpu_count()
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert allowed_jobs(0) == 1
    with pytest.raises(ConfigError, match="jobs=2 is for one process on CPUs"):
        allowed_jobs(2)


def test_cores_are_divided(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3, 6}, raising=False)
    assert core_shares(2) == [{0, 1}, {2, 3, 6}]
    assert core_shares(1) == [{0, 1, 2, 3, 6}]
    assert [len(share) for share in core_shares(7)] == [1] * 7
