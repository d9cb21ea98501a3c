"""Worker processes: started fresh, fed with requests, ended whatever happens.

They are plain subprocesses that run a module, not forks or copies of the caller: a script needs no
``if __name__ == "__main__"``, and a caller with threads or an accelerator stays safe. A worker
reads requests from its standard input as JSON, one a line, and writes JSON, too: objects that
report its progress, ``null`` after each request, and a string where one failed. When whoever
started it is gone it ends at the next line.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import atomjax
from atomjax.runtime.files import temporary_folder
from atomjax.runtime.lock import deaths, noting

# Workers share the cores; threads inside each would only get in each other's way.
SINGLE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_LAST_WORDS = 2000
# Stream to whoever started this process; None: the standard output.
_told: TextIO | None = None


class WorkerError(RuntimeError):
    """A worker process failed; the message is its own."""


def available_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_workers(
    module: str,
    requests: Sequence[Mapping[str, Any]],
    told: Callable[[dict[str, Any]], None],
    workers: int | None = None,
) -> None:
    """Have every request worked on by some process, which takes the next when it is done.

    Args:
        module: name of a module that calls `serve`.
        requests: one after the other, as JSON.
        told: called with each report of any worker, from one thread at a time.
        workers: number of processes; None: one for each request, all at once.

    Raises:
        WorkerError: a worker failed or died; the others have been ended.
    """
    count = len(requests) if workers is None else min(workers, len(requests))
    lock, failures, waiting = threading.Lock(), [], iter(requests)
    with contextlib.ExitStack() as stack:
        notes = stack.enter_context(temporary_folder())
        stack.enter_context(noting(notes))
        started = [stack.enter_context(_worker(module)) for _ in range(count)]

        def fail(message: str) -> None:
            with lock:
                failures.append(message)
            for other, _ in started:
                other.kill()

        def listen(process: subprocess.Popen[str], errors: Any) -> None:
            assert process.stdout is not None
            _ask(process, waiting, lock)
            try:
                for line in process.stdout:
                    message = json.loads(line)
                    if message is None:
                        _ask(process, waiting, lock)
                    elif isinstance(message, str):
                        fail(message)
                    else:
                        with lock:
                            told(message)
            except Exception as error:  # noqa: BLE001
                # Whatever is not taken in, such as a line that says what was made, would be lost.
                fail(f"{type(error).__name__}: {error}")
            if process.wait() != 0:
                errors.seek(0)
                text = errors.read().decode(errors="replace").strip()[-_LAST_WORDS:]
                fail("; ".join(deaths(notes)) or text
                     or f"a worker died, exit status {process.returncode}")  # fmt: skip

        threads = [threading.Thread(target=listen, args=worker) for worker in started]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise WorkerError(failures[0])


def serve(work: Callable[[dict[str, Any]], None], expected: type[Exception]) -> None:
    """The main function of a worker's module.

    Args:
        work: takes a request and reports progress by `tell`.
        expected: errors that explain themselves, shown without a traceback, as are those of the
            operating system, such as a full disk.
    """
    global _told
    # What a reader or a library prints is for people.
    _told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            work(json.loads(line))
        except (expected, OSError) as error:
            _write(str(error))
            sys.exit(1)
        _write(None)


def tell(**fields: Any) -> None:
    """Report progress to whoever started this process."""
    _write(fields)


def _write(message: Any) -> None:
    print(json.dumps(message), flush=True, file=_told)


def _ask(
    process: subprocess.Popen[str], waiting: Iterator[Mapping[str, Any]], lock: threading.Lock
) -> None:
    """Send a process the next request, or tell it that there is none."""
    assert process.stdin is not None
    with lock:
        request = next(waiting, None)
    # Of a process that died, its exit status tells.
    with contextlib.suppress(BrokenPipeError):
        if request is None:
            process.stdin.close()
        else:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()


@contextlib.contextmanager
def _worker(module: str) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    root = str(Path(atomjax.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            # Workers leave accelerators to their caller.
            env={**os.environ, **SINGLE_THREAD, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process, errors
        finally:
            process.kill()
            process.wait()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
