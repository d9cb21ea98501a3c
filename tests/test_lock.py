"""Two runs in one directory."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from atomjax.runtime.lock import NAME, WorkdirInUse, sole_run, sole_use

ROOT = Path(__file__).resolve().parents[1]
HOLD = """
import sys
from pathlib import Path
from atomjax.runtime.lock import sole_run

with sole_run(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(workdir: Path) -> "subprocess.Popen[str]":
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workdir)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "held\n"
    return child


def test_a_second_run_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    child = hold(tmp_path / "run")
    try:
        with pytest.raises(WorkdirInUse) as caught, sole_run(tmp_path / "run"):
            pass
    finally:
        child.kill()
        child.wait()
    message = str(caught.value)
    assert str(child.pid) in message
    assert os.uname().nodename in message
    assert "--workdir" in message


def test_one_process_has_no_second_run_by_another_name_either(tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tmp_path / "run")
    with sole_run(tmp_path / "run"):
        refused = pytest.raises(WorkdirInUse, match=f"process {os.getpid()} on")
        with refused, sole_run(tmp_path / "alias"):
            pass
        # The refused one has not dropped the lock.
        command = [sys.executable, "-c", HOLD, str(tmp_path / "alias")]
        other = subprocess.run(
            command, cwd=ROOT, input="", capture_output=True, text=True, check=False
        )
        assert "WorkdirInUse" in other.stderr
    with sole_run(tmp_path / "alias"):
        pass


def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    child = hold(tmp_path)
    child.kill()
    child.wait()
    assert json.loads((tmp_path / NAME).read_text())["process"] == child.pid
    with sole_run(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["process"] == os.getpid()
    assert (tmp_path / NAME).read_text() == ""


def test_without_locks_of_the_file_system_a_path_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="cannot be locked"), sole_use(tmp_path / "made"):
        (tmp_path / "made").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    wrong = pytest.raises(OSError, match="of the body")
    with pytest.warns(UserWarning, match="cannot be locked"), wrong, sole_use(tmp_path / "made"):
        raise OSError("of the body")
