"""Panels that several reports share: curves, points, predictions against labels."""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atomjax.reporting.drawing import COLORS, LINES, MOST_SHAPES, Note, Plot
from atomjax.reporting.tables import with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Points of a scatter plot; more only make the file large.
MOST_POINTS = 20_000
# Points of a curve, or of a scatter plot, that say their numbers, and those of a whole panel.
MOST_NOTES = 60
PANEL_NOTES = 900
# Ratio of the largest to the smallest value from which an axis is logarithmic.
LOG_FROM = 3


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a plot."""

    label: str  # in the legend; curves of one label share a colour and one entry
    steps: Sequence[float]  # [n] places on the horizontal axis, such as optimiser steps
    values: Sequence[float]  # [n]
    name: str = ""  # name of this curve among those of its label, such as "seed 1"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One set of axes."""

    title: str  # above the axes
    y_label: str  # with the unit
    curves: Sequence[Curve]  # lines to draw; a panel without any is labelled as such
    x_label: str = "step"  # label of the horizontal axis
    log_x: bool = False  # whether that is logarithmic
    level: float | None = None  # height of a grey line to compare with


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Predictions against labels."""

    label: str  # above the axes
    true: np.ndarray  # [...] labels
    predicted: np.ndarray  # [...] predictions, in the same unit
    quantity: str  # name of the quantity
    unit: str  # unit on both axes
    # [n] names of the rows of the labels, such as those of structures.
    names: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Counts of classes that were predicted."""

    label: str  # above the axes
    counts: np.ndarray  # [C, C] structures of a class (rows) that were given a class (columns)
    classes: Sequence[str]  # names of the classes


def outcome_plot(name: str, caption: str, found: Sequence[Outcomes]) -> Plot:
    """Counts of classes that were predicted, the fraction of each class's structures as a shade."""
    draws = [functools.partial(draw_outcomes, item=one) for one in found]
    return Plot(name=name, caption=caption, panels=draws, width=4.4)


