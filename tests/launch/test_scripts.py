"""The scripts in launch/, with stand-ins for Slurm and for the run itself."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = ["configs/quickstart.py", "runs/a b", "--config.seed=1"]


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [ROOT / "launch" / script, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("script", ["node.sh", "slurm.sh"])
def test_dry_run_prints_the_commands(script: str) -> None:
    result = run(script, "--dry-run", *ARGUMENTS, EXTRA="tpu", SLURM_SUBMIT_DIR=str(ROOT))
    assert result.returncode == 0, result.stderr
    install, train = result.stdout.splitlines()
    assert install.split() == ["make", "--no-print-directory", "install", "EXTRA=tpu"]
    expected = "-m atomjax.launch --config configs/quickstart.py --workdir runs/a\\ b"
    assert f"{expected} --config.seed=1" in train


def test_node_explains_itself_without_arguments() -> None:
    result = run("node.sh")
    assert result.returncode == 2
    assert "launch/node.sh [--dry-run] CONFIG WORKDIR" in result.stderr


def test_slurm_refuses_to_run_without_slurm() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "SLURM_SUBMIT_DIR"}
    result = subprocess.run(
        [ROOT / "launch" / "slurm.sh", *ARGUMENTS],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert result.returncode != 0
    assert "without Slurm use launch/node.sh" in result.stderr


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A checkout whose run does what $BEHAVIOUR says; ``scontrol`` writes down its calls."""
    shutil.copytree(ROOT / "launch", tmp_path / "launch")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        "#!/usr/bin/env bash\n"
        "trap 'sleep 0.2; echo saved; exit 143' TERM\n"
        "echo started $*\n"
        'if [ "$BEHAVIOUR" = work ]; then while true; do sleep 0.05; done; fi\n'
        "exit $BEHAVIOUR\n"
    )
    for name, text in {"make": "exit 0", "scontrol": 'echo "$@" >> calls'}.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        path = tmp_path / "bin" / name
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)
    python.chmod(0o755)
    return tmp_path


def start(cluster: Path, behaviour: str) -> subprocess.Popen:
    return subprocess.Popen(
        [cluster / "launch" / "slurm.sh", *ARGUMENTS],
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PATH": f"{cluster / 'bin'}:{os.environ['PATH']}",
            "SLURM_SUBMIT_DIR": str(cluster),
            "SLURM_JOB_ID": "17",
            "BEHAVIOUR": behaviour,
        },
    )


def test_slurm_passes_the_signal_on_and_requeues(cluster: Path) -> None:
    process = start(cluster, "work")
    assert process.stdout is not None
    assert "started -m atomjax.launch" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert "saved" in output
    assert process.returncode == 143
    assert (cluster / "calls").read_text() == "requeue 17\n"


@pytest.mark.parametrize("status", [0, 1])
def test_slurm_does_not_requeue_a_run_that_ended(cluster: Path, status: int) -> None:
    process = start(cluster, str(status))
    process.communicate(timeout=20)
    assert process.returncode == status
    assert not (cluster / "calls").exists()
