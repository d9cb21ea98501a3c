"""The picture at the top of README.md, from the results of the quickstart.

``python -m benchmarks.front`` writes ``docs/results/front.svg``.
"""

from pathlib import Path
from typing import Any

import numpy as np

from atomjax.reporting.drawing import COLORS, make_figure
from benchmarks.documents import ROOT, load

PATH = ROOT / "docs" / "results" / "front.svg"
TASK, STARTS = "aspirin", {"conformers": "the nearest", "slabs": "the farthest", "scratch": "none"}
SHADES = {"conformers": COLORS[2], "slabs": COLORS[1], "scratch": "0.6"}


def figures(root: Path = ROOT) -> tuple[dict[str, tuple[float, float]], dict[str, list[float]]]:
    """Candidate → distance and noise floor, and start → force MAE (meV/Å) of each seed."""
    results = load("quickstart", root)

    def one(point: str, metric: str) -> float:
        (value,) = results.values(point, metric).values()
        return value

    points = dict.fromkeys(row[0] for row in results.rows if row[3] == "noise_floor")
    distances = {point: (one(point, "csi"), one(point, "noise_floor")) for point in points}
    metric = "force_mae_mev_per_angstrom"
    return distances, {s: list(results.values(s, metric).values()) for s in STARTS}


def draw(path: Path = PATH) -> None:
    """Writes the picture."""
    import matplotlib

    distances, errors = figures()
    figure, (left, right) = make_figure(2, 4.8, 3.2)
    for i, (name, (value, floor)) in enumerate(distances.items()):
        left.barh(i, value, color=SHADES.get(name, COLORS[0]))
        left.plot([floor, floor], [i - 0.4, i + 0.4], color="k", linewidth=1.2)
        left.annotate(f" {value:.0f}", (value, i), va="center")
    left.set_yticks(range(len(distances)), list(distances))
    left.invert_yaxis()
    left.set(title=f"How far is each set from {TASK}?", xlabel="CSI (line: what chance gives)")
    left.set_xlim(0, 1.12 * max(value for value, _ in distances.values()))
    for i, (name, values) in enumerate(errors.items()):
        mean = float(np.mean(values))
        right.barh(i, mean, color=SHADES[name])
        right.plot(values, [i] * len(values), "k.", markersize=4)
        right.annotate(f" {mean:.0f}", (max(values), i), va="center")
    right.set_yticks(range(len(errors)), [f"{s}\n({w})" for s, w in STARTS.items()])
    right.invert_yaxis()
    right.set(title=f"Finetuned on 50 frames of {TASK}", xlabel="force MAE on others (meV/Å)")
    right.set_xlim(0, 1.12 * max(max(values) for values in errors.values()))
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    # The same bytes from the same numbers: no date, and names that do not change.
    with matplotlib.rc_context({"svg.hashsalt": "atomjax", "svg.fonttype": "none"}):
        metadata: dict[str, Any] = {"Date": None}
        figure.savefig(path, format="svg", metadata=metadata)


if __name__ == "__main__":
    draw()
