"""That the campaign of kills sees what it is to see, and that a few kills do no harm."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.kills.commands import Server
from tests.kills.results import digests, temporary_files

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def test_results_differ_by_what_lasts_alone(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for i, folder in enumerate(folders):
        folder.mkdir()
        values = {"seconds": i, "mae": 1.5, "path": str(folder / "x")}
        (folder / "results.json").write_text(json.dumps(values))
        (folder / "run.lock").write_text(str(i))
        np.savez(folder / "x.npz", x=np.float32([1, 2, i // 2]))
    first, second, third = map(digests, folders)
    assert first == second
    assert [name for name in first if first[name] != third[name]] == ["x.npz"]
    (folders[0] / ".results.json.host-1.part").touch()
    assert temporary_files(folders[0]) == [".results.json.host-1.part"]


def test_a_command_is_started_as_python_would(tmp_path: Path) -> None:
    with Server(tmp_path, "one") as server:
        command = server.start(["json.tool", "/dev/null"])
        assert command.wait(60) == 1
        assert "Expecting value" in command.said()
        assert command.others() == {}
        command = server.start(["tests.parts_program", str(tmp_path / "run"), "600"])
        assert command.wait(0.1) is None
        os.kill(command.process, 9)
        assert command.wait(60) == -9


@pytest.mark.slow
def test_a_few_kills_do_no_harm(tmp_path: Path) -> None:
    names = ("pretrain", "generate", "convert", "predict")
    chosen = [f"--workflow={name}" for name in names]
    out = tmp_path / "kills.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", "--kills=8", f"--out={out}", *chosen],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(out.read_text())["workflows"]
    assert list(counts) == list(names)
    assert all(one["SIGKILL"] == one["SIGTERM"] == 1 for one in counts.values())
    assert all(one["ran to the end"] > 0 for one in counts.values())
