"""Signs of life between the processes of a run, and the verdict when one is dead or all hang.

The coordination service of ``jax.distributed`` notices processes that die, but not those that
hang, and it says neither which one nor where. So every process tells the others, through the
service's table, that it is alive and how far it is. Process 0 judges; all end with its message.
Process 0 serves the table, and JAX's client of it ends a process that loses the connection with a
stack trace; here it ends with a message.
"""

import contextlib
import ctypes
import functools
import itertools
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

_BEATS, _VERDICT = "atomjax/beat", "atomjax/verdict"
_TRIES = 50
# EX_TEMPFAIL of sysexits.h: the run is in order, so a scheduler should start it again.
EXIT_LOST = 75
_HANDLER = ctypes.CFUNCTYPE(None)
# Functions that C++ calls have to outlive their use.
_kept: list[Any] = []


def first_lost(reason: str) -> str:
    """Message of the others when process 0 is gone, which serves their table."""
    return (
        f"process 0, which coordinates the run, cannot be reached: {reason}. All processes end; "
        "the same command on every host resumes from the last checkpoint."
    )


class Client(Protocol):
    """Methods of the coordination service's client that the watch calls."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        """Stores a value for all processes."""
        ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        """Keys and values below a key."""
        ...

    def wait_at_barrier(self, barrier_id: str, timeout_in_ms: int) -> None:
        """Waits until all processes are here."""
        ...


@dataclass
class _Seen:
    """Last heartbeat of a process, and the times of its last changes by this process's clock."""

    beat: dict[str, Any] = field(default_factory=dict)
    heard: float = 0.0
    moved: float = 0.0


class Watch:
    """Exchanges heartbeats between processes, and ends this one when another is lost.

    Args:
        client: the coordination service's client.
        index: number of this process.
        count: number of processes.
        heartbeat_timeout: seconds without a sign of life after which a process counts as dead.
        stall_timeout: seconds without progress of any process after which the run is stuck.
        end: takes the message and an exit status, and ends the process.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        client: Client,
        index: int,
        count: int,
        *,
        heartbeat_timeout: float,
        stall_timeout: float,
        end: Callable[[str, int], Any],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._client, self._index, self._count = client, index, count
        self._heartbeat_timeout, self._stall_timeout = heartbeat_timeout, stall_timeout
        self._end, self._clock = end, clock
        self.interval = min(5.0, heartbeat_timeout / 10)
        self._beats = itertools.count()
        self._units, self._place = 0, "starting"
        self._seen = [_Seen(heard=clock(), moved=clock()) for _ in range(count)]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="atomjax-watch", daemon=True)

    def start(self) -> None:
        """Starts to send and read heartbeats, on a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()
        self._thread.join()

    def advance(self, place: str) -> None:
        """Notes progress of this process.

        Args:
            place: the present activity, in words.
        """
        self._units += 1
        self._place = place

    def accuse(self, message: str, status: int) -> None:
        """Sends the others the reason to end and the exit status, if the connection works."""
        told = json.dumps(
            {
                "process": self._index,
                "host": socket.gethostname(),
                "why": message,
                "status": status,
            }
        )
        try:
            self._client.key_value_set(f"{_VERDICT}/{self._index}", told, allow_overwrite=True)
        except RuntimeError as error:
            print(f"(the other processes could not be told: {error})", file=sys.stderr)

    def step(self) -> None:
        """One round: sends this process's state, and reads and judges those of the others."""
        beat = {
            "beat": next(self._beats),
            "units": self._units,
            "place": self._place,
            "host": socket.gethostname(),
        }
        self._client.key_value_set(
            f"{_BEATS}/{self._index}", json.dumps(beat), allow_overwrite=True
        )
        verdicts = self._client.key_value_dir_get(_VERDICT)
        told = [json.loads(value) for _, value in verdicts]
        others = [v for v in told if v["process"] != self._index]
        if others and len(told) == len(others):
            first = others[0]
            self._end(
                f"ended by process {first['process']} on {first['host']}: {first['why']}",
                first["status"],
            )
        elif self._index == 0 and not told:
            self._listen()
            message = self._judge()
            if message is not None:
                self.accuse(message, EXIT_LOST)
                self._end(message, EXIT_LOST)

    def silent(self, seconds: float) -> list[str]:
        """Processes without a heartbeat for so long; known in process 0 alone."""
        if self._index:
            return []
        limit = self._clock() - seconds
        return [self._describe(i) for i, seen in enumerate(self._seen) if seen.heard < limit]

    def _listen(self) -> None:
        now = self._clock()
        for key, value in self._client.key_value_dir_get(_BEATS):
            beat, seen = json.loads(value), self._seen[int(key.rpartition("/")[2])]
            if beat.get("beat") != seen.beat.get("beat"):
                seen.heard = now
            if beat.get("units") != seen.beat.get("units"):
                seen.moved = now
            seen.beat = beat

    def _judge(self) -> str | None:
        """Why the run cannot go on, or None."""
        now = self._clock()
        dead = [
            f"{self._describe(i)} has not been heard of for {now - seen.heard:.0f} s"
            for i, seen in enumerate(self._seen)
            if now - seen.heard > self._heartbeat_timeout
        ]
        if dead:
            return (
                f"lost {len(dead)} of {self._count} processes (--heartbeat-timeout="
                f"{self._heartbeat_timeout:g}): {'; '.join(dead)}. All processes end; the same "
                "command on every host resumes from the last checkpoint."
            )
        if now - max(seen.moved for seen in self._seen) > self._stall_timeout:
            fewest = min(seen.beat.get("units", 0) for seen in self._seen)
            behind = [i for i, s in enumerate(self._seen) if s.beat.get("units", 0) == fewest]
            return (
                f"no process has got on for {self._stall_timeout:g} s (--stall-timeout); furthest "
                f"behind: {'; '.join(map(self._describe, behind))}. All processes end; look into "
                "the log of that one, then resume with the same command on every host."
            )
        return None

    def _describe(self, index: int) -> str:
        beat = self._seen[index].beat
        if not beat:
            return f"process {index} (which never said anything)"
        return f"process {index} on {beat['host']} ({beat['place']}, {beat['units']} units done)"

    def _run(self) -> None:
        while not self._stopped.wait(self.interval):
            try:
                self.step()
            except RuntimeError as error:
                if self._stopped.is_set():
                    return
                first = str(error).partition("\n")[0]
                self._end(first_lost(first), EXIT_LOST)