def draw_outcomes(ax: "Axes", item: Outcomes) -> list[Note]:
    """Draws counts as numbers in a grid."""
    shares = item.counts / np.maximum(item.counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(item.counts):
        color = "white" if shares[i, j] > 0.5 else "black"
        ax.text(j, i, f"{count:,}", ha="center", va="center", color=color)
    places = range(len(item.classes))
    ax.set(xticks=places, yticks=places, xticklabels=item.classes, yticklabels=item.classes)
    right = np.trace(item.counts) / max(item.counts.sum(), 1)
    ax.set(title=f"{item.label}: accuracy {right:.3g}", xlabel="predicted", ylabel="true")
    return []


def curve_plot(name: str, caption: str, panels: Sequence[Panel]) -> Plot:
    """Panels of curves, on a logarithmic scale where values are positive and of several sizes."""
    draws = [functools.partial(draw_curves, panel=panel) for panel in panels]
    return Plot(name=name, caption=caption, panels=draws)


def point_plot(name: str, caption: str, panels: Sequence[Panel]) -> Plot:
    """Panels of points, a colour for each label."""
    draws = [functools.partial(draw_points, panel=panel) for panel in panels]
    return Plot(name=name, caption=caption, panels=draws)


def comparison_plot(name: str, caption: str, comparisons: Sequence[Comparison]) -> Plot:
    """Predictions against labels; panels of one quantity have one scale."""
    ends: dict[str, tuple[float, float]] = {}
    for one in comparisons:
        both = np.concatenate([np.ravel(one.true), np.ravel(one.predicted)])
        low, high = ends.get(one.quantity, (np.inf, -np.inf))
        ends[one.quantity] = min(low, np.nanmin(both)), max(high, np.nanmax(both))
    labels = colors_of(one.label for one in comparisons)
    draws = [
        functools.partial(
            draw_comparison, item=one, color=labels[one.label], ends=ends[one.quantity]
        )
        for one in comparisons
    ]
    return Plot(name=name, caption=caption, panels=draws, width=4.4)


def draw_curves(ax: "Axes", panel: Panel) -> list[Note]:
    """Draws curves; at most so many points of each say their numbers as can be told apart."""
    colors, named, notes = colors_of(curve.label for curve in panel.curves), set(), []
    labels, most = list(colors), min(MOST_NOTES, PANEL_NOTES // max(len(panel.curves), 1))
    for curve in panel.curves:
        ax.plot(
            curve.steps,
            curve.values,
            color=colors[curve.label],
            linestyle=LINES[labels.index(curve.label) // len(COLORS) % len(LINES)],
            label=None if curve.label in named else curve.label,
            linewidth=1.4,
            marker="." if len(curve.steps) < 30 else None,
        )
        named.add(curve.label)
        notes += _notes_of(curve, panel, most)
    values = [value for curve in panel.curves for value in curve.values]
    if values and min(values) > 0 and max(values) > LOG_FROM * min(values):
        ax.set_yscale("log")
        # Plain numbers: powers of ten are hard to read within one decade.
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(sparse_label)
    if panel.curves:
        ax.legend(frameon=False)
    else:
        ax.text(0.5, 0.5, "nothing logged", ha="center", transform=ax.transAxes)
    if panel.log_x:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(sparse_label)
    ax.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    return notes


def draw_points(ax: "Axes", panel: Panel) -> list[Note]:
    """Draws points, all of which say their numbers."""
    colors, notes = colors_of(curve.label for curve in panel.curves), []
    for curve in panel.curves:
        color = colors[curve.label]
        ax.scatter(curve.steps, curve.values, s=18, color=color, label=curve.label)
        notes += _notes_of(curve, panel, len(curve.steps))
    if panel.level is not None:
        ax.axhline(panel.level, color="0.6", linewidth=0.8, zorder=0)
    ax.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.curves:
        ax.legend(frameon=False)
    return notes


def draw_comparison(
    ax: "Axes",
    item: Comparison,
    *,
    color: str = COLORS[0],
    ends: tuple[float, float] | None = None,
) -> list[Note]:
    """Draws predictions against labels; those that err most say their numbers."""
    true, predicted = np.ravel(item.true), np.ravel(item.predicted)
    known = np.isfinite(true) & np.isfinite(predicted)
    both = np.concatenate([true[known], predicted[known]])
    low, high = (both.min(), both.max()) if ends is None else ends
    chosen = slice(None, None, max(1, -(-len(true) // MOST_POINTS)))
    ax.plot([low, high], [low, high], color="0.6", linewidth=0.8)
    ax.scatter(
        true[chosen],
        predicted[chosen],
        s=5,
        color=color,
        linewidths=0,
        alpha=0.5,
        rasterized=len(true) > MOST_SHAPES,
    )
    error, unit = np.abs(predicted - true), item.unit
    ax.set(
        title=f"{item.label}: MAE {error[known].mean():.4g} {unit}".rstrip(),
        xlabel=f"true {with_unit(item.quantity, unit)}",
        ylabel=f"predicted {with_unit(item.quantity, unit)}",
        aspect="equal",
    )
    worst = np.argsort(-np.where(known, error, -1), kind="stable")[: min(MOST_NOTES, known.sum())]
    components = true.size // max(len(item.true), 1)
    return [
        Note(
            (f"{item.names[i // components]}\n" if item.names is not None else "")
            + f"true {true[i]:.4g}, predicted {predicted[i]:.4g} {unit}".rstrip(),
            float(true[i]),
            float(predicted[i]),
        )
        for i in worst.tolist()
    ]


def colors_of(labels: Iterable[str]) -> dict[str, str]:
    """A colour for each label, in the order in which they come first."""
    unique = list(dict.fromkeys(labels))
    return {label: COLORS[i % len(COLORS)] for i, label in enumerate(unique)}


def _notes_of(curve: Curve, panel: Panel, most: int) -> list[Note]:
    """The numbers of points of a curve, the last one among them."""
    name = ", ".join(filter(None, (curve.label, curve.name)))
    stride = max(1, -(-len(curve.steps) // max(most, 1)))
    points = list(zip(curve.steps, curve.values, strict=True))[::-1][::stride]
    return [
        Note(f"{name}\n{panel.x_label} {x:.6g}\n{panel.y_label} {y:.4g}", x, y)
        for x, y in points
        if np.isfinite([x, y]).all()
    ]


def sparse_label(value: float, _position: float) -> str:
    """Label of a minor tick of a logarithmic axis: 2, 3 and 5 of each decade."""
    leading = f"{value:e}"[0]
    return f"{value:g}" if leading in "235" else ""
