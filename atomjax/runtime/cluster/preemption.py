"""Stopping in good order when the machine is about to be taken away (SIGTERM)."""

import signal
import threading
from types import FrameType
from typing import Any

import jax

from atomjax.runtime.cluster import processes

EXIT_STATUS = 128 + signal.SIGTERM


class RunInterrupted(SystemExit):
    """SIGTERM came and the state was saved; ends the process with the status of the signal."""

    def __init__(self, message: str):
        super().__init__(EXIT_STATUS)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Preemption:
    """Context manager that remembers a SIGTERM instead of dying of it.

    With several processes, which get the signal at different times or not at all, JAX's
    coordination service agrees on the step at which all of them stop. Outside the main thread
    signals are left alone.
    """

    def __init__(self):
        self._received = threading.Event()
        self._previous: Any = None
        self._installed = False

    def requested(self) -> bool:
        """Whether to save and stop after this step; the same answer in every process.

        All processes have to ask equally often.
        """
        if jax.process_count() > 1:
            return processes.asked_to_stop()
        return self._received.is_set()

    def __enter__(self) -> "Preemption":
        main_thread = threading.current_thread() is threading.main_thread()
        if main_thread and jax.process_count() == 1:
            self._previous = signal.signal(signal.SIGTERM, self._receive)
            self._installed = True
        return self

    def __exit__(self, *exception: object) -> None:
        if self._installed:
            signal.signal(signal.SIGTERM, self._previous)
            self._installed = False

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self._received.set()
