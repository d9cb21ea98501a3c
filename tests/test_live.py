"""Curves that are redrawn while a training goes on."""

import json

from atomjax.reporting.live import LiveCurves


def test_curves_are_drawn_at_most_once_a_second_and_at_the_end(tmp_path) -> None:
    shown, now = [], [0.0]
    live = LiveCurves(tmp_path, show=shown.append, clock=lambda: now[0])
    live("training", 0, 40, {})
    assert shown == [], "nothing is logged yet"
    with (tmp_path / "metrics.jsonl").open("a") as file:
        for step in range(1, 41):
            now[0] += 0.25
            record = {"step": step, "train/own/force_mae_mev_per_angstrom": 100 / step}
            file.write(json.dumps(record) + "\n")
            if step % 10 == 0:
                record = {"step": step, "validation/own/energy_mae_mev_per_atom": 1.0}
                file.write(json.dumps(record) + "\n")
            file.flush()
            live("training", step, 40, {})
    # Ten seconds: ten drawings, and the last state.
    assert 9 <= len(shown) <= 11
    drawn = len(shown)
    live("training", 40, 40, {})
    now[0] += 5
    live("evaluating", 1, 2, {})
    assert len(shown) == drawn, "nothing new is not drawn again"
    # Drawings of two seconds each are followed by eighteen without one.
    slow, times = [], iter(range(0, 10_000, 2))
    live = LiveCurves(tmp_path, show=slow.append, clock=lambda: next(times))
    for step in range(1, 31):
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": 40 + step}) + "\n")
        live("training", step, 100, {})
    assert len(slow) == 4
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 71, "train/ow')
    assert live.draw().axes, "a run that was killed leaves half a line"
    forces, energies = shown[-1].axes
    (line,) = forces.lines
    assert list(line.get_xdata()) == list(range(1, 41))
    assert line.get_label() == "train, own"
    assert energies.get_ylabel() == "energy MAE (meV/atom)"
    assert energies.lines[0].get_label() == "validation, own"
