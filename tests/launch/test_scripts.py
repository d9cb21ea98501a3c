"""The scripts in launch/, with stand-ins for the machines' commands and for the run itself."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = ["configs/quickstart.py", "runs/a b", "--config.seed=1"]
SHARED = ["configs/quickstart.py", "/shared/a b", '--config.train.validation.select_by="loss"']
POD = {"TPU": "t", "ZONE": "z", "TYPE": "v5litepod-16", "VERSION": "v2", "NFS": "files:/share"}
JOB = {"IMAGE": "registry/atomjax:1", "CLAIM": "work", "PODS": "4", "GPUS": "8"}
# What the stand-in for Python does; it says what it was started with.
RUN = """
trap 'sleep 0.2; echo saved; exit 143' TERM
echo "started $JAX_PROCESS_ID/$JAX_NUM_PROCESSES at $JAX_COORDINATOR_ADDRESS $*"
if [ "$BEHAVIOUR" = work ]; then while true; do sleep 0.05; done; fi
exit $BEHAVIOUR
"""
# Two tasks; signals reach them as scancel would send them.
SRUN = """
while [ "${1#--}" != "$1" ]; do shift; done
for i in 0 1; do SLURM_PROCID=$i "$@" & pids="$pids $!"; done
echo $pids > pids
for pid in $pids; do wait $pid; status=$?; done
exit $status
"""


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


@pytest.mark.parametrize(
    ("script", "usage"),
    [
        ("node.sh", "launch/node.sh [--dry-run] CONFIG WORKDIR"),
        ("tpu_pod.sh", "launch/tpu_pod.sh [--dry-run] CONFIG WORKDIR"),
        ("kubernetes.sh", "launch/kubernetes.sh [--dry-run] CONFIG WORKDIR"),
    ],
)
def test_scripts_explain_themselves_without_arguments(script: str, usage: str) -> None:
    result = run(script)
    assert result.returncode == 2
    assert usage in result.stderr


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


def stand_in(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A checkout whose run does what $BEHAVIOUR says; ``scontrol`` writes down its calls."""
    shutil.copytree(ROOT / "launch", tmp_path / "launch")
    stand_in(tmp_path / ".venv" / "bin" / "python", RUN)
    stand_in(tmp_path / "bin" / "make", "exit 0")
    nodes = 'if [ "$1" = show ]; then echo node7; echo node8; else echo "$@" >> calls; fi'
    stand_in(tmp_path / "bin" / "scontrol", nodes)
    stand_in(tmp_path / "bin" / "scancel", 'echo "$@" >> cancelled; kill -TERM $(cat pids)')
    stand_in(tmp_path / "bin" / "srun", SRUN)
    return tmp_path


def start(cluster: Path, behaviour: str, *options: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [cluster / "launch" / "slurm.sh", *options, *ARGUMENTS],
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PATH": f"{cluster / 'bin'}:{os.environ['PATH']}",
            "SLURM_SUBMIT_DIR": str(cluster),
            "SLURM_JOB_ID": "17",
            "BEHAVIOUR": behaviour,
            **environment,
        },
    )


