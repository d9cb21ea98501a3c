"""Several real processes of one run on this machine, for tests."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Long beside the pauses of a busy machine.
HEARTBEAT = 60


def with_devices(count: int) -> dict[str, str]:
    """The environment of a process that sees so many devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    return {**os.environ, "XLA_FLAGS": flags.strip(), "COLUMNS": "200"}


class Processes:
    """``count`` processes of one command, each in a folder of ``folders`` where these are given."""

    def __init__(
        self,
        count: int,
        config: Path,
        workdir: Path,
        *options: str,
        folders: Sequence[Path] | None = None,
    ):
        places = [ROOT] * count if folders is None else folders
        for place in places:
            place.mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "atomjax.launch", "--config", str(config)]
        command += ["--workdir", str(workdir), "--coordinator", f"localhost:{port}"]
        command += [f"--num-processes={count}", f"--heartbeat-timeout={HEARTBEAT}", *options]
        self.workdir = workdir
        self._logs = [config.with_name(f"{workdir.name}.{count}.{i}.log") for i in range(count)]
        self.all = [
            subprocess.Popen(
                [*command, f"--process-id={i}"],
                cwd=place,
                env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
                stdout=log.open("w"),
                stderr=subprocess.STDOUT,
            )
            for i, (log, place) in enumerate(zip(self._logs, places, strict=True))
        ]

    def finish(self, seconds: float = 600) -> list[int]:
        """Exit statuses; none may take longer than ``seconds``."""
        deadline = time.monotonic() + seconds
        try:
            return [p.wait(max(deadline - time.monotonic(), 0.1)) for p in self.all]
        except subprocess.TimeoutExpired:
            raise AssertionError("\n".join(self.logs())) from None
        finally:
            for process in self.all:
                process.kill()

    def logs(self) -> list[str]:
        return [f"--- {log.name}\n{log.read_text()[-4000:]}" for log in self._logs]

    def wait_for_step(self, step: int) -> None:
        deadline = time.monotonic() + 600
        while max(logged_steps(self.workdir), default=0) < step:
            running = [process.poll() is None for process in self.all]
            assert all(running), "\n".join(self.logs())
            assert time.monotonic() < deadline, "\n".join(self.logs())
            time.sleep(0.005)


def records(workdir: Path) -> list[dict[str, Any]]:
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def logged_steps(workdir: Path) -> list[int]:
    return [record["step"] for record in records(workdir)]


def write_config(path: Path, config: dict[str, Any]) -> Path:
    path.write_text(f"def get_config():\n    return {config!r}\n")
    return path


def wait_until(true, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def has_ended(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"
