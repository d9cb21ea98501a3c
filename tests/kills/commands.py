"""Commands of a campaign, and the process that starts them."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]


class Command:
    """A running command.

    Args:
        server: process that started it and says how it ended.
        log: file with its output.

    Attributes:
        process: its number, which is that of its session too.
    """

    def __init__(self, server: "subprocess.Popen[bytes]", log: Path):
        assert server.stdout is not None
        self._answers, self._log, self._status = server.stdout, log, None
        self.process = int(self._answers.readline())

    def wait(self, seconds: float) -> int | None:
        """The exit status, or None where it has not ended within some time."""
        if self._status is None and select.select([self._answers], [], [], seconds)[0]:
            self._status = int(self._answers.readline())
        return self._status

    @property
    def has_ended(self) -> bool:
        """True once the process has ended."""
        return self.wait(0) is not None

    def holds(self, lock: Path) -> bool:
        """Check whether it holds the lock of a workdir, which says so."""
        try:
            return json.loads(lock.read_text())["process"] == self.process
        except (OSError, ValueError):
            return False

    def others(self) -> dict[int, str]:
        """Processes that it has started and that still run, with their commands."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.process and state != "Z":
                    words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(folder.name)] = words[:200]
        return found

    def said(self) -> str:
        """The end of its output."""
        return self._log.read_text()[-4000:]


class Server:
    """A process from which commands are forked; see ``tests.kills.server``.

    Args:
        folder: folder of the campaign.
        name: name for its files.

    Attributes:
        memory: folder of the shared memory that its commands have alone; None where such is not to
            be had.
    """

    def __init__(self, folder: Path, name: str):
        self._log, self._temporary = folder / f"{name}.log", folder / "tmp" / name
        self._temporary.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kills.server"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(self._temporary), "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Without a buffer, in which an answer would be hidden from `select`.
            bufsize=0,
        )
        assert self._process.stdout is not None
        alone = self._process.stdout.readline() == b"alone\n"
        self.memory = Path(f"/proc/{self._process.pid}/root/dev/shm") if alone else None
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def start(self, arguments: list[str]) -> Command:
        """Starts ``python -m`` with these arguments."""
        self._log.unlink(missing_ok=True)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(self._log), *arguments]).encode() + b"\n")
        return Command(self._process, self._log)

    def temporary_files(self) -> list[str]:
        """Names of what is in the folder of temporary files, which is cleared."""
        found = sorted(path.name for path in self._temporary.iterdir())
        shutil.rmtree(self._temporary)
        self._temporary.mkdir()
        return found
