"""Processes that work side by side, each on its share of the cores, and end with this one.

A worker does one piece of work after the other, so that what it has imported and compiled serves
the next. What it prints goes to a log; how far it is, it tells this process.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jax

from atomjax.runtime.allocator import keep_freed_memory
from atomjax.runtime.cluster.preemption import Preemption, RunInterrupted
from atomjax.runtime.progress import Display, Told, Tracker

# Options of JAX that may have been set in this process alone.
_SHARED = (
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
)
# Seconds between two messages about one and the same thing.
_INTERVAL = 0.5


def core_shares(count: int) -> list[set[int]]:
    """The cores of each of ``count`` workers; empty sets where the platform pins nothing."""
    if not hasattr(os, "sched_getaffinity"):
        return [set() for _ in range(count)]
    cores = sorted(os.sched_getaffinity(0))
    if count > len(cores):
        return [{cores[i % len(cores)]} for i in range(count)]
    return [set(cores[i * len(cores) // count : (i + 1) * len(cores) // count])
            for i in range(count)]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of a piece of work that has ended."""

    name: str  # name of the work
    value: Any = None  # return value of its function
    error: str | None = None  # the message of its error; None where it was done
    log: Path  # file with its output, including a traceback


class Workers:
    """A pool of worker processes; a context manager that ends them in any case.

    Called from a script, that needs its ``if __name__ == "__main__"``: workers import it.
    """

    def __init__(self, count: int, display: Display):
        self._workers = [_Worker(cores) for cores in core_shares(count)]
        self._display = display
        # Bar of each work, its description, and the units done.
        self._bars: dict[str, tuple[contextlib.ExitStack, Tracker, str, int]] = {}

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
        for name in list(self._bars):
            self._end_bar(name)

    @property
    def running(self) -> list[str]:
        """Names of the unfinished works."""
        return [worker.name for worker in self._workers if worker.future is not None]

    @property
    def free(self) -> int:
        """Number of idle workers."""
        return len(self._workers) - len(self.running)

    def start(self, name: str, log: Path, function: Callable[..., Any], *arguments: Any) -> None:
        """Starts a function in a free worker.

        Args:
            name: name of the work.
            log: file that the output is appended to.
            function: function of a module, which the worker imports; takes a callback for its
                progress (:data:`atomjax.runtime.progress.Told`), then the arguments.
            arguments: plain data and settings.
        """
        free = next(worker for worker in self._workers if worker.future is None)
        free.start(name, log, function, arguments)

    def wait(self, seconds: float = 0.2) -> list[Outcome]:
        """The works that end within some time.

        Raises:
            RunInterrupted: SIGTERM came; all works saved their state, as after Ctrl-C.
        """
        try:
            with Preemption() as preemption:
                outcomes = self._wait(seconds)
                ended = preemption.requested()
        except KeyboardInterrupt:
            self._stop()
            raise
        if ended:
            self._stop()
            raise RunInterrupted("SIGTERM: all states are saved; the same command resumes")
        return outcomes

    def _wait(self, seconds: float) -> list[Outcome]:
        futures = [worker.future for worker in self._workers if worker.future is not None]
        wait(futures, timeout=seconds, return_when="FIRST_COMPLETED")
        for worker in self._workers:
            for message in worker.messages():
                self._show(worker.name, *message)
        done = [w for w in self._workers if w.future is not None and w.future.done()]
        for worker in done:
            self._end_bar(worker.name)
        return [worker.take_outcome() for worker in done]

    def _stop(self) -> None:
        """Asks every worker to save its state and end, and waits until they have."""
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        while self.running:
            self._wait(0.2)

    def _show(
        self, name: str, description: str, done: int, total: int, fields: Mapping[str, Any]
    ) -> None:
        shown = self._bars.get(name)
        if shown is None or shown[2] != description or done < shown[3]:
            self._end_bar(name)
            stack = contextlib.ExitStack()
            track = self._display.track(total, f"{name}: {description}", done)
            shown = stack, stack.enter_context(track), description, done
        shown[1].advance(done - shown[3], **fields)
        self._bars[name] = (*shown[:3], done)

    def _end_bar(self, name: str) -> None:
        if name in self._bars:
            self._bars.pop(name)[0].close()


