"""Progress of long work: a live bar on a terminal, plain periodic lines elsewhere."""

import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

# Takes the name of the work, units done, their total, and the fields shown beside them.
Told = Callable[[str, int, int, Mapping[str, Any]], None]


class Tracker:
    """Progress of a piece of work, which nobody is shown; see its subclasses.

    Args:
        total: units of the work.
        description: name of the work.
        start: units that were done before.
        told: called when the work begins or advances.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        total: int,
        description: str,
        start: int = 0,
        *,
        told: Told | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._description, self._start = total, description, start
        self._told, self._clock = told, clock
        self._done, self._began, self._discounted = start, clock(), 0.0
        self._tell({})

    def advance(self, n: int = 1, **fields: Any) -> None:
        """Counts ``n`` more units as done and shows ``fields`` beside the count."""
        self._done += n
        # Less than at the start where what was done before is done again.
        self._start = min(self._start, self._done)
        self._tell(fields)
        self._show(n, fields)

    def discount(self, seconds: float) -> None:
        """Leaves time that will not come again, such as a compilation, out of the forecast."""
        self._discounted += seconds

    def _tell(self, fields: Mapping[str, Any]) -> None:
        if self._told is not None:
            self._told(self._description, self._done, self._total, fields)

    def _show(self, n: int, fields: Mapping[str, Any]) -> None:
        """Shows that ``n`` more units are done."""

    @property
    def _elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began

    @property
    def _left(self) -> float | None:
        """Seconds for the rest at the rate so far; None where nothing is done yet or left."""
        done_here = self._done - self._start
        if done_here <= 0 or self._done >= self._total:
            return None
        return max(self._elapsed - self._discounted, 0.0) / done_here * (self._total - self._done)


class BarTracker(Tracker):
    """One line of a live display."""

    def __init__(self, progress: Progress, total: int, description: str, start: int, told: Any):
        super().__init__(total, description, start, told=told)
        self._progress = progress
        self._task = progress.add_task(
            description, total=total, completed=start, fields="", left=""
        )

    def _show(self, n: int, fields: Mapping[str, Any]) -> None:
        left = self._left
        shown: dict[str, Any] = {"left": "" if left is None else f"{format_seconds(left)} left"}
        if fields:
            shown["fields"] = describe_fields(fields)
        self._progress.update(self._task, advance=n, **shown)


class LineTracker(Tracker):
    """Plain lines, at most one every ``interval`` seconds, and one at the end."""

    def __init__(
        self,
        write: Callable[[str], None],
        total: int,
        description: str,
        start: int = 0,
        *,
        interval: float = 10.0,
        **options: Any,
    ):
        super().__init__(total, description, start, **options)
        self._write, self._interval = write, interval
        self._last, self._shown, self._fields = self._began, start, ""

    def close(self) -> None:
        """Writes the last state if no line has shown it yet."""
        if self._done > self._shown:
            self._write_line()

    def _show(self, n: int, fields: Mapping[str, Any]) -> None:
        if fields:
            self._fields = describe_fields(fields)
        if self._clock() - self._last >= self._interval:
            self._write_line()

    def _write_line(self) -> None:
        self._last, self._shown = self._clock(), self._done
        parts = [f"{self._description}: {self._done}/{self._total}", self._fields]
        elapsed, left = format_seconds(self._elapsed), self._left
        parts.append(elapsed if left is None else f"{elapsed} gone, {format_seconds(left)} left")
        self._write("  ".join(part for part in parts if part))


class Display:
    """The progress of everything that runs under one console.

    Args:
        console: console to write to; None writes nothing.
        told: called when work begins or advances, also without a console.
    """

    def __init__(self, console: Console | None, told: Told | None = None):
        self.console = console
        self._told = told
        self._progress: Progress | None = None
        self._open = 0

    @contextmanager
    def track(self, total: int, description: str, start: int = 0) -> Iterator[Tracker]:
        """Shows the progress of ``total`` units of work while the context is open."""
        work = total, description, start
        if self.console is None:
            yield Tracker(*work, told=self._told)
        elif draws_bars(self.console):
            with self._bars() as progress:
                yield BarTracker(progress, *work, self._told)
        else:
            tracker = LineTracker(self.write, *work, told=self._told)
            try:
                yield tracker
            finally:
                tracker.close()

    def write(self, text: str) -> None:
        """Writes text as it is, above any bar."""
        if self.console is not None:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def _bars(self) -> Iterator[Progress]:
        """The bars of all work that is under way."""
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                TextColumn("{task.fields[fields]}"),
                console=self.console,
            )
            self._progress.start()
        progress = self._progress
        self._open += 1
        try:
            yield progress
        finally:
            self._open -= 1
            if self._open == 0:
                progress.stop()
                self._progress = None


def draws_bars(console: Console) -> bool:
    """Check whether a console shows live bars: a terminal, or a notebook that has ipywidgets."""
    in_notebook = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal or in_notebook


def live_display(shown: bool = True) -> Display:
    """Live bars on standard error, for calls from Python; nothing where there can be none."""
    console = Console(stderr=True)
    return Display(console if shown and draws_bars(console) else None)


def describe_fields(fields: Mapping[str, Any]) -> str:
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


def format_digits(value: float, digits: int) -> str:
    """A number to so many digits, large ones without an exponent: "0.0068", "1240"."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:.0f}" if abs(rounded) >= 10**digits else f"{rounded:g}"