@contextlib.contextmanager
def errors_told_to(lost: Callable[[str], Any]) -> Iterator[None]:
    """Has a client of ``jax.distributed`` that is made within report its errors.

    JAX has no option for it, and jaxlib a callback that it cannot call with the status that it has:
    the conversion fails, which ends a C++ program by its terminate handler. So both are ours, the
    callback for a jaxlib that can. Where there is no libstdc++, nothing changes.

    Args:
        lost: takes the reason, and ends a process that is in a run; called from any thread.
    """
    from jax._src import distributed
    from jax._src.lib import _jax  # pyright: ignore[reportPrivateImportUsage]

    try:
        set_handler = ctypes.CDLL("libstdc++.so.6")._ZSt13set_terminatePFvvE
    except (OSError, AttributeError):
        yield
        return
    set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    library: Any = _jax
    make = library.get_distributed_runtime_client

    def terminate() -> None:
        # Other uncaught exceptions of C++ come here too.
        if not _is_served(distributed.global_state.coordinator_address):
            lost("the connection to it broke")
        ctypes.cast(previous, _HANDLER)()

    handler = _HANDLER(terminate)
    previous = set_handler(ctypes.cast(handler, ctypes.c_void_p))
    _kept.append(handler)

    def report(status: object) -> None:
        lost(str(status).partition("\n")[0])

    library.get_distributed_runtime_client = functools.partial(
        make, missed_heartbeat_callback=report
    )
    try:
        yield
    finally:
        library.get_distributed_runtime_client = make


def _is_served(address: str | None) -> bool:
    """Check whether somebody listens at "host:port"; a process that dies stops within moments."""
    host, _, port = (address or "").rpartition(":")
    for _ in range(_TRIES):
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except (OSError, ValueError):
            return False
        time.sleep(0.1)
    return True
