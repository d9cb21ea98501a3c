"""Worker processes: started fresh, one thread each, fed with tasks, ended whatever happens.

They are plain subprocesses that run the worker module, not forks or copies of the caller: a script
needs no ``if __name__ == "__main__"``, and a caller with threads or an accelerator stays safe.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import atomjax
from atomjax.structures.generate.errors import GenerateError

WORKER_MODULE = "atomjax.structures.generate.pool.worker"
# One calculation is too small to share between threads; workers share the cores instead.
SINGLE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_requests(
    requests: Sequence[Mapping[str, Any]],
    workers: int,
    done: Callable[[Mapping[str, Any]], None],
) -> None:
    """Have every request answered by some worker.

    Args:
        requests: arguments of the worker module's `answer`.
        workers: number of processes.
        done: called with each answer, from one thread at a time.

    Raises:
        GenerateError: a worker says that a task failed, or dies.
    """
    waiting: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
    for request in requests:
        waiting.put(request)
    stop, lock = threading.Event(), threading.Lock()

    def work(worker: _Worker) -> None:
        while not stop.is_set():
            try:
                request = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                reply = worker.ask(request)
            except GenerateError:
                stop.set()
                raise
            with lock:
                done(reply)

    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(_Worker()) for _ in range(min(workers, len(requests)))]
        with ThreadPoolExecutor(max_workers=max(len(started), 1)) as threads:
            futures = [threads.submit(work, worker) for worker in started]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                # The threads wait for answers: without processes they return at once.
                stop.set()
                for worker in started:
                    worker.kill()
                raise


class _Worker:
    """One process; a context manager that ends it."""

    def __init__(self) -> None:
        # Closed with the worker; a pipe would fill up unread.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        root = str(Path(atomjax.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", WORKER_MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **SINGLE_THREAD, "PYTHONPATH": path},
            text=True,
        )

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._errors.close()

    def kill(self) -> None:
        """End the process now; it holds nothing that could be lost."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer; raises GenerateError where that fails."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        if not line:
            raise GenerateError(
                f"a labelling process died on task {request['task']} of kind"
                f" {request['kind']!r}:\n{self._last_words()}"
            )
        reply = json.loads(line)
        if "error" in reply:
            raise GenerateError(reply["error"])
        return reply

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace").strip()
        return text[-2000:] or f"(no message, exit status {self._process.returncode})"
