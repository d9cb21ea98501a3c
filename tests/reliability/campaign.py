"""Damaged inputs, each read in a process of its own, and how that ended.

A trial is told by the seed of the campaign and its number alone. Processes are forked from one that
has imported everything and started nothing.
"""

import contextlib
import ctypes
import faulthandler
import os
import resource
import select
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.reliability.inputs import INPUTS, Input, digest
from tests.reliability.mutations import MUTATIONS

# How a trial may end; the first two are right, and what is not forbidden is told from damage only
# where a format can tell.
OUTCOMES: tuple[str, ...] = (
    "clear error",
    "harmless",
    "silent change",
    "error without file",
    "traceback",
    "hang",
    "memory",
    "crash",
)
FORBIDDEN = ("traceback", "hang", "memory", "crash")
BOMB = "bomb"
SECONDS = 20.0
# What a reader of a small file may take beside what was there, bytes.
MEMORY = 1 << 29
# A slow input is tried once where others are tried so often.
SLOW_SHARE = 3


@dataclass(frozen=True)
class Trial:
    """One damaged input and how reading it ended.

    Attributes:
        number: of the trial, which with the seed makes it again.
        name: of the input.
        file: that was damaged, in the input's folder.
        mutation: what was done to it.
        outcome: one of `OUTCOMES`.
        message: what was said.
    """

    number: int
    name: str
    file: str
    mutation: str
    outcome: str
    message: str

    @property
    def forbidden(self) -> bool:
        """True for an end that must not be."""
        silent = self.outcome in ("silent change", "error without file")
        return self.outcome in FORBIDDEN or (silent and INPUTS[self.name].own)


