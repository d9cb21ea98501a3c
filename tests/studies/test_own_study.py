"""The study of CONTRIBUTING.md, run as somebody would who wrote it."""

import re
import subprocess
import sys
from pathlib import Path

from atomjax.launch import main
from atomjax.runtime.workflows import WORKFLOWS
from atomjax.studies import Results
from tests.studies.trainings import FORCE
from tests.training.workflow import MODEL, write_structures

ROOT = Path(__file__).resolve().parents[2]


def test_a_study_in_one_file_runs_and_is_reported_again(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"^## Adding a study\n.*?^```python\n(.*?)^```", text, re.DOTALL | re.M)
    (tmp_path / "rates.py").write_text(code)
    write_structures(tmp_path / "chains.extxyz")
    model = str(MODEL["overrides"])
    command = ["--config=rates.py", "--workdir=run", f"--config.base.model.overrides={model}"]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = subprocess.run(
        [sys.executable, "-m", "atomjax.launch", *command, "--jobs=2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rate_0.001/seed_0: done in" in done.stdout
    assert "2 of 2 parts" in done.stdout
    results = Results.load(Path("run", "results.json"))
    first, second = (
        results.values(f"rate {rate}", FORCE, "chains") for rate in ("0.001", "0.0001")
    )
    assert set(first) == set(second) == {0}
    assert first != second
    (start,) = results.starts
    assert start["command"].startswith("python -m atomjax.launch --config=rates.py")
    report = Path("run", "report.md")
    assert f"| rate 0.001 | {first[0]:.4g} |" in report.read_text()

    # Only reported: nothing is trained, and the same is said.
    report.unlink()
    try:
        assert main([*command, "--report-only"]) == 0
        assert main([*command[:1], "--workdir=new", *command[2:], "--report-only"]) == 1
    finally:
        WORKFLOWS.pop("rates", None)
    shown = capfd.readouterr()
    assert shown.out.count("done before") == 2
    assert "no seed is complete; not done: rate_0.001/seed_0" in shown.err
    assert f"| rate 0.001 | {first[0]:.4g} |" in report.read_text()
