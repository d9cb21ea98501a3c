"""Figures of a survey: how well each measure ranks, and errors against each measure."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from atomjax.reporting.drawing import Note, Plot
from atomjax.reporting.plots import Curve, Panel, point_plot
from atomjax.studies.results import Findings
from atomjax.studies.tables import heading
from atomjax.studies.transfer import SCRATCH

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches of a row of a figure with a row for each measure, and of what is around it.
ROW, AROUND = 0.28, 1.2


def correlation_plot(
    found: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], level: float
) -> Plot:
    """Rank correlations of every measure with the errors, the best at the top.

    Args:
        found: measure → "by_task", "mean" and "interval".
        titles: measure → its name in words.
        level: confidence level of the intervals.
    """
    return Plot(
        name="correlations",
        caption="Rank correlation with the error: a dot for each task, the mean with its "
        f"{level:.0%} interval.",
        panels=[functools.partial(_draw_correlations, found=found, titles=titles)],
        width=7.5,
        height=ROW * len(found) + AROUND,
    )


def _draw_correlations(
    ax: "Axes", found: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]
) -> list[Note]:
    order = sorted(found, key=lambda key: found[key]["mean"])
    notes = []
    for y, key in enumerate(order):
        one = found[key]
        values = list(one["by_task"].values())
        ax.plot(one["interval"], [y, y], color="0.75", linewidth=4, solid_capstyle="butt")
        ax.plot(values, [y] * len(values), "o", color="C0", markersize=4, alpha=0.6)
        ax.plot(one["mean"], y, "|", color="black", markersize=11, markeredgewidth=2)
        notes.append(Note(f"{titles[key]}: mean {one['mean']:.2f}", one["mean"], y))
        for task, value in one["by_task"].items():
            notes.append(Note(f"{titles[key]}, {task}: {value:.2f}", value, y))
    ax.axvline(0, color="0.5", linewidth=0.8)
    ax.set_yticks(range(len(order)), [titles[key] for key in order])
    ax.set(xlim=(-1.05, 1.05), xlabel="rank correlation with the error")
    return notes


def error_plots(findings: Findings, judged: Mapping[str, str]) -> list[Plot]:
    """Errors of pretraining on single sets against each measure, one panel a task."""
    results, singles, plots = findings.results, findings.settings.singles, []
    for column in findings.settings.comparison().columns:
        steps = {
            (name, task): results.values(name, column.name, task).get(None, np.nan)
            for name in singles
            for task in judged
        }
        if not column.first or not np.isfinite(list(steps.values())).any():
            continue
        panels = []
        for task, metric in judged.items():
            curves = []
            for candidate, start in singles.items():
                errors = results.errors(start, metric, task)
                places = [steps[candidate, task]] * len(errors)
                curves.append(Curve(label=candidate, steps=places, values=errors))
            scratch = float(np.mean(results.errors(SCRATCH, metric, task)))
            label = f"{heading(results, metric, task)}, grey: scratch"
            panels.append(
                Panel(title=task, x_label=column.title, y_label=label, curves=curves, level=scratch)
            )
        caption = f"Errors after pretraining on one set, against its {column.title} to the task."
        name = "errors" if column.leads else f"errors_{column.name}"
        plots.append(point_plot(name, caption, panels))
    return plots
