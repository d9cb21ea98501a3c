"""Plots of a run: curves over steps, predictions against labels. Files and figures, no display."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atomjax.reporting.tables import with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
# Points of a scatter plot; more only make the file large.
MOST_POINTS = 20_000


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a plot.

    Attributes:
        label: in the legend; curves of one label share a colour and one entry.
        steps: [n] places on the horizontal axis, such as optimiser steps.
        values: [n].
    """

    label: str
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One set of axes.

    Attributes:
        title: above the axes.
        y_label: with the unit.
        curves: lines to draw; a panel without any is labelled as such.
        x_label: label of the horizontal axis.
        log_x: whether that is logarithmic.
        level: height of a grey line to compare with.
    """

    title: str
    y_label: str
    curves: Sequence[Curve]
    x_label: str = "step"
    log_x: bool = False
    level: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Predictions against labels.

    Attributes:
        label: above the axes.
        true: [...] labels.
        predicted: [...] predictions, in the same unit.
    """

    label: str
    true: np.ndarray
    predicted: np.ndarray


def plot_curves(panels: Sequence[Panel], path: Path | None) -> "Figure":
    """Draws panels of curves side by side, on a logarithmic scale; writes a PNG to a path."""
    figure, axes = make_figure(len(panels))
    for ax, panel in zip(axes, panels, strict=True):
        colors = _colors(curve.label for curve in panel.curves)
        named = set()
        for curve in panel.curves:
            label = None if curve.label in named else curve.label
            named.add(curve.label)
            ax.plot(
                curve.steps,
                curve.values,
                color=colors[curve.label],
                label=label,
                linewidth=1.2,
                marker="." if len(curve.steps) < 30 else None,
            )
        values = [value for curve in panel.curves for value in curve.values]
        if values and min(values) > 0:
            ax.set_yscale("log")
            # Plain numbers: powers of ten are hard to read within one decade.
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter(_sparse_label)
        if panel.curves:
            ax.legend(frameon=False)
        else:
            ax.text(0.5, 0.5, "nothing logged", ha="center", transform=ax.transAxes)
        if panel.log_x:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter(_sparse_label)
        ax.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    return save_figure(figure, path)


def plot_scatter(panels: Sequence[Panel], path: Path) -> None:
    """Draws panels of points side by side, a colour for each label, and writes a PNG."""
    figure, axes = make_figure(len(panels))
    for ax, panel in zip(axes, panels, strict=True):
        colors = _colors(curve.label for curve in panel.curves)
        for curve in panel.curves:
            color = colors[curve.label]
            ax.scatter(curve.steps, curve.values, s=16, color=color, label=curve.label)
        if panel.level is not None:
            ax.axhline(panel.level, color="0.6", linewidth=0.8, zorder=0)
        ax.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if panels[-1].curves:
        axes[-1].legend(frameon=False)
    save_figure(figure, path)


def plot_comparisons(
    comparisons: Sequence[Comparison], quantity: str, unit: str, path: Path
) -> None:
    """Draws predictions against labels, one panel for each comparison on the same scale.

    Args:
        comparisons: sets of predictions to draw.
        quantity: name of the quantity.
        unit: unit on both axes.
        path: PNG to write.
    """
    figure, axes = make_figure(len(comparisons))
    ends = [
        end
        for item in comparisons
        for end in (item.true.min(), item.true.max(), item.predicted.min(), item.predicted.max())
    ]
    for ax, item, color in zip(axes, comparisons, COLORS, strict=False):
        draw_comparison(ax, item, quantity, unit, color=color, ends=(min(ends), max(ends)))
    save_figure(figure, path)


def draw_comparison(
    ax: "Axes",
    item: Comparison,
    quantity: str,
    unit: str,
    *,
    color: str = COLORS[0],
    ends: tuple[float, float] | None = None,
) -> None:
    """Draws predictions against labels.

    Args:
        ax: axes to draw on.
        item: predictions and labels.
        quantity: name of the quantity.
        unit: unit on both axes.
        color: colour of the points.
        ends: ends of both axes; None takes those of the numbers.
    """
    true, predicted = np.ravel(item.true), np.ravel(item.predicted)
    both = np.concatenate([true, predicted])
    low, high = (both.min(), both.max()) if ends is None else ends
    chosen = slice(None, None, max(1, -(-len(true) // MOST_POINTS)))
    ax.plot([low, high], [low, high], color="0.6", linewidth=0.8)
    ax.scatter(true[chosen], predicted[chosen], s=3, color=color, linewidths=0, alpha=0.5)
    error = np.abs(predicted - true).mean()
    ax.set(
        title=f"{item.label}: MAE {error:.4g} {unit}".rstrip(),
        xlabel=f"true {with_unit(quantity, unit)}",
        ylabel=f"predicted {with_unit(quantity, unit)}",
        aspect="equal",
    )


def _sparse_label(value: float, _position: float) -> str:
    """Label of a minor tick of a logarithmic axis: 2 and 5 of each decade."""
    leading = f"{value:e}"[0]
    return f"{value:g}" if leading in "25" else ""


def _colors(labels) -> dict[str, str]:
    unique = list(dict.fromkeys(labels))
    return {label: COLORS[i % len(COLORS)] for i, label in enumerate(unique)}


def make_figure(
    panels: int, width: float = 5.2, height: float = 4.2
) -> "tuple[Figure, Sequence[Axes]]":
    """A figure of panels side by side, each so many inches wide."""
    # The canvas is named outright: pyplot would look for a display and keep global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * panels, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False)
    return figure, list(axes[0])


def save_figure(figure: "Figure", path: Path | None) -> "Figure":
    """Writes a figure as PNG where there is a path, and returns it."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    return figure
