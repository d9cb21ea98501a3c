"""One run's directory: config, versions, metrics and terminal output.

    config.json     the resolved configuration, with the seed
    versions.json   one entry per start: time, command, versions, git commit, devices
    metrics.jsonl   one JSON object per logged step
    tensorboard/    the same metrics as TensorBoard events

Only process 0 of a distributed run writes.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from atomjax import __version__
from atomjax.runtime.cluster import processes
from atomjax.runtime.config import ConfigError, differences, to_plain
from atomjax.runtime.earlier import completed, read_config
from atomjax.runtime.files import PARSE_ERRORS, DamagedFile, naming, read_json, replacing
from atomjax.runtime.progress import Display, Told, Tracker

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "jraph",
    "grain",
    "ase",
    "tblite",
    "chgnet",
)


class Run:
    """A directory that holds everything one run writes.

    Args:
        workdir: the directory; created where absent.
        config: the resolved configuration (a settings dataclass, ConfigDict or mapping). A
            directory that already holds another configuration is refused. None for a part of
            a run that has no configuration of its own.
        console: console for messages and progress; None writes to standard output.
        accept_changes: continue in a directory whose configuration differs; the old one is
            kept as ``config.previous.json``.
        told: function that is told the progress of everything in the run.
        root: the directory of the whole run, if not this one.

    Raises:
        ConfigError: ``workdir`` holds a run with another configuration, whose keys are named.

    Attributes:
        workdir: the directory.
        root: the directory of the whole run, for a child that of its outermost parent.
        primary: whether this process is the one that writes.
        display: display of messages and progress.
        accept_changes: whether a child may have another configuration than before.
    """

    def __init__(
        self,
        workdir: str | Path,
        config: Any = None,
        *,
        console: Console | None = None,
        accept_changes: bool = False,
        told: Told | None = None,
        root: Path | None = None,
    ):
        import jax  # Not at the top: reading a config must not wait for jax.

        self.workdir = Path(workdir)
        self.root = root or self.workdir
        self.primary = jax.process_index() == 0
        self.accept_changes = accept_changes
        shown = (console or Console()) if self.primary else None

        def advance(description: str, *rest: Any) -> None:
            processes.advance(description)
            if told is not None:
                told(description, *rest)

        self.display = Display(shown, told=advance)
        self._files: tuple[TextIO, Any] | None = None
        self._purge_step: int | None = None
        self.workdir.mkdir(parents=True, exist_ok=True)
        if config is not None:
            self._write_config(config)
            self._write_versions()

    def path(self, *parts: str) -> Path:
        """A path inside the run's directory; its parent directory exists."""
        path = self.workdir.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def child(self, name: str, config: Any = None) -> "Run":
        """A run in the subdirectory ``name`` that shares this one's terminal."""
        child = Run(
            self.workdir / name,
            config,
            console=self.display.console,
            accept_changes=self.accept_changes,
            root=self.root,
        )
        child.display = self.display
        return child

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends metrics to ``metrics.jsonl`` and TensorBoard.

        Args:
            step: optimiser steps done.
            metrics: name → value. Anything that ``float`` takes, so a device scalar too.
        """
        if not self.primary:
            return
        values = {name: float(value) for name, value in metrics.items()}
        lines, events = self._open_metrics()
        with naming(self.workdir / "metrics.jsonl"):
            lines.write(json.dumps({"step": int(step), **values}) + "\n")
            lines.flush()
        with naming(self.workdir / "tensorboard"):
            events.write(step, values)

    def rewind(self, step: int) -> None:
        """Forgets metrics logged after ``step``, so that a resumed run logs each step once."""
        if not self.primary:
            return
        self.close()
        self._purge_step = step + 1
        kept = [record for record in self.metrics() if record["step"] <= step]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        _write_atomically(self.path("metrics.jsonl"), text.encode())

    def metrics(self) -> list[dict[str, float]]:
        """Logged metrics; see `read_metrics`."""
        return read_metrics(self.workdir)

    def progress(
        self, total: int, description: str, start: int = 0
    ) -> AbstractContextManager[Tracker]:
        """Shows the progress of ``total`` units of work, of which ``start`` are done.

        Returns:
            A context manager whose value has ``advance(n=1, **fields)``.
        """
        return self.display.track(total, description, start)

    def wait_for_all(self, name: str) -> None:
        """Waits until every process is here, at the barrier of this name."""
        processes.wait_for_all(name)

    @contextmanager
    def primary_first(self, name: str) -> Iterator[None]:
        """Lets process 0 go through the context before the others enter it.

        Args:
            name: name of the work in the context, the same in every process.
        """
        if not self.primary:
            self.wait_for_all(name)
        yield
        if self.primary:
            self.wait_for_all(name)

    def say(self, text: str) -> None:
        """Writes text to the terminal, above any progress bar."""
        self.display.write(text)

    def write_json(self, name: str, data: Any) -> Path:
        """Writes ``data`` as ``name`` in the run's directory, whole or not at all."""
        return self.write_text(name, json.dumps(data, indent=2) + "\n")

    def write_text(self, name: str, text: str) -> Path:
        """Writes ``text`` as ``name`` in the run's directory, whole or not at all."""
        path = self.path(name)
        if self.primary:
            _write_atomically(path, text.encode())
        return path

    def close(self) -> None:
        """Closes the metric files; the next :meth:`log` opens them again."""
        files, self._files = self._files, None
        with naming(self.workdir / "metrics.jsonl"):
            for file in files or ():
                file.close()

    def _open_metrics(self) -> tuple[TextIO, Any]:
        """The open ``metrics.jsonl`` and TensorBoard writer."""
        if self._files is None:
            path = self.path("metrics.jsonl")
            data = path.read_bytes() if path.exists() else b""
            if data and not data.endswith(b"\n"):
                _write_atomically(path, data[: data.rfind(b"\n") + 1])
            events = _Events(self.workdir / "tensorboard", self._purge_step)
            self._files = path.open("a"), events
        return self._files

    def changes(self, name: str, config: Any) -> list[str]:
        """Keys of a child's configuration that are not those of its directory, with both values.

        Returns:
            Nothing where the directory holds none.
        """
        return _changes(self.workdir / name, config, self.root)[1]

    def _write_config(self, settings: Any) -> None:
        previous, changed = _changes(self.workdir, settings, self.root)
        if changed and not self.accept_changes:
            raise ConfigError(
                f"{self.workdir} holds a run with another configuration:\n  "
                + "\n  ".join(changed)
                + "\nUse a new --workdir, or --accept-changes to continue this run with "
                "the new values."
            )
        if previous is not None:
            if not changed:
                return
            self.write_json("config.previous.json", previous)
        self.write_json("config.json", _plain(settings))

    def starts(self) -> list[dict[str, Any]]:
        """Results of :func:`describe_environment` at each start."""
        path = self.workdir / "versions.json"
        mend = "delete it; every start is added"
        starts = read_json(path, mend) if path.exists() else []
        if not isinstance(starts, list):
            raise DamagedFile(f"{path} is damaged: it is no list of starts; {mend}")
        return starts

    def _write_versions(self) -> None:
        self.write_json("versions.json", [*self.starts(), describe_environment()])


