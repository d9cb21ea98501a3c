"""The processes that build batches for a loader."""

import multiprocessing
import os
import signal
import threading

import jax


def begin_worker(_worker: int, _count: int) -> None:
    """Make this process a worker that ends with the process it works for, and not before.

    It leaves the accelerators to that, which also decides what signals mean that all get. When all
    have ended, Python's resource tracker removes the batches in shared memory that nobody took.
    """
    jax.config.update("jax_platforms", "cpu")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
