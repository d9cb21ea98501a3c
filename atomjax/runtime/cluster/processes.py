"""The processes of one run: joining, waiting for each other, and ending together.

Processes meet through the coordination service of ``jax.distributed``, which process 0 serves.
In a run of one process nothing here does anything.
"""

import itertools
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from atomjax.runtime.cluster.watch import EXIT_LOST, Watch, errors_told_to, first_lost
from atomjax.runtime.config import ConfigError

HEARTBEAT_TIMEOUT = 100.0
STALL_TIMEOUT = 1800.0
# Seconds within which the processes find each other; a node that replaces another may be slow.
_JOIN_WITHIN = 1800
# Longer than any work that others wait for; a hanging process ends by the timeouts above.
_WAIT_MILLISECONDS = 30 * 24 * 3600 * 1000
# Seconds within which a new file is seen on every host.
_SEEN_WITHIN = 60.0
# Errors of gloo, NCCL and the coordination service through XLA when another process is gone: a
# status of theirs at the beginning, or a collective operation with a lost connection.
_COLLECTIVE_FAILURE = re.compile(
    r"^(UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED)\b"
    r"|(gloo|nccl).*(connect|socket|network|peer|remote|abort|timed? ?out|broken pipe)",
    re.IGNORECASE | re.DOTALL,
)


_watch: Watch | None = None
_barriers = itertools.count()
_sync_points = itertools.count()


class NotJoined(RuntimeError):
    """The processes of a run did not find each other, which another attempt may mend."""


def join(
    coordinator: str | None,
    count: int | None,
    index: int | None,
    *,
    heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
    stall_timeout: float = STALL_TIMEOUT,
) -> None:
    """Joins the other processes of the run, before JAX looks for devices.

    Args:
        coordinator: "host:port" where process 0 listens; None, as the next two, where Slurm, a
            TPU pod or MPI gives it.
        count: number of processes.
        index: number of this process.
        heartbeat_timeout: see :class:`Watch`.
        stall_timeout: see :class:`Watch`.

    Raises:
        ConfigError: what is given does not say where the others are.
        NotJoined: the others do not come within half an hour.
    """
    import jax

    told = None not in (coordinator, count, index)
    try:
        with errors_told_to(_end_without_first):
            jax.distributed.initialize(
                coordinator,
                count,
                index,
                cluster_detection_method="deactivate" if told else None,
                # Ours come first: they are more specific.
                heartbeat_timeout_seconds=int(2 * heartbeat_timeout) + 10,
                initialization_timeout=_JOIN_WITHIN,
            )
    except (ValueError, RuntimeError) as error:
        wrong = isinstance(error, ValueError)
        # The error of a wait that was too long is lost on its way through JAX.
        why = f"not all came within {_JOIN_WITHIN} s" if "bad_cast" in str(error) else str(error)
        raise (ConfigError if wrong else NotJoined)(
            f"the processes of the run did not find each other: {why}\nStart one on every host, "
            "all with the same --coordinator and --num-processes and each with its own "
            "--process-id, or with --distributed alone under Slurm, on a TPU pod or under MPI."
        ) from error
    if jax.process_count() > 1:
        _begin_watch(heartbeat_timeout, stall_timeout)


def _begin_watch(heartbeat_timeout: float, stall_timeout: float) -> None:
    global _watch
    import jax

    _watch = Watch(
        _client(),
        jax.process_index(),
        jax.process_count(),
        heartbeat_timeout=heartbeat_timeout,
        stall_timeout=stall_timeout,
        end=_end,
    )
    _watch.start()


def advance(place: str) -> None:
    """Notes progress of this process; see :meth:`Watch.advance`."""
    if _watch is not None:
        _watch.advance(place)


def wait_for_all(name: str) -> None:
    """Waits until every process is here; the devices are left alone.

    Args:
        name: name of the barrier, the same in every process.
    """
    import jax

    if jax.process_count() > 1:
        advance(f"waiting: {name}")
        _client().wait_at_barrier(f"{name} ({next(_barriers)})", _WAIT_MILLISECONDS)


def from_first(value: Any) -> Any:
    """Value of process 0, in every process: for decisions that all must take alike.

    Args:
        value: an array, number or truth value, or a tree of them, of one shape everywhere.

    Returns:
        numpy arrays.
    """
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return value
    return multihost_utils.broadcast_one_to_all(value)


def from_all(tree: Any, *, rows: bool = False) -> Any:
    """The arrays of every process, in every process.

    Args:
        tree: tree of arrays, whose shapes are the same everywhere.
        rows: the arrays are divided over the devices of all processes, and come back whole;
            without it they get a leading axis with one entry for each process, if there are
            several.

    Returns:
        A tree of numpy arrays; ``tree`` itself where there is only one process.
    """
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return tree
    return multihost_utils.process_allgather(tree, tiled=rows)