def read_metrics(workdir: Path) -> list[dict[str, float]]:
    """Metrics that a run logged, oldest first. A last line cut off by a crash is left out.

    Raises:
        DamagedFile: a line is no JSON object of numbers with a step.
    """
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append({name: value + 0 for name, value in json.loads(line).items()})
            # Only a whole number makes a range.
            _ = range(records[-1]["step"])
        except PARSE_ERRORS as error:
            raise DamagedFile(
                f"{path}: line {number} is damaged ({error}); delete the line"
            ) from error
    return records


def _changes(workdir: Path, settings: Any, root: Path) -> tuple[Any, list[str]]:
    """The configuration in a directory, None without one, and how another differs from it.

    A path inside the whole run is the same one wherever that was before.
    """
    path, inside = workdir / "config.json", f"{root.resolve()}{os.sep}"
    if not path.exists():
        return None, []

    def same(old: Any, new: Any) -> bool:
        moved = isinstance(old, str) and isinstance(new, str) and new.startswith(inside)
        return old == new or (moved and old.endswith(os.sep + new.removeprefix(inside)))

    previous = completed(read_config(path, type(settings)), settings)
    return previous, differences(previous, _plain(settings), same=same)


def _plain(settings: Any) -> Any:
    """A configuration as a file holds it."""
    return json.loads(json.dumps(to_plain(settings)))


class _Events:
    """Metrics as TensorBoard reads them.

    Written in the thread that measures: the queue of tensorboardX's own writer is emptied by a
    thread that ends at the first error, as on a full disk, and then whoever writes waits for ever.

    Args:
        folder: folder that TensorBoard is given; made where there is none.
        purge_step: first step of which TensorBoard forgets what earlier files say, or None.
    """

    def __init__(self, folder: Path, purge_step: int | None = None):
        # Not at the top: reading a config must not wait for it.
        from tensorboardX import event_file_writer, summary
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore

        self._event, self._scalar = Event, summary.scalar
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = event_file_writer.EventsWriter(str(folder / "events"))
        if purge_step is not None:
            started = SessionLog(status=SessionLog.START)
            self._writer.write_event(
                Event(wall_time=time.time(), step=purge_step, session_log=started)
            )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of a step."""
        for name, value in values.items():
            shown = self._scalar(name, value)
            event = self._event(wall_time=time.time(), step=step, summary=shown)
            self._writer.write_event(event)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


def describe_environment() -> dict[str, Any]:
    """Time, command, package versions, git commit and devices of this process."""
    import jax

    devices = jax.devices()
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command_line(),
        "atomjax": __version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: _installed_version(name) for name in PACKAGES},
        "device": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        "processes": jax.process_count(),
        "cores": os.cpu_count(),
    }


def _installed_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The checkout's commit, "-dirty" with uncommitted changes; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _write_atomically(path: Path, data: bytes) -> None:
    with replacing(path) as file:
        file.write(data)


def command_line() -> str:
    """The command of this process, as it would be typed."""
    program, *arguments = sys.argv
    if Path(program).parts[-2:] == ("atomjax", "launch.py"):
        program = "python -m atomjax.launch"
    if Path(program).name == "atomjax" or Path(program).parts[-3:-1] == ("atomjax", "command"):
        program = "atomjax"
    return " ".join([program, *arguments])


def repetition() -> list[str]:
    """Lines of a report that give the command of this process, which resumes or repeats the run."""
    return ["## Again", "", f"    {command_line()}", ""]
