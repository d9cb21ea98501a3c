"""Worker processes that take one request each and report their progress.

They are plain subprocesses that run a module, not forks or copies of the caller: a script needs no
``if __name__ == "__main__"``, and a caller with threads or an accelerator stays safe. A worker
reads its request from the standard input as JSON and writes one JSON object a line; when whoever
started it is gone it ends at the next line.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
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


def run_workers(
    module: str,
    requests: Sequence[Mapping[str, Any]],
    told: Callable[[dict[str, Any]], None],
) -> None:
    """Have each request worked on by a process of its own, all at once.

    Args:
        module: name of a module that calls `serve`.
        requests: one for each process, as JSON.
        told: called with each line of any worker, from one thread at a time.

    Raises:
        WorkerError: a worker failed or died; the others have been ended.
    """
    lock, failures = threading.Lock(), []
    with contextlib.ExitStack() as stack:
        notes = stack.enter_context(temporary_folder())
        stack.enter_context(noting(notes))
        workers = [stack.enter_context(_worker(module, request)) for request in requests]

        def listen(process: subprocess.Popen[str], errors: Any) -> None:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    with lock:
                        told(json.loads(line))
            except Exception as error:  # noqa: BLE001
                # Whatever is not taken in, such as a line that says what was made, would be lost.
                with lock:
                    failures.append(f"{type(error).__name__}: {error}")
                for other, _ in workers:
                    other.kill()
            if process.wait() != 0:
                errors.seek(0)
                text = errors.read().decode(errors="replace").strip()[-_LAST_WORDS:]
                with lock:
                    told_of = "; ".join(deaths(notes)) or text
                    failures.append(told_of or f"a worker died, exit status {process.returncode}")
                for other, _ in workers:
                    other.kill()

        threads = [threading.Thread(target=listen, args=worker) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise WorkerError(failures[0])


def serve(work: Callable[[dict[str, Any]], None], expected: type[Exception]) -> None:
    """The main function of a worker's module.

    Args:
        work: takes the request and reports progress by `tell`.
        expected: errors that explain themselves, shown without a traceback, as are those of the
            operating system, such as a full disk.
    """
    global _told
    # What a reader or a library prints is for people.
    _told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        work(json.loads(sys.stdin.readline()))
    except (expected, OSError) as error:
        sys.exit(str(error))


def tell(**fields: Any) -> None:
    """Write one line to whoever started this process."""
    print(json.dumps(fields), flush=True, file=_told)


@contextlib.contextmanager
def _worker(module: str, request: Mapping[str, Any]):
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
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.close()
            yield process, errors
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
