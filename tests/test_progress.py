"""Progress on a terminal and in a log file."""

import io

from rich.console import Console

from atomjax.runtime.progress import (
    Display,
    LineTracker,
    draws_bars,
    format_digits,
    format_seconds,
)


class Clock:
    """Seconds that pass only when told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_come_at_intervals_and_at_the_end():
    lines, clock = [], Clock()
    tracker = LineTracker(lines.append, 40, "train", start=10, interval=10, clock=clock)
    for _ in range(29):
        clock.now += 1
        tracker.advance(loss=0.123456)
    tracker.close()
    assert lines == [
        "train: 20/40  loss 0.1235  0:10 gone, 0:20 left",
        "train: 30/40  loss 0.1235  0:20 gone, 0:10 left",
        "train: 39/40  loss 0.1235  0:29 gone, 0:01 left",
    ]


def test_compilation_is_not_in_the_forecast():
    lines, clock = [], Clock()
    tracker = LineTracker(lines.append, 11, "train", interval=20, clock=clock)
    for seconds in (100, 10, 10):
        clock.now += seconds
        if seconds == 100:
            tracker.discount(95)
        tracker.advance()
    assert lines == [
        "train: 1/11  1:40 gone, 0:50 left",
        "train: 3/11  2:00 gone, 1:07 left",
    ]


def test_the_forecast_counts_what_is_done_again():
    lines, clock = [], Clock()
    tracker = LineTracker(lines.append, 10, "x.h5 (MB)", start=8, clock=clock)
    tracker.advance(-8)
    for _ in range(5):
        clock.now += 2
        tracker.advance()
    assert lines == ["x.h5 (MB): 5/10  0:10 gone, 0:10 left"]


def test_finished_work_gives_one_last_line():
    lines = []
    tracker = LineTracker(lines.append, 2, "label", clock=Clock())
    tracker.advance(2, dropped=1)
    tracker.close()
    tracker.close()
    assert lines == ["label: 2/2  dropped 1  0:00"]


def test_plain_display_writes_no_control_characters():
    stream = io.StringIO()
    display = Display(Console(file=stream, force_terminal=False))
    with display.track(3, "pretrain") as tracker:
        display.write("step [3] of [red]three[/red]")
        tracker.advance(3)
    assert stream.getvalue().startswith("step [3] of [red]three[/red]\npretrain: 3/3")
    assert "\x1b" not in stream.getvalue()


def test_terminal_display_nests_bars():
    stream = io.StringIO()
    display = Display(Console(file=stream, force_terminal=True, width=120))
    with display.track(2, "outer") as outer, display.track(3, "inner") as inner:
        inner.advance(3, loss=1.5)
        outer.discount(1.0)
        outer.advance()
        display.write("message")
    text = stream.getvalue()
    assert "outer" in text
    assert "3/3" in text
    assert "loss 1.5" in text
    assert "message" in text


def test_no_console_shows_nothing():
    with Display(None).track(3, "x") as tracker:
        tracker.advance(3)
        tracker.discount(1.0)


def test_format_seconds():
    assert [format_seconds(s) for s in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]


def test_format_digits():
    numbers = [(0.00684, 2), (102.4, 2), (1236.0, 3), (26.5, 3), (12344.0, 4), (-99.6, 2), (0.0, 2)]
    texts = ["0.0068", "100", "1240", "26.5", "12340", "-100", "0"]
    assert [format_digits(*number) for number in numbers] == texts


def test_notebooks_that_have_widgets_show_bars(monkeypatch) -> None:
    found = {"ipywidgets": None}
    monkeypatch.setattr("importlib.util.find_spec", found.get)
    notebook, plain = (
        Console(force_jupyter=is_one, file=io.StringIO()) for is_one in (True, False)
    )
    assert not draws_bars(notebook), "rich would print a new bar at every step"
    found["ipywidgets"] = object()
    assert draws_bars(notebook)
    assert not draws_bars(plain)
