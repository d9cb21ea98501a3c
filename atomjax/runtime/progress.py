"""Progress of long work: a live bar on a terminal, plain periodic lines elsewhere."""

import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
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
)


class Tracker(Protocol):
    """Progress reports of a piece of work."""

    def advance(self, n: int = 1, **fields: Any) -> None:
        """Counts ``n`` more units as done and shows ``fields`` beside the count."""
        ...

    def discount(self, seconds: float) -> None:
        """Leaves time that will not come again, such as a compilation, out of the forecast."""
        ...


class Forecast:
    """Remaining time of some work, extrapolated from its rate so far."""

    def __init__(self, total: int, start: int, clock: Callable[[], float]):
        self.total, self.done = total, start
        self._start, self._clock = start, clock
        self._began, self._discounted = clock(), 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take; None where nothing is done yet or left."""
        done_here = self.done - self._start
        if done_here <= 0 or self.done >= self.total:
            return None
        return max(self.elapsed - self._discounted, 0.0) / done_here * (self.total - self.done)

    def discount(self, seconds: float) -> None:
        """Leaves time that will not come again out of the forecast."""
        self._discounted += seconds


class BarTracker:
    """One line of a live display."""

    def __init__(self, progress: Progress, task: TaskID, forecast: Forecast):
        self._progress = progress
        self._task = task
        self._forecast = forecast

    def advance(self, n: int = 1, **fields: Any) -> None:
        """Counts ``n`` more units as done and shows ``fields`` beside the bar."""
        self._forecast.done += n
        left = self._forecast.left
        shown: dict[str, Any] = {"left": "" if left is None else f"{format_seconds(left)} left"}
        if fields:
            shown["fields"] = describe_fields(fields)
        self._progress.update(self._task, advance=n, **shown)

    def discount(self, seconds: float) -> None:
        """Leaves time that will not come again out of the forecast."""
        self._forecast.discount(seconds)


class LineTracker:
    """Plain lines, at most one every ``interval`` seconds, and one at the end."""

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
        self._description = description
        self._forecast = Forecast(total, start, clock)
        self._interval = interval
        self._clock = clock
        self._last = clock()
        self._shown = start
        self._fields = ""

    def advance(self, n: int = 1, **fields: Any) -> None:
        """Counts ``n`` more units as done; writes a line when one is due."""
        self._forecast.done += n
        if fields:
            self._fields = describe_fields(fields)
        if self._clock() - self._last >= self._interval:
            self._write_line()

    def discount(self, seconds: float) -> None:
        """Leaves time that will not come again out of the forecast."""
        self._forecast.discount(seconds)

    def close(self) -> None:
        """Writes the last state if no line has shown it yet."""
        if self._forecast.done > self._shown:
            self._write_line()

    def _write_line(self) -> None:
        self._last = self._clock()
        forecast, self._shown = self._forecast, self._forecast.done
        parts = [f"{self._description}: {forecast.done}/{forecast.total}", self._fields]
        elapsed, left = format_seconds(forecast.elapsed), forecast.left
        parts.append(elapsed if left is None else f"{elapsed} gone, {format_seconds(left)} left")
        self._write("  ".join(part for part in parts if part))


class SilentTracker:
    """Shows nothing; for processes that do not own the terminal."""

    def advance(self, n: int = 1, **fields: Any) -> None:
        """Does nothing."""

    def discount(self, seconds: float) -> None:
        """Does nothing."""


# Takes the name of the work, units done, their total, and the fields shown beside them.
Told = Callable[[str, int, int, Mapping[str, Any]], None]


class TellingTracker:
    """A tracker that also reports progress to a callback; see :class:`Display`."""

    def __init__(self, tracker: Tracker, told: Told, description: str, total: int, start: int):
        self._tracker, self._told = tracker, told
        self._description, self._total, self._done = description, total, start

    def advance(self, n: int = 1, **fields: Any) -> None:
        """Reports the progress, and advances the other tracker."""
        self._done += n
        self._told(self._description, self._done, self._total, fields)
        self._tracker.advance(n, **fields)

    def discount(self, seconds: float) -> None:
        """Leaves time out of the other tracker's forecast."""
        self._tracker.discount(seconds)


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
        with self._shown(total, description, start) as tracker:
            if self._told is None:
                yield tracker
            else:
                self._told(description, start, total, {})
                yield TellingTracker(tracker, self._told, description, total, start)

    @contextmanager
    def _shown(self, total: int, description: str, start: int) -> Iterator[Tracker]:
        if self.console is None:
            yield SilentTracker()
        elif draws_bars(self.console):
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
                TextColumn("{task.fields[left]}"),
                TextColumn("{task.fields[fields]}"),
                console=self.console,
            )
            self._progress.start()
        progress = self._progress
        task = progress.add_task(description, total=total, completed=start, fields="", left="")
        self._open += 1
        try:
            yield BarTracker(progress, task, Forecast(total, start, time.monotonic))
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


def format_digits(value: float, digits: int) -> str:
    """A number to so many digits, large ones without an exponent: "0.0068", "1240"."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:.0f}" if abs(rounded) >= 10**digits else f"{rounded:g}"
