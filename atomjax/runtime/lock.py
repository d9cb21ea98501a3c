"""One process at a time: runs in a directory, makers of a file."""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

NAME = "run.lock"


class WorkdirInUse(RuntimeError):
    """Another run writes to the directory."""


@contextlib.contextmanager
def sole_run(workdir: Path) -> Iterator[None]:
    """Keeps other runs out of ``workdir`` until the context ends, or this process does.

    The operating system holds the lock and drops it with the process, however that ends, so a run
    that was killed leaves none behind. The file says who holds it.

    Raises:
        WorkdirInUse: naming the host, process, start and command of the run that is there.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / NAME).open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise WorkdirInUse(_describe(workdir, file.name)) from None
            # Some network file systems are mounted without locks.
            warnings.warn(
                f"{workdir} cannot be locked ({error}); start no second run in it", stacklevel=2
            )
            yield
            return
        file.truncate(0)
        json.dump(_this_process(), file)
        file.flush()
        yield
        file.truncate(0)


@contextlib.contextmanager
def sole_use(path: Path) -> Iterator[None]:
    """Makes other processes wait that want the same, until the context ends or this process does.

    Args:
        path: what is used; the lock is a file beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    while True:
        with lock.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # The one before takes the file away with its lock; then that of another has its place.
            if not _is_at(lock, file.fileno()):
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is the one at ``path``."""
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _this_process() -> dict[str, str | int]:
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
    }


def _describe(workdir: Path, path: str) -> str:
    try:
        holder = json.loads(Path(path).read_text())
        who = "process {process} on {host}, since {since} ({command})".format(**holder)
    except (OSError, ValueError, KeyError, TypeError):
        who = f"another process, which {path} does not name yet"
    return (
        f"{workdir} is in use by {who}. Wait until that run ends or stop it, or give another "
        "--workdir."
    )
