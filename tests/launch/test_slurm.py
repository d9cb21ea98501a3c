"""launch/slurm.sh as jobs of a real Slurm of two nodes, one process on each."""

import json
import os
import re
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.launch.cluster import Cluster, slurm
from tests.processes import logged_steps, records
from tests.training.workflow import make_config, write_structures

pytestmark = pytest.mark.slow
__all__ = ["slurm"]

ROOT = Path(__file__).resolve().parents[2]
STEPS, SLOW_FROM = 24, 8
# The later steps last while a file is there, so that a run still trains when something happens to
# it, and goes on at once when the file is gone.
BRAKED = """
import time
from pathlib import Path

from atomjax.runtime.run import Run

log = Run.log


def log_slowly(self, step, metrics):
    log(self, step, metrics)
    end = time.monotonic() + 10
    while step >= {slow_from} and Path({brake!r}).exists() and time.monotonic() < end:
        time.sleep(0.05)


Run.log = log_slowly


def get_config():
    return {config!r}
"""


@dataclass
class Job:
    """A training that is submitted, in a checkout whose environment is this one."""

    cluster: Cluster
    folder: Path
    name: str = ""

    def __post_init__(self) -> None:
        self.workdir, self.log = self.folder / "run", self.folder / "job.log"
        self.brake, self.config = self.folder / "brake", self.folder / "config.py"
        checkout = self.folder / "checkout"
        shutil.copytree(ROOT / "launch", checkout / "launch")
        (checkout / "Makefile").write_text("install:\n\t@echo installed $(EXTRA)\n")
        self.python = checkout / ".venv" / "bin" / "python"
        self.python.parent.mkdir(parents=True)
        self.python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        self.python.chmod(0o755)
        self.brake.touch()
        train = {"epochs": STEPS // 4, "checkpoint_every": 3, "eval_every": STEPS}
        config = make_config(write_structures(self.folder / "chains.xyz"), **train)
        values = {"slow_from": SLOW_FROM, "brake": str(self.brake), "config": config}
        self.config.write_text(BRAKED.format(**values))

    def submit(self, *overrides: str, nodes: int = 2, **environment: str) -> None:
        """Sends the job, which begins at once."""
        said = self.cluster.call(
            "sbatch",
            *(f"--nodes={nodes}", "--gres=none", "--cpus-per-task=1", "--time=30"),
            *(f"--output={self.log}", "--signal=B:TERM@60"),
            *("launch/slurm.sh", str(self.config), str(self.workdir)),
            *("--heartbeat-timeout=60", *overrides),
            cwd=self.folder / "checkout",
            PYTHONPATH=str(ROOT),
            **environment,
        )
        self.name = said.split()[-1]

    def wait_for_training(self, starts: int = 1) -> None:
        """Waits until the run trains slowly, after so many starts."""

        def trains(fields: dict[str, str]) -> bool:
            resumed = self.log.exists() and self.log.read_text().count("resuming after step")
            slow = max(logged_steps(self.workdir), default=0) >= SLOW_FROM
            return fields["JobState"] == "RUNNING" and resumed == starts - 1 and slow

        self.cluster.wait(self.name, trains, self.log)

    def wait_for_end(self) -> dict[str, str]:
        """Fields of the job once it is over."""
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        return self.cluster.wait(self.name, lambda f: f["JobState"] in ended, self.log)

    def wait_for_restart(self) -> str:
        """Output of the job once it was put back into the queue."""
        self.cluster.wait(self.name, lambda f: int(f["Restarts"]) == 1, self.log)
        return self.log.read_text()

    def check_end(self, restarts: int, starts: list[int]) -> str:
        """Output of the job, once it is done in good order.

        Args:
            restarts: number of times that it was requeued.
            starts: numbers of processes of every start.
        """
        fields = self.wait_for_end()
        said = self.log.read_text()
        assert fields["JobState"] == "COMPLETED", said
        assert int(fields["Restarts"]) == restarts
        assert json.loads((self.workdir / "results.json").read_text())["steps"] == STEPS
        logged = [record["step"] for record in records(self.workdir) if "train/loss" in record]
        assert logged == list(range(1, STEPS + 1))
        versions = json.loads((self.workdir / "versions.json").read_text())
        assert [start["processes"] for start in versions] == starts
        return said

    def limit(self, minutes: int) -> None:
        """Changes the time limit."""
        self.cluster.call("scontrol", "update", f"JobId={self.name}", f"TimeLimit={minutes}")

    def kill(self, index: int) -> None:
        """Kills the process of that number."""
        os.kill(self.process(index), signal.SIGKILL)

    def process(self, index: int) -> int:
        """Process of the run of that number."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes().split(b"\0")
                variables = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            ours = b"atomjax.launch" in command and str(self.workdir).encode() in command
            if ours and f"JAX_PROCESS_ID={index}".encode() in variables:
                return int(folder.name)
        raise AssertionError(f"no process {index} of {self.workdir}\n{self.log.read_text()}")


@pytest.fixture
def job(slurm: Cluster, tmp_path: Path) -> Job:
    return Job(slurm, tmp_path)


def test_a_job_of_one_node_ends_with_its_run(job: Job) -> None:
    job.brake.unlink()
    job.submit(nodes=1)
    job.check_end(restarts=0, starts=[1])


def test_time_limit_saves_requeues_and_resumes_at_the_same_step(job: Job) -> None:
    job.submit()
    job.wait_for_training()
    # Slurm looks every half minute, and sends the signal 60 to 90 s before the limit.
    ran = re.fullmatch(r"(\d+):(\d+):(\d+)", job.cluster.fields(job.name)["RunTime"])
    assert ran is not None
    job.limit(minutes=int(ran[1]) * 60 + int(ran[2]) + 2)
    said = job.wait_for_restart()
    stopped = re.search(rf"stopped by SIGTERM after step (\d+) of {STEPS}", said)
    assert stopped is not None, said
    assert "time is up; requeued to continue" in said
    job.limit(minutes=30)
    job.brake.unlink()
    said = job.check_end(restarts=1, starts=[2, 2])
    assert f"resuming after step {stopped[1]}\n" in said


def test_without_process_0_the_run_is_requeued_and_goes_on(job: Job) -> None:
    job.submit()
    job.wait_for_training()
    job.kill(0)
    said = job.wait_for_restart()
    assert "process 0, which coordinates" in said or "another process was lost" in said, said
    assert "requeued to continue from the last checkpoint" in said
    assert "Traceback" not in said
    assert "stack trace" not in said
    job.brake.unlink()
    said = job.check_end(restarts=1, starts=[2, 2])
    assert "resuming after step 6\n" in said


def test_a_run_that_loses_processes_again_and_again_ends(job: Job) -> None:
    job.submit(MAX_RESTARTS="1")
    job.wait_for_training()
    job.kill(1)
    said = job.wait_for_restart()
    assert "another process was lost" in said or "lost 1 of 2 processes" in said
    assert "requeued to continue from the last checkpoint" in said
    job.wait_for_training(starts=2)
    assert "resuming after step 6\n" in job.log.read_text()
    job.kill(1)
    fields = job.wait_for_end()
    said = job.log.read_text()
    assert fields["JobState"] == "FAILED", said
    assert fields["Restarts"] == "1"
    assert "after MAX_RESTARTS=1 restarts" in said


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_cancelled_job_saves_and_does_not_come_back(job: Job, nodes: int) -> None:
    stand_in = 'trap "sleep 1; echo saved; exit 143" TERM; echo ready; while :; do sleep 0.1; done'
    job.python.write_text(f"#!/bin/sh\n{stand_in}\n")
    job.submit(nodes=nodes)
    job.cluster.wait(
        job.name,
        lambda _: job.log.exists() and job.log.read_text().count("ready") == nodes,
        job.log,
    )
    job.cluster.call("scancel", job.name)
    fields = job.wait_for_end()
    time.sleep(5)
    assert fields["JobState"] == job.cluster.fields(job.name)["JobState"] == "CANCELLED"
    assert fields["Restarts"] == "0"
    assert job.log.read_text().count("saved") == nodes
    assert "not requeued; submit it again" in job.log.read_text()


def test_a_wrong_config_is_not_requeued(job: Job) -> None:
    job.submit("--config.train.batching.batch_sise=8")
    fields = job.wait_for_end()
    assert fields["JobState"] == "FAILED", job.log.read_text()
    assert fields["ExitCode"] == "2:0"
    assert "batch_sise" in job.log.read_text()
    # Nor is it later: Slurm begins a job again within seconds here.
    time.sleep(15)
    fields = job.cluster.fields(job.name)
    assert (fields["JobState"], fields["Restarts"]) == ("FAILED", "0")
