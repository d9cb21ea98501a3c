"""Commands killed at random moments, then run to their end and compared with unbroken ones."""

import os
import shutil
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.kills.commands import Command, Server
from tests.kills.results import digests, temporary_files
from tests.kills.workflows import WORKFLOWS, write_inputs

SIGNALS = (signal.SIGKILL, signal.SIGTERM)
# What none may do or leave.
FAULTS = ("error", "other result", "process left", "memory left", "file left")
# Seconds that processes get to end after the one that they work for.
ENDING = 60.0
LONGEST = 1800.0
FIRST = "pretrain"


@dataclass
class Campaign:
    """Kills spread over workflows.

    Args:
        folder: folder to work in.
        seed: seed of the moments.
        names: names of the workflows.

    Attributes:
        counts: for each workflow, the numbers of kills, of runs to the end and of faults.
        faults: what went wrong, in words.
        memory_counted: whether shared memory that was left would have been seen.
    """

    folder: Path
    seed: int = 0
    names: Sequence[str] = tuple(WORKFLOWS)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    memory_counted: bool = True

    def __post_init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._expected: dict[str, dict[str, str]] = {}

    def run(self, kills: int, jobs: int = 1) -> None:
        """Makes so many kills, in so many workflows at once."""
        self.folder.mkdir(exist_ok=True)
        write_inputs(self.folder)
        columns = [*(one.name for one in SIGNALS), "ran to the end", *FAULTS]
        shares = {}
        for i, name in enumerate(self.names):
            self.counts[name] = dict.fromkeys(columns, 0)
            shares[name] = kills * (i + 1) // len(self.names) - kills * i // len(self.names)
        # Others begin from its checkpoint.
        with Server(self.folder, FIRST) as server:
            self._run_unbroken(server, FIRST)
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(self._run_one, self.names, shares.values()))

    def _run_one(self, name: str, kills: int) -> None:
        with Server(self.folder, name) as server:
            self.memory_counted &= server.memory is not None
            if name != FIRST:
                self._run_unbroken(server, name)
            self._kill(server, name, kills)

    def _run_unbroken(self, server: Server, name: str) -> None:
        results = self.folder / "unbroken" / name
        began = time.monotonic()
        command = server.start(WORKFLOWS[name].arguments(self.folder, results))
        if command.wait(LONGEST) != 0:
            raise RuntimeError(f"{name} fails without a kill:\n{command.said()}")
        self._seconds[name] = time.monotonic() - began
        self._expected[name] = digests(results)
        print(f"{name}: {self._seconds[name]:.1f} s without a kill", flush=True)

    def _kill(self, server: Server, name: str, kills: int) -> None:
        """Kills a workflow so often, and lets it go on after each time."""
        rng = np.random.default_rng([self.seed, list(WORKFLOWS).index(name)])
        counts, results = self.counts[name], self.folder / "killed" / name
        done, fresh = 0, True
        while done < kills or not fresh:
            # The later starts have less to do; nor do they compile.
            moment = rng.random() * self._seconds[name] * (0.8 if fresh else 0.4)
            number = SIGNALS[(done + len(name)) % 2]
            command = server.start(WORKFLOWS[name].arguments(self.folder, results))
            began = time.monotonic()
            self._wait_until_begun(command, name, results)
            killed = done < kills and command.wait(moment) is None
            if killed:
                os.kill(command.process, number)
                done, counts[number.name] = done + 1, counts[number.name] + 1
            status = command.wait(LONGEST)
            self._look_after(server, name, command)
            fresh = not results.exists() or self._end(server, name, command, results)
            if fresh and not killed:
                self._seconds[name] = min(self._seconds[name], time.monotonic() - began)
            print(f"{name}: {done} of {kills} kills, last status {status}", flush=True)

    def _wait_until_begun(self, command: Command, name: str, results: Path) -> None:
        lock = WORKFLOWS[name].lock
        while lock is not None and not command.holds(results / lock) and not command.has_ended:
            time.sleep(0.005)

    def _look_after(self, server: Server, name: str, command: Command) -> None:
        """Notes what a command has left behind when its processes have had time to end."""
        deadline = time.monotonic() + ENDING
        while (others := command.others()) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process, words in others.items():
            self._fault(name, "process left", words)
            os.kill(process, signal.SIGKILL)
        for path in server.memory.iterdir() if server.memory else ():
            self._fault(name, "memory left", path.name)
            path.unlink()

    def _end(self, server: Server, name: str, command: Command, results: Path) -> bool:
        """Check whether a command came to its end; its results are compared and removed then."""
        status = command.wait(0)
        if status in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM):
            return False
        if status == 0:
            self.counts[name]["ran to the end"] += 1
            self._compare(server, name, results)
        else:
            self._fault(name, "error", f"status {status}: {command.said()}")
        shutil.rmtree(results)
        return True

    def _compare(self, server: Server, name: str, results: Path) -> None:
        """Compares what a workflow has made with what it makes unbroken."""
        found, expected = digests(results), self._expected[name]
        left = [*temporary_files(results), *server.temporary_files()]
        for path in left:
            self._fault(name, "file left", path)
        for path in sorted(expected.keys() | found.keys() - set(left)):
            if found.get(path) != expected.get(path):
                self._fault(name, "other result", path)

    def _fault(self, name: str, kind: str, words: str) -> None:
        self.counts[name][kind] += 1
        self.faults.append(f"{name}: {kind}: {words}")
        print(self.faults[-1], flush=True)
