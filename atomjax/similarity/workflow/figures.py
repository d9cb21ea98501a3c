"""Figures of a similarity job: bars, matrices of distances, and a map of node features."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import gaussian_kde

from atomjax.reporting.drawing import COLORS, Note, Plot
from atomjax.reporting.plots import colors_of
from atomjax.similarity.analysis.comparison import Comparison, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osv^D"
BAR_WIDTH = 0.8
PALE = 0.35
# Rows of each set that the map shows, and those of a task, which are shapes on top.
SHOWN_ROWS = 2000
TASK_ROWS = 300
# Contours hold these fractions of a set's rows, by the density of some on a grid.
HELD = (0.9, 0.5)
DENSITY_ROWS = 600
GRID = 60
FEWEST_ROWS = 10
TINY = np.finfo(float).tiny
# Fractions of the colour at the nearest and at the farthest set; text can be read on all of them.
NEAREST_SHADE, FARTHEST_SHADE = 0.6, 0.04


def bar_plot(comparison: Comparison) -> Plot:
    """Values as bars, grouped by task, one panel for each measure, variant and view.

    Bars have intervals where these are known, and are pale where chance gives as much.

    Args:
        comparison: values to draw, as in Fig. 3 and 5 to 8 of arXiv:2502.11085.
    """
    return Plot(
        name="bars",
        caption="Every measure on every kind of features, with intervals where they are known; "
        "pale where two sets of one distribution would be as far apart.",
        panels=[
            functools.partial(_draw_bars, comparison=comparison, table=table)
            for table in comparison.tables
        ],
        width=2.5 + 1.2 * len(comparison.downstream),
    )


def _draw_bars(ax: "Axes", comparison: Comparison, table: Table) -> list[Note]:
    tasks, sets = ([s.name for s in side] for side in (comparison.downstream, comparison.upstream))
    width, distance, notes = BAR_WIDTH / len(sets), table.distance, []
    for i, (name, color) in enumerate(colors_of(sets).items()):
        x = np.arange(len(tasks)) + (i - (len(sets) - 1) / 2) * width
        errors = None
        if table.lower is not None and table.upper is not None:
            # An interval that corrects for the bias may lie beside the value.
            ends = distance[i] - table.lower[i], table.upper[i] - distance[i]
            errors = np.nan_to_num(np.maximum(ends, 0))
        bars = ax.bar(
            x,
            distance[i],
            0.9 * width,
            label=name,
            color=color,
            yerr=errors,
            capsize=2,
            ecolor="0.55",
        )
        for j, bar in enumerate(bars):
            bar.set_alpha(1.0 if table.above is None or table.above[i, j] else PALE)
            if math.isfinite(distance[i, j]):
                box = (x[j] - 0.45 * width, 0.0, 0.9 * width, float(distance[i, j]))
                notes.append(Note(describe_pair(table, name, tasks[j], i, j), *box))
    ax.set_xticks(range(len(tasks)), tasks)
    # Sets that share nothing have no bar.
    ax.set_xlim(-0.5, len(tasks) - 0.5)
    nearer = "lower" if table.measure.near == "small" else "higher"
    ax.set(title=table.column.variant, ylabel=f"{table.measure.label} ({nearer} is nearer)")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return notes


def matrix_plot(comparison: Comparison) -> Plot:
    """Values with their intervals, coloured relative to the closest set of each task."""
    tables = [table for table in comparison.tables if table.column.first]
    return Plot(
        name="heat_map",
        caption="Distances from candidates (rows) to tasks (columns) with their "
        f"{comparison.level:.0%} intervals; the stronger the colour, the nearer.",
        panels=[
            functools.partial(_draw_matrix, comparison=comparison, table=table) for table in tables
        ],
        width=2.6 + 1.4 * len(comparison.downstream),
        height=1.4 + 0.55 * len(comparison.upstream),
    )


def _draw_matrix(ax: "Axes", comparison: Comparison, table: Table) -> list[Note]:
    tasks, sets = ([s.name for s in side] for side in (comparison.downstream, comparison.upstream))
    texts = [
        [describe_pair(table, name, task, i, j) for j, task in enumerate(tasks)]
        for i, name in enumerate(sets)
    ]
    ends = None if table.lower is None or table.upper is None else (table.lower, table.upper)
    title, sign = table.measure.label, table.measure.sign
    return draw_heat(ax, table.distance, sets, tasks, title, sign, ends=ends, texts=texts)


def describe_pair(table: Table, upstream: str, task: str, i: int, j: int) -> str:
    """The numbers of one pair, as the pointer shows them."""
    lines = [f"{upstream} to {task}", f"{table.column.title} {table.distance[i, j]:.4g}"]
    if table.lower is not None and table.upper is not None:
        lines.append(f"interval {table.lower[i, j]:.4g} to {table.upper[i, j]:.4g}")
    if table.floor is not None:
        lines.append(f"noise floor {table.floor[i, j]:.4g}")
    return "\n".join(lines)


def part_plot(comparison: Comparison, table: Table) -> Plot:
    """Values within each part, one panel for each task; empty where a set lacks the part."""
    most = max(len(one.share) for one in table.values.parts.values())
    return Plot(
        name=f"{table.measure.parts_name}s",
        caption=f"{table.column.title}: the value within each {table.measure.parts_name}, with its "
        "share in the task.",
        panels=[
            functools.partial(_draw_parts, comparison=comparison, table=table, j=j)
            for j in range(len(comparison.downstream))
        ],
        width=max(4.0, 2.0 + 0.75 * most),
        height=1.4 + 0.45 * len(comparison.upstream),
    )


def _draw_parts(ax: "Axes", comparison: Comparison, table: Table, j: int) -> list[Note]:
    sets, task = [s.name for s in comparison.upstream], comparison.downstream[j].name
    rows = [table.values.parts[i, j] for i in range(len(sets))]
    names = [f"{part}\n{share:.0%}" for part, share in rows[0].share.items()]
    values = [[row.distance.get(part, np.nan) for part in row.share] for row in rows]
    title = f"{task}: {table.column.title}"
    return draw_heat(ax, np.array(values), sets, names, title, table.measure.sign)


def map_plot(rows: Mapping[str, np.ndarray], tasks: Sequence[str], seed: int = 0) -> Plot:
    """Feature rows of all sets in the plane of their two principal components.

    Args:
        rows: name of the set → [n, d] feature rows; sets weigh alike.
        tasks: names that are downstream, drawn on top.
        seed: seed of the choice of rows.
    """
    rng = np.random.default_rng(seed)
    count = min(len(values) for values in rows.values())
    even = [values[rng.permutation(len(values))[:count]] for values in rows.values()]
    pooled = np.concatenate(even).astype(np.float64)
    mean = pooled.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(pooled - mean, rowvar=False))
    plane = directions[:, [-1, -2]]
    # An eigenvector has no sign of its own.
    plane = plane * np.sign(plane[np.abs(plane).argmax(axis=0), [0, 1]])
    shares = variances[[-1, -2]] / max(variances.sum(), np.finfo(float).tiny)
    ordered = [*(name for name in rows if name not in tasks), *tasks]
    points = {
        name: ((rows[name] - mean) @ plane)[rng.permutation(len(rows[name]))[:SHOWN_ROWS]]
        for name in ordered
    }
    return Plot(
        name="map",
        caption="Features of atoms in the plane of their two principal directions. Contours hold "
        "half and nine tenths of the rows of a set; tasks have the colour of text.",
        panels=[functools.partial(_draw_map, points=points, tasks=tasks, shares=shares)],
        width=6.4,
        height=5.8,
    )


def _draw_map(
    ax: "Axes", points: Mapping[str, np.ndarray], tasks: Sequence[str], shares: np.ndarray
) -> list[Note]:
    notes, colors = [], colors_of(name for name in points if name not in tasks)
    for i, (name, own) in enumerate(points.items()):
        dark = name in tasks
        color = "black" if dark else colors[name]
        # Shapes take the colour of a dark page, an image could not.
        shown = own[:TASK_ROWS] if dark else own
        style = {"marker": MARKERS[i % len(MARKERS)], "s": 9, "linewidths": 0}
        ax.scatter(*shown.T, color=color, alpha=0.3, rasterized=not dark, **style)
        ax.scatter([], [], color=color, label=name, marker=style["marker"], s=30, linewidths=0)
        _draw_contours(ax, own, color)
        middle = own.mean(axis=0)
        text = f"{name}: mean of {len(own):,} rows\n({middle[0]:.3g}, {middle[1]:.3g})"
        ax.scatter(*middle, color=color, marker="P", s=60, edgecolors="white", linewidths=0.8)
        notes.append(Note(text, float(middle[0]), float(middle[1])))
    ax.set(
        xlabel=f"first principal direction ({shares[0]:.0%} of the variance)",
        ylabel=f"second ({shares[1]:.0%})",
    )
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return notes


def _draw_contours(ax: "Axes", points: np.ndarray, color: str) -> None:
    """Draws lines of equal density that hold fractions of the points; none of too few."""
    if len(points) < FEWEST_ROWS or np.linalg.matrix_rank(np.cov(points.T)) < 2:
        return
    # The rows are in random order.
    density = gaussian_kde(points[:DENSITY_ROWS].T)
    levels = np.quantile(density(points[:DENSITY_ROWS].T), [1 - held for held in HELD])
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.15 * (high - low)
    x, y = (np.linspace(a, b, GRID) for a, b in zip(low - margin, high + margin, strict=True))
    grid = np.meshgrid(x, y)
    height = density(np.stack([one.ravel() for one in grid])).reshape(GRID, GRID)
    if levels[0] < levels[1]:
        ax.contour(x, y, height, levels=levels, colors=[color], linewidths=[0.7, 1.6])


def embedding_plot(embeddings: Mapping[str, np.ndarray]) -> Plot:
    """Cosine similarity of the learned embeddings of elements."""
    width = 2.8 + 0.34 * len(embeddings)
    return Plot(
        name="embeddings",
        caption="Cosine similarity of the learned embeddings of elements.",
        panels=[functools.partial(_draw_embeddings, embeddings=embeddings)],
        width=width,
        height=0.8 * width,
    )


def _draw_embeddings(ax: "Axes", embeddings: Mapping[str, np.ndarray]) -> list[Note]:
    symbols = list(embeddings)
    similarity = cosine_similarity(np.stack(list(embeddings.values())))
    image = ax.imshow(similarity, cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set_xticks(range(len(symbols)), symbols)
    ax.set_yticks(range(len(symbols)), symbols)
    ax.figure.colorbar(image, ax=ax)
    return [
        Note(f"{symbols[i]} and {symbols[j]}: {value:.2f}", j - 0.5, i - 0.5, 1, 1)
        for (i, j), value in np.ndenumerate(similarity)
    ]


def cosine_similarity(rows: np.ndarray) -> np.ndarray:
    """[n, n] cosines of the angles between rows [n, C]."""
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(float).tiny)
    return unit @ unit.T


def draw_heat(
    ax: "Axes",
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    sign: int,
    *,
    ends: tuple[np.ndarray, np.ndarray] | None = None,
    texts: Sequence[list[str]] | None = None,
) -> list[Note]:
    """Draws values [rows, columns] as colours, each relative to the nearest of its column.

    Args:
        ax: axes to draw on.
        values: the values, which are written into the fields.
        rows: labels of the rows.
        columns: labels of the columns.
        title: above the axes.
        sign: 1 where small values are near, -1 where large ones are.
        ends: ends of their intervals, written below the values.
        texts: what the pointer shows of each; None makes it of labels and value.
    """
    from matplotlib.patches import Rectangle

    shades, notes = _shades(values, sign), []
    for (i, j), value in np.ndenumerate(values):
        box = Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=COLORS[0], alpha=shades[i, j])
        ax.add_patch(box)
        text = f"{value:.3g}" if np.isfinite(value) else "–"
        known = ends is not None and np.isfinite([ends[0][i, j], ends[1][i, j]]).all()
        ax.text(j, i - (0.13 if known else 0), text, ha="center", va="center")
        if ends is not None and known:
            interval = f"{ends[0][i, j]:.3g} to {ends[1][i, j]:.3g}"
            ax.text(j, i + 0.22, interval, ha="center", va="center", fontsize=8.5)
        said = f"{rows[i]} to {columns[j]}: {text}" if texts is None else texts[i][j]
        notes.append(Note(said, j - 0.5, i - 0.5, 1, 1))
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(title=title)
    return notes


def _shades(values: np.ndarray, sign: int) -> np.ndarray:
    """Strength of the colour of each value, on a logarithmic scale of its ratio to the nearest."""
    nearest = np.nanmin if sign > 0 else np.nanmax
    with np.errstate(invalid="ignore", divide="ignore"):
        best = np.array([nearest(v) if np.isfinite(v).any() else np.nan for v in values.T])
        # Of equal sets the value is zero, or less by an unbiased estimate.
        logs, least = np.log(np.maximum(values, TINY)), np.log(np.maximum(best, TINY))
        far = np.nan_to_num(sign * (logs - least), nan=np.inf, posinf=np.inf)
    known = np.isfinite(far)
    most = far[known].max(initial=0.0) or 1.0
    shade = NEAREST_SHADE - (NEAREST_SHADE - FARTHEST_SHADE) * far / most
    return np.where(known, shade, 0.0)
