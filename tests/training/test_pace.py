"""The forecast of a run from its measured steps."""

import pytest

from atomjax.training.running.pace import Pace, duration


def test_first_step_compilations_and_validations_do_not_count():
    now = [0.0]
    pace = Pace(1_000, 16, "1 x cpu", clock=lambda: now[0])
    lines, other = [], 0.0
    for step in range(1, 40):
        now[0] += 60.0 if step == 1 else 2.0
        if step in (5, 9):
            # A compilation, or a validation, of 100 seconds.
            now[0] += 100.0
            other += 100.0
        lines.append(pace.finished(step, other))
    told = [line for line in lines if line]
    # The 15 steps after the first take 30 seconds.
    assert lines.index(told[0]) == 15
    assert told == [
        "pace: 2 s a step of 16 structures on 1 x cpu, so 33 min 20 s for the 1,000 steps of the "
        "budget and 32 min 48 s for those left, besides validations"
    ]


def test_fast_steps_are_averaged_and_short_runs_still_told():
    now = [0.0]
    pace = Pace(1_000_000, 8, "2 x gpu", clock=lambda: now[0])
    lines = []
    for step in range(501, 560):
        now[0] += 0.1
        lines.append(pace.finished(step, 0.0))
    assert [i for i, line in enumerate(lines) if line] == [20]
    assert "so 27 h 46 min for the 1,000,000 steps" in str(lines[20])
    short = Pace(3, 8, "1 x cpu", may_end_sooner=True, clock=lambda: now[0])
    lines = [short.finished(step, 0.0) for step in (1, 2, 3)]
    assert lines[:2] == [None, None]
    assert "so at most 0 s for the 3 steps" in str(lines[2])


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (450_000, "5.2 days"),
        (1e8, "1,157.4 days"),
    ],
)
def test_times_are_said_with_their_units(seconds, words):
    assert duration(seconds) == words