TASKS = {"SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "node[7-8]"}


def test_slurm_passes_the_signal_on_and_requeues(cluster: Path) -> None:
    process = start(cluster, "work")
    assert process.stdout is not None
    assert "-m atomjax.launch" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert "saved" in output
    assert process.returncode == 143
    assert (cluster / "calls").read_text() == "requeue 17\n"


@pytest.mark.parametrize("status", [0, 1])
def test_slurm_does_not_requeue_a_run_that_ended(cluster: Path, status: int) -> None:
    process = start(cluster, str(status))
    process.communicate(timeout=60)
    assert process.returncode == status
    assert not (cluster / "calls").exists()


def test_slurm_starts_and_stops_a_process_for_each_task(cluster: Path) -> None:
    process = start(cluster, "work", **TASKS)
    assert process.stdout is not None
    lines = sorted(process.stdout.readline() for _ in range(2))
    expected = "-m atomjax.launch --config configs/quickstart.py --workdir runs/a b --config.seed=1"
    for i, line in enumerate(lines):
        assert line == f"started {i}/2 at node7:20017 {expected}\n"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert output.count("saved") == 2
    assert process.returncode == 143
    assert (cluster / "cancelled").read_text() == "--signal=TERM 17\n"
    assert (cluster / "calls").read_text() == "requeue 17\n"


@pytest.mark.parametrize(("restarts", "requeued"), [("9", True), ("10", False)])
def test_slurm_requeues_after_a_lost_process_so_many_times(cluster, restarts, requeued) -> None:
    process = start(cluster, "75", **TASKS, SLURM_RESTART_COUNT=restarts)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "a process was lost (status 75)" in output
    assert (cluster / "calls").exists() == requeued


def test_slurm_dry_run_of_several_tasks_starts_nothing(cluster: Path) -> None:
    process = start(cluster, "work", "--dry-run", **TASKS)
    output, _ = process.communicate(timeout=60)
    install, tasks = output.splitlines()
    assert install.startswith("make --no-print-directory install")
    assert tasks.startswith("JAX_COORDINATOR_ADDRESS=node7:20017 JAX_NUM_PROCESSES=2 srun ")
    assert "JAX_PROCESS_ID=" in tasks
    assert not (cluster / "pids").exists()


def test_kubernetes_dry_run_is_a_service_and_an_indexed_job() -> None:
    result = run("kubernetes.sh", "--dry-run", *SHARED, **JOB)
    assert result.returncode == 0, result.stderr
    service, job = yaml.safe_load_all(result.stdout)
    name = job["metadata"]["name"]
    assert service["metadata"]["name"] == job["spec"]["template"]["spec"]["subdomain"] == name
    assert service["spec"]["selector"] == {"job-name": name}
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 4
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "registry/atomjax:1"
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    command = [".venv/bin/python", "-m", "atomjax.launch", "--config", SHARED[0]]
    assert container["command"] == [*command, "--workdir", *SHARED[1:]]
    environment = {item["name"]: item.get("value") for item in container["env"]}
    assert environment["JAX_COORDINATOR_ADDRESS"] == f"{name}-0.{name}:8476"
    assert environment["JAX_NUM_PROCESSES"] == "4"
    assert "JAX_PROCESS_ID" in environment
    rules = {
        rule["action"]: rule["onExitCodes"]["values"]
        for rule in job["spec"]["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    }
    assert rules == {"Ignore": [143], "FailJob": [1, 2]}
    # Each of ten restarts is the end of all four.
    assert job["spec"]["backoffLimit"] == 40
    assert "${NAME}" not in result.stdout


@pytest.mark.parametrize(("script", "values"), [("kubernetes.sh", JOB), ("tpu_pod.sh", POD)])
def test_workdir_has_to_be_shared(script: str, values: dict[str, str]) -> None:
    result = run(script, "--dry-run", "configs/quickstart.py", "runs/a", **values)
    assert result.returncode == 2
    assert "WORKDIR=runs/a is not under /shared" in result.stderr


def test_tpu_pod_dry_run_prints_the_commands() -> None:
    result = run("tpu_pod.sh", "--dry-run", *SHARED, **POD)
    assert result.returncode == 0, result.stderr
    describe, create, pack, copy, prepare, train = result.stdout.splitlines()
    assert "describe t --zone=z" in describe
    assert "--accelerator-type=v5litepod-16 --version=v2 --spot" in create
    assert pack.startswith("git archive")
    assert "--worker=all" in copy
    assert "mount" in prepare
    assert "files:/share" in prepare
    assert "install\\ EXTRA=tpu" in prepare
    assert "--worker=all" in train
    assert "atomjax.launch\\ --distributed\\ --config\\ configs/quickstart.py" in train


# The first training is preempted, the second comes through.
GCLOUD = """
echo "$*" >> calls
case "$*" in
*describe*) cat state 2>/dev/null ;;
*create*) echo READY > state ;;
*delete*) rm state ;;
*--command=cd*)
    if [ -e trained ]; then
        for host in 0 1; do echo "atomjax ended with status $LAST"; done
    else
        touch trained; echo PREEMPTED > state; exit 255
    fi ;;
esac
"""


@pytest.mark.parametrize(("last", "status"), [("0", 0), ("1", 1)])
def test_tpu_pod_makes_the_slice_anew_after_a_preemption(cluster, last, status) -> None:
    stand_in(cluster / "bin" / "gcloud", GCLOUD)
    stand_in(cluster / "bin" / "git", "exit 0")
    path = f"{cluster / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        [cluster / "launch" / "tpu_pod.sh", *SHARED],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **POD, "PATH": path, "PAUSE": "0", "LAST": last},
    )
    assert done.returncode == status, done.stderr
    assert "continuing from the last checkpoint" in done.stdout
    calls = [line.split()[3] for line in (cluster / "calls").read_text().splitlines()]
    first = ["describe", "create", "scp", "ssh", "ssh"]
    assert calls == [*first, "describe", "delete", *first[1:]]