class _Worker:
    """One process, started with its first work, and again after it died."""

    def __init__(self, cores: set[int]):
        self.name = ""
        self.future: Future[tuple[Any, str | None]] | None = None
        self._cores, self._log = cores, Path()
        self._executor: ProcessPoolExecutor | None = None
        self._reader: Connection | None = None
        self._pid: int | None = None

    def start(
        self, name: str, log: Path, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> None:
        self.name, self._log = name, log
        if self._executor is None:
            # Neither forked nor from a server: this process has threads, and the worker must end
            # with it.
            context = multiprocessing.get_context("spawn")
            self._reader, writer = context.Pipe(duplex=False)
            options = {name: getattr(jax.config, name) for name in _SHARED}
            self._executor = ProcessPoolExecutor(
                1,
                mp_context=context,
                initializer=_begin,
                initargs=(writer, self._cores, options),
            )
        self.future = self._executor.submit(_work, log, function, arguments)

    def messages(self) -> Iterator[tuple[str, int, int, Mapping[str, Any]]]:
        """Messages from the worker since the last call."""
        with contextlib.suppress(EOFError):
            while self._reader is not None and self._reader.poll():
                message = self._reader.recv()
                if isinstance(message, int):
                    self._pid = message
                else:
                    yield message

    def take_outcome(self) -> Outcome:
        """The outcome of work that is done."""
        assert self.future is not None
        future, self.future = self.future, None
        value, error = None, None
        try:
            value, error = future.result()
        except BrokenProcessPool:
            error = "the process was killed, perhaps for want of memory"
            self.end()
        return Outcome(name=self.name, value=value, error=error, log=self._log)

    def signal(self, number: int) -> None:
        """Sends the process a signal, once it has begun."""
        if self._executor is None or self._reader is None:
            return
        if self._pid is None and self._reader.poll(60):
            list(self.messages())
        with contextlib.suppress(ProcessLookupError):
            if self._pid is not None:
                os.kill(self._pid, number)

    def end(self) -> None:
        """Ends the process; one that works is killed."""
        if self._executor is None:
            return
        if self.future is not None:
            self.signal(signal.SIGKILL)
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._executor, self._reader, self._pid, self.future = None, None, None, None


_writer: Connection | None = None


def _begin(writer: Connection, cores: set[int], options: Mapping[str, Any]) -> None:
    """Makes this process a worker, before JAX looks how many cores there are."""
    global _writer
    _writer = writer
    keep_freed_memory()
    # Ctrl-C reaches all processes of a terminal; the parent passes it on as SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if cores:
        os.sched_setaffinity(0, cores)
    for name, value in options.items():
        jax.config.update(name, value)
    writer.send(os.getpid())
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    _wait_for_parent()
    os.kill(os.getpid(), signal.SIGTERM)


def _wait_for_parent(seconds: float | None = None) -> bool:
    """Waits until the parent has ended; whether it has."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return False
    parent.join(seconds)
    return not parent.is_alive()


def _work(
    log: Path, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[Any, str | None]:
    """The value of a function, or the message of its error."""
    with _printed_to(log):
        try:
            return function(_teller(), *arguments), None
        # SystemExit too, which a training raises once it has saved its state.
        except BaseException as error:  # noqa: BLE001
            traceback.print_exc()
            return None, f"{type(error).__name__}: {error}"
        finally:
            if _wait_for_parent(0):
                os._exit(1)


def _teller() -> Told:
    last: list[Any] = ["", 0.0]

    def tell(description: str, done: int, total: int, fields: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if description == last[0] and now - last[1] < _INTERVAL and done < total:
            return
        last[:] = description, now
        assert _writer is not None
        # Without a parent there is no reader.
        with contextlib.suppress(BrokenPipeError):
            _writer.send((description, done, total, dict(fields)))

    return tell


@contextlib.contextmanager
def _printed_to(log: Path) -> Iterator[None]:
    """Appends to a file what this process prints, also from other languages."""
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(1), os.dup(2)
    with log.open("a") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, other in zip((1, 2), kept, strict=True):
            os.dup2(other, descriptor)
            os.close(other)
