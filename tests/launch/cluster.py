"""A Slurm cluster of two nodes on this machine, for tests, and the jobs that are sent to it.

Everything that it writes lies in one folder, and it listens on ports of its own, so that it changes
nothing of a Slurm that is there already.
"""

import contextlib
import getpass
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "sinfo")
# Daemons are not on the path of everybody.
SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
# The first task's node is the address of the coordinator, so its name has to be one that resolves.
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
MpiDefault=none
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=1 RealMemory=1000
NodeName={host}-second NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=1 RealMemory=1000
PartitionName=all Nodes=ALL Default=YES State=UP
"""


class Cluster:
    """The cluster's commands.

    Args:
        folder: folder of its configuration and logs.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": SEARCHED,
            "SLURM_CONF": str(folder / "slurm.conf"),
        }

    def call(self, *command: str | Path, cwd: Path | None = None, **options: str) -> str:
        """Output of one of Slurm's commands; ``options`` are added to its environment."""
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**self.environment, **options},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}\n{self.logs()}"
        return done.stdout

    def fields(self, job: str) -> dict[str, str]:
        """Fields of a job, as Slurm gives them."""
        said = self.call("scontrol", "--oneliner", "show", "job", job)
        return dict(re.findall(r"(\w+)=(\S*)", said))

    def wait(
        self, job: str, reached: Callable[[dict[str, str]], bool], log: Path, seconds: float = 600
    ) -> dict[str, str]:
        """Fields of a job once they are those that are waited for."""
        deadline = time.monotonic() + seconds
        while not reached(fields := self.fields(job)):
            said = log.read_text() if log.exists() else ""
            assert time.monotonic() < deadline, f"{fields}\n{said}\n{self.logs()}"
            time.sleep(0.2)
        return fields

    def logs(self) -> str:
        """The end of every log of the cluster."""
        paths = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text()[-2000:]}" for path in paths)


def reason_to_skip() -> str | None:
    """The reason why no cluster can be started here, or None."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=SEARCHED) is None]
    if missing:
        return f"Slurm's {', '.join(missing)} not installed (Debian: slurm-wlm and munge)"
    if os.geteuid() != 0:
        return "nodes of Slurm start jobs as root alone"
    try:
        socket.getaddrinfo(_host(), None)
    except OSError:
        return f"this machine's name, {_host()}, has no address"
    return None


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster, with its daemons until the context ends.

    Args:
        folder: folder to write to, whose path is short enough for that of a socket.
    """
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    with contextlib.ExitStack() as held:
        ports = [held.enter_context(_free_port()) for _ in range(3)]
        names = dict(zip(("control", "first", "second"), ports, strict=True))
        text = CONFIG.format(host=_host(), user=getpass.getuser(), folder=folder, **names)
    (folder / "slurm.conf").write_text(text)
    cluster = Cluster(folder)
    with contextlib.ExitStack() as daemons:
        for command in (
            ["munged", "--foreground", "--force", *_munge_files(folder)],
            ["slurmctld", "-D", "-c"],
            ["slurmd", "-D", "-N", _host()],
            ["slurmd", "-D", "-N", f"{_host()}-second"],
        ):
            daemons.enter_context(_daemon(cluster, command))
        _wait_for_nodes(cluster)
        yield cluster
        # Jobs that a failed test left.
        cluster.call("scancel", "--full", "--user", getpass.getuser())


def _munge_files(folder: Path) -> list[str]:
    names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
    return [
        *(f"--{option}={folder}/munge.{name}" for option, name in names.items()),
        f"--log-file={folder}/munged.log",
    ]


@contextlib.contextmanager
def _daemon(cluster: Cluster, command: list[str]) -> Iterator[None]:
    with (cluster.folder / "daemons.log").open("a") as log:
        daemon = subprocess.Popen(
            command, env=cluster.environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        daemon.terminate()
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _wait_for_nodes(cluster: Cluster) -> None:
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%t %D"],
            env=cluster.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.stdout.split() == ["idle", "2"]:
            return
        assert time.monotonic() < deadline, done.stdout + done.stderr + cluster.logs()
        time.sleep(0.2)


@contextlib.contextmanager
def _free_port() -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("", 0))
        yield free.getsockname()[1]


def _host() -> str:
    return socket.gethostname().partition(".")[0]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster that the tests of a module share."""
    reason = reason_to_skip()
    if reason is not None:
        pytest.skip(reason)
    # Not a folder of pytest's: the path of a socket has at most 108 characters.
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as folder,
        running_cluster(Path(folder)) as cluster,
    ):
        yield cluster
