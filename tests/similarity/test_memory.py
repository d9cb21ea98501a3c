"""Memory of a selection does not grow with the candidates."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.similarity.selection_memory import make_store

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_selection_takes_little_memory_for_each_candidate(tmp_path):
    task = make_store(tmp_path / "task", 100)
    peaks = []
    for count in (2000, 8000):
        upstream = make_store(tmp_path / str(count), count)
        workdir = tmp_path / f"run{count}"
        command = ["-m", "tests.similarity.selection_memory", upstream, task, workdir]
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        peaks.append(int(done.stdout))
    # Sums of a structure are 17 kB, its identifiers and sizes some hundred bytes; peaks of two runs
    # differ by 10 MB.
    assert (peaks[1] - peaks[0]) / 6000 < 5.0, f"peaks of {peaks} kB"
