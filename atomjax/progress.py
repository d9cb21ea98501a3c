"""Progress of long work: a live bar on a terminal, plain periodic lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Tracker(Protocol):
    """What a piece of work tells about itself."""

    def advance(self, n: int = 1, **fields: Any) -> None:
        """Counts ``n`` more units as done and shows ``fields`` beside the count."""
        ...


class BarTracker:
    """One line of a live display."""

    def __init__(self, progress: Progress, task: TaskID):
        self._progress = progress
        self._task = task

    def advance(self, n: int = 1, **fields: Any) -> None:
        """Counts ``n`` more units as done and shows ``fields`` beside the bar."""
        if fields:
            self._progress.update(self._task, fields=describe_fields(fields))
        self._progress.advance(self._task, n)


class LineTracker:
    """Plain lines, at most one every ``interval`` seconds, and one at the end.

    Args:
        write: receives each line.
        total: units of work.
        description: what is being done.
        start: units done before.
        interval: seconds between lines.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        total: int,
        description: str,
        *,
        start: int = 0,
        interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._write = write
        self._total = total
        self._description = description
        self._start = self._done = start
        self._interval = interval
        self._clock = clock
        self._began = self._last = clock()
        self._shown = start
        self._fields = ""

    def advance(self, n: int = 1, **fields: Any) -> None:
        """Counts ``n`` more units as done; writes a line when one is due."""
        self._done += n
        if fields:
            self._fields = describe_fields(fields)
        if self._clock() - self._last >= self._interval:
            self._write_line()

    def close(self) -> None:
        """Writes the last state if no line has shown it yet."""
        if self._done > self._shown:
            self._write_line()

    def _write_line(self) -> None:
        self._last = self._clock()
        self._shown = self._done
        elapsed = self._last - self._began
        parts = [f"{self._description}: {self._done}/{self._total}", self._fields]
        done_here = self._done - self._start
        if self._done < self._total and done_here > 0:
            left = elapsed / done_here * (self._total - self._done)
            parts.append(f"{format_seconds(elapsed)} gone, {format_seconds(left)} left")
        else:
            parts.append(f"{format_seconds(elapsed)}")
        self._write("  ".join(part for part in parts if part))


class SilentTracker:
    """Shows nothing; for processes that do not own the terminal."""

    def advance(self, n: int = 1, **fields: Any) -> None:
        """Does nothing."""


class TellingTracker:
    """A tracker that also tells what is getting on; see :class:`Display`."""

    def __init__(self, tracker: Tracker, description: str, told: Callable[[str], None]):
        self._tracker, self._description, self._told = tracker, description, told

    def advance(self, n: int = 1, **fields: Any) -> None:
        """Tells, and advances the other tracker."""
        self._told(self._description)
        self._tracker.advance(n, **fields)


class Display:
    """The progress of everything that runs under one console.

    Args:
        console: where to write; None writes nothing.
        told: takes the description of whatever begins or gets on, also without a console.
    """

    def __init__(self, console: Console | None, told: Callable[[str], None] | None = None):
        self.console = console
        self._told = told
        self._progress: Progress | None = None
        self._open = 0

    @contextmanager
    def track(self, total: int, description: str, start: int = 0) -> Iterator[Tracker]:
        """Shows the progress of ``total`` units of work while the context is open."""
        with self._shown(total, description, start) as tracker:
            if self._told is None:
                yield tracker
            else:
                self._told(description)
                yield TellingTracker(tracker, description, self._told)

    @contextmanager
    def _shown(self, total: int, description: str, start: int) -> Iterator[Tracker]:
        if self.console is None:
            yield SilentTracker()
        elif self.console.is_terminal:
            with self._bar(total, description, start) as tracker:
                yield tracker
        else:
            tracker = LineTracker(self.write, total, description, start=start)
            try:
                yield tracker
            finally:
                tracker.close()

    def write(self, text: str) -> None:
        """Writes text as it is, above any bar."""
        if self.console is not None:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def _bar(self, total: int, description: str, start: int) -> Iterator[Tracker]:
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[fields]}"),
                console=self.console,
            )
            self._progress.start()
        progress = self._progress
        task = progress.add_task(description, total=total, completed=start, fields="")
        self._open += 1
        try:
            yield BarTracker(progress, task)
        finally:
            self._open -= 1
            if self._open == 0:
                progress.stop()
                self._progress = None


def describe_fields(fields: dict[str, Any]) -> str:
    """``name value`` pairs, numbers to four figures."""
    return " ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in fields.items()
    )


def format_seconds(seconds: float) -> str:
    """h:mm:ss, or m:ss below an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
