"""The forecast of a run from its measured steps."""

from atomjax.training.pace import Pace


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
        "pace: 2 s a step of 16 structures on 1 x cpu, so 33:20 for the 1,000 steps of the budget "
        "and 32:48 for those left, besides validations"
    ]


def test_fast_steps_are_averaged_and_short_runs_still_told():
    now = [0.0]
    pace = Pace(1_000_000, 8, "2 x gpu", clock=lambda: now[0])
    lines = []
    for step in range(501, 560):
        now[0] += 0.1
        lines.append(pace.finished(step, 0.0))
    assert [i for i, line in enumerate(lines) if line] == [20]
    assert "27:46:40 for the 1,000,000 steps" in str(lines[20])
    short = Pace(3, 8, "1 x cpu", clock=lambda: now[0])
    assert [short.finished(step, 0.0) is None for step in (1, 2, 3)] == [True, True, False]
