"""Lock files and notes between processes: of runs, of files being made, of faults in reading."""

import contextlib
import datetime
import errno
import faulthandler
import fcntl
import json
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = "run.lock"
# Environment variable of the folder in which processes note the files that they read.
READING = "ATOMJAX_READING"
_FAULT = "Fatal Python error: "
# Workdir → this process, which runs in it.
_held: dict[Path, dict[str, str | int]] = {}


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
    place, this = workdir.resolve(), _this_process()
    # The system's lock is one of processes: a thread would get it again, and its end would drop it.
    holder = _held.setdefault(place, this)
    if holder is not this and holder["process"] == this["process"]:
        raise WorkdirInUse(_describe(workdir, holder))
    try:
        with _locked(workdir, this):
            yield
    finally:
        _held.pop(place, None)


@contextlib.contextmanager
def _locked(workdir: Path, this: dict[str, str | int]) -> Iterator[None]:
    """Holds the lock of a workdir and notes this process in it."""
    with (workdir / NAME).open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise WorkdirInUse(_describe(workdir, _noted_in(file.name))) from None
            # Some network file systems are mounted without locks.
            warnings.warn(
                f"{workdir} cannot be locked ({error}); start no second run in it", stacklevel=2
            )
            yield
            return
        file.truncate(0)
        json.dump(this, file)
        file.flush()
        yield
        file.truncate(0)


@contextlib.contextmanager
def sole_use(path: Path) -> Iterator[None]:
    """Exclusive use of a path, by a lock beside it, until the context or this process ends.

    On a file system without locks a warning takes its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    while True:
        with lock.open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                lock.unlink(missing_ok=True)
                warnings.warn(
                    f"{path} cannot be locked ({error}); let no second process make it",
                    stacklevel=2,
                )
                yield
                return
            # The previous holder deletes the file with its lock; another may have made a new one.
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


def _noted_in(path: str) -> dict[str, Any]:
    """The process that a lock file names; empty where it names none yet."""
    try:
        return dict(json.loads(Path(path).read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _describe(workdir: Path, holder: dict[str, Any]) -> str:
    try:
        who = "process {process} on {host}, since {since} ({command})".format(**holder)
    except KeyError:
        who = f"another process, which {workdir / NAME} does not name yet"
    return (
        f"{workdir} is in use by {who}. Wait until that run ends or stop it, or give another "
        "--workdir."
    )


@contextlib.contextmanager
def noting(folder: Path) -> Iterator[None]:
    """Has this process and those that it starts note in a folder the mapped files that they read.

    `deaths` reports them where reading one ends a process, as a bus error does.
    """
    global _noted
    before = os.environ.get(READING)
    os.environ[READING] = str(folder.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ[READING]
        else:
            os.environ[READING] = before
        if _noted is not None and _noted[0] == os.getpid():
            faulthandler.disable()
            _noted[2].close()
            Path(_noted[2].name).unlink(missing_ok=True)
            _noted = None
        with contextlib.suppress(OSError):
            folder.rmdir()


# Process, file that it reads, and the open note of that.
_noted: tuple[int, Path, Any] | None = None


def note_reading(path: Path) -> None:
    """Note that this process reads a mapped file, whose damage may end it without a word.

    Python's own words about a fault come behind the name.
    """
    global _noted
    folder = os.environ.get(READING)
    known = _noted is not None and _noted[0] == os.getpid()
    if folder is None or (known and _noted is not None and _noted[1] == path):
        return
    if known and _noted is not None:
        file = _noted[2]
    else:
        Path(folder).mkdir(parents=True, exist_ok=True)
        file = Path(folder, process_name()).open("wb", buffering=0)  # noqa: SIM115
        faulthandler.enable(file, all_threads=False)
    file.seek(0)
    file.write(f"{path}\n".encode())
    file.truncate()
    _noted = os.getpid(), path, file


def deaths(folder: Path) -> list[str]:
    """Messages on processes that died of a fault while reading a file; each given once."""
    found = []
    for note in sorted(folder.glob("*")):
        path, _, words = note.read_text(errors="replace").partition("\n")
        if words.startswith(_FAULT):
            fault = words.partition("\n")[0].removeprefix(_FAULT)
            found.append(
                f"a process died ({fault}) while it read {path}: the file, or its disk, is damaged;"
                f" python -m atomjax.structures.convert --check {path} looks at all of it"
            )
        if words.startswith(_FAULT) or has_ended(note.name):
            note.unlink(missing_ok=True)
    return found


def process_name() -> str:
    """The name of this process, for files that others may find."""
    return f"{socket.gethostname()}-{os.getpid()}"


def has_ended(name: str) -> bool:
    """Check whether the process of a :func:`process_name` is known to have ended."""
    host, _, process = name.rpartition("-")
    if host != socket.gethostname() or not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