@dataclass
class Campaign:
    """Trials over some inputs.

    Args:
        folder: to work in.
        seed: of the damage.
        names: of the inputs; all where empty.

    Attributes:
        trials: that were made.
    """

    folder: Path
    seed: int = 0
    names: Sequence[str] = ()
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._names = [name for name in INPUTS if not self.names or name in self.names]
        self._digests: dict[str, str] = {}
        for name in self._names:
            self._folder(name).mkdir(parents=True)
            for call in (INPUTS[name].write, INPUTS[name].read):
                outcome, said = self._apart(name, call)
                if outcome != "read":
                    raise RuntimeError(f"{name}: the undamaged input is no good: {outcome}, {said}")
            self._digests[name] = said

    def run(self, *, seconds: float = np.inf, count: int = sys.maxsize) -> None:
        """Make trials until the time or their number is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and len(self.trials) < count:
            self.trials.append(self.trial(len(self.trials)))

    def counts(self) -> dict[str, dict[str, int]]:
        """For each input the numbers of outcomes."""
        found = {name: dict.fromkeys(OUTCOMES, 0) for name in self._names}
        for trial in self.trials:
            found[trial.name][trial.outcome] += 1
        return found

    def by_mutation(self) -> dict[str, dict[str, int]]:
        """The same for each mutation."""
        pairs = Counter((trial.mutation, trial.outcome) for trial in self.trials)
        names = [*MUTATIONS, BOMB]
        return {name: {o: pairs[name, o] for o in OUTCOMES} for name in names}

    def trial(self, number: int) -> Trial:
        """One damaged input, read."""
        rng = np.random.default_rng([self.seed, number])
        name = self._names[int(rng.integers(len(self._names)))]
        while INPUTS[name].slow and len(self._names) > 1 and rng.random() * SLOW_SHARE > 1:
            name = self._names[int(rng.integers(len(self._names)))]
        bombs = INPUTS[name].bombs
        if bombs and rng.random() < 0.04:
            return self._bomb(number, name, bombs[int(rng.integers(len(bombs)))])
        folder = self._folder(name)
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)
        path = files[int(rng.integers(len(files)))]
        mutation = list(MUTATIONS)[int(rng.integers(len(MUTATIONS)))]
        whole = path.read_bytes()
        damaged = MUTATIONS[mutation](rng, whole)
        # A new file in its place: readers may have mapped the other one.
        path.unlink()
        path.write_bytes(damaged)
        try:
            outcome, said = self._read(name, folder, damaged == whole)
        finally:
            path.unlink(missing_ok=True)
            path.write_bytes(whole)
        file = path.relative_to(folder).as_posix()
        return Trial(number, name, file, mutation, outcome, said)

    def _bomb(self, number: int, name: str, write: Callable[[Path], Any]) -> Trial:
        folder = self.folder / "bomb"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write(folder)
        outcome, said = self._read(name, folder, False)
        file = ", ".join(path.name for path in folder.iterdir())
        # Whatever a bomb holds is no data set.
        outcome = "harmless" if outcome == "silent change" else outcome
        return Trial(number, name, file, BOMB, outcome, said)

    def _read(self, name: str, folder: Path, same: bool) -> tuple[str, str]:
        outcome, said = read_apart(INPUTS[name], folder)
        if outcome == "read":
            right = same or said == self._digests[name]
            return ("harmless" if right else "silent change"), ""
        return outcome, said

    def _folder(self, name: str) -> Path:
        return self.folder / "".join(c if c.isalnum() else "_" for c in name)

    def _apart(self, name: str, call: Callable[[Path], Any]) -> tuple[str, str]:
        folder = self._folder(name)
        return in_process(lambda: digest(call(folder)), folder, seconds=120, memory=1 << 33)


def read_apart(one: Input, folder: Path) -> tuple[str, str]:
    """Outcome of reading an input in a process of its own, or "read" and the digest."""
    return in_process(lambda: digest(one.read(folder)), folder, seconds=SECONDS, memory=MEMORY)


def in_process(
    call: Callable[[], str], folder: Path, *, seconds: float, memory: int
) -> tuple[str, str]:
    """Outcome of a call in a forked process whose memory and time are bounded.

    Returns:
        "read" and the result, or one of `OUTCOMES` and what was said.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os._exit(_child(call, folder, writer, memory))
    os.close(writer)
    said = b""
    deadline = time.monotonic() + seconds
    ended = False
    while not ended and (left := deadline - time.monotonic()) > 0:
        if select.select([reader], [], [], left)[0]:
            chunk = os.read(reader, 1 << 16)
            said, ended = said + chunk, not chunk
    os.close(reader)
    if not ended:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    if not ended:
        return "hang", f"no end after {seconds:g} s; {usage.ru_maxrss >> 10} MiB"
    if os.WIFSIGNALED(status):
        return "crash", signal.Signals(os.WTERMSIG(status)).name
    outcome, _, text = said.decode(errors="replace").partition("\n")
    if not outcome:
        return "crash", f"exit status {os.waitstatus_to_exitcode(status)}"
    return outcome, text


def _child(call: Callable[[], str], folder: Path, writer: int, memory: int) -> int:
    with contextlib.suppress(Exception), _quiet():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.disable()
        # Else a call could live in what the parent freed, and neither limit would see it.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        limit = _data_bytes() + memory
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            outcome, text = "read", call()
        except BaseException as error:  # noqa: BLE001
            outcome, text = _judge(error, folder)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        if grown > memory:
            outcome, text = "memory", f"{grown >> 20} MiB for a small file; {text}"
        os.write(writer, f"{outcome}\n{text[:2000]}".encode(errors="replace")[:60000])
    return 0


def _judge(error: BaseException, folder: Path) -> tuple[str, str]:
    """Check for an error of ours that names the place."""
    text = f"{type(error).__name__}: {error}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return "memory", text
        cause = cause.__cause__ or cause.__context__
    ours = type(error).__module__.startswith("atomjax") or isinstance(error, FileNotFoundError)
    if not ours:
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
        return "traceback", f"{text} ({places})"
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    named = any(name in str(error) for name in names) or str(folder) in str(error)
    return ("clear error" if named else "error without file"), text


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings and what libraries write, which goes nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _data_bytes() -> int:
    """Private memory of this process that RLIMIT_DATA counts."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) << 10
    raise RuntimeError("/proc/self/status has no VmData; the campaign needs Linux")