def asked_to_stop() -> bool:
    """Whether to save and stop now, as one of several processes; the same answer in each.

    A SIGTERM to any process makes JAX agree on a later call at which all of them get True.
    """
    from jax.experimental import multihost_utils

    # Calls are numbered, not steps: a run may train twice, and numbers must not come back.
    return multihost_utils.reached_preemption_sync_point(next(_sync_points))


def joined() -> bool:
    """Whether this is one of several processes."""
    return _watch is not None


def own_name(name: str) -> str:
    """The name of a file that every process writes for itself: that of process 0 is plain."""
    import jax

    if not joined() or jax.process_index() == 0:
        return name
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.{jax.process_index()}{dot}{suffix}"


def check_shared(directory: Path) -> None:
    """Refuses a directory that is not one and the same for all processes; makes it.

    Raises:
        ConfigError: this process does not find the file of process 0 in it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if not joined():
        return
    import jax

    token = int(from_first(np.asarray(time.time_ns() % 2**31, np.int32)))
    sign = directory / f".shared.{token}"
    if jax.process_index() == 0:
        sign.touch()
    wait_for_all("the directory is marked")
    # Network file systems keep listings for some seconds.
    deadline = time.monotonic() + _SEEN_WITHIN
    while not sign.exists():
        if time.monotonic() > deadline:
            raise ConfigError(
                f"{directory} on {socket.gethostname()} is not the directory that process 0 "
                "writes to; give all processes one --workdir on a shared file system"
            )
        time.sleep(0.2)
    wait_for_all("the directory is shared")
    if jax.process_index() == 0:
        sign.unlink()


def leave() -> None:
    """Ends this process's part of the run in good order, once all are through."""
    global _watch
    if _watch is None:
        return
    import jax

    wait_for_all("end of the run")
    _watch.stop()
    _watch = None
    jax.distributed.shutdown()


def accuse(message: str, status: int) -> None:
    """Tells the other processes why this one cannot go on, so that they end with its status."""
    if _watch is not None:
        _watch.accuse(message, status)


def fail(status: int, message: str | None = None) -> None:
    """Ends a process that cannot go on, and with it the others; returns in a run of one.

    Args:
        status: exit status.
        message: the reason, unless :func:`accuse` has sent it.
    """
    if _watch is not None:
        if message is not None:
            _watch.accuse(message, status)
        _linger_and_exit(status)


def describe_loss(error: BaseException) -> str | None:
    """Describe the lost process behind an error of a collective operation.

    Only XLA's own errors count. Others may use the same words, and would come again in every run.

    Returns:
        The message; None for other errors, and in a run of one process.
    """
    import jax

    def is_of_xla(found: BaseException) -> bool:
        # Where it dispatches at once, the error of gloo comes as a ValueError with XLA's status.
        is_status = re.match(r"[A-Z_]+: (Gloo|NCCL)\b", str(found)) is not None
        return is_status or isinstance(found, jax.errors.JaxRuntimeError)

    cause: BaseException | None = error
    while cause is not None and not is_of_xla(cause):
        cause = cause.__cause__ or cause.__context__
    if _watch is None or cause is None or not _COLLECTIVE_FAILURE.search(str(cause)):
        return None
    # Process 0 hears within three beats who has fallen silent.
    time.sleep(3 * _watch.interval)
    silent = _watch.silent(2 * _watch.interval)
    first = str(error).partition("\n")[0]
    return (
        f"a collective operation failed, so another process was lost: {first}\n"
        + (f"Silent: {'; '.join(silent)}.\n" if silent else "")
        + "All processes end; the same command on every host resumes from the last checkpoint."
    )


def _end_without_first(reason: str) -> None:
    """Ends this process of a run because process 0 is gone."""
    if _watch is not None:
        _end(first_lost(reason), EXIT_LOST)


def _end(message: str, status: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    _linger_and_exit(status)


def _linger_and_exit(status: int) -> NoReturn:
    """Leaves the others time to read why, then ends without waiting for them."""
    import jax

    if _watch is not None and jax.process_index() == 0:
        # The table that they read goes with process 0.
        time.sleep(2 * _watch.interval + 0.5)
    sys.stdout.flush()
    sys.stderr.flush()
    # Ordinary exits wait for all processes, and threads may hang in a collective.
    os._exit(status)


def _client() -> Any:
    # JAX gives its client out nowhere else; Orbax takes it from here too.
    from jax._src import distributed

    return distributed.global_state.client
