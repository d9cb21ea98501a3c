"""Figures of a similarity job: grouped bars, heat map, elements, and a map of node features."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atomjax.reporting.plots import COLORS, make_figure, save_figure
from atomjax.similarity.analysis.comparison import Comparison, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osv^D"
BAR_WIDTH = 0.8
PALE = 0.35


def plot_bars(comparison: Comparison, path: Path) -> None:
    """Values as bars, grouped by task, one panel for each measure, variant and view.

    Bars have intervals where these are known, and are pale where chance gives as much.

    Args:
        comparison: values to draw, as in Fig. 3 and 5 to 8 of arXiv:2502.11085.
        path: PNG to write.
    """
    tasks, sets = ([s.name for s in side] for side in (comparison.downstream, comparison.upstream))
    figure, axes = make_figure(len(comparison.tables), 2.5 + 1.2 * len(tasks))
    width = BAR_WIDTH / len(sets)
    for ax, table in zip(axes, comparison.tables, strict=True):
        distance = table.distance
        for i, name in enumerate(sets):
            x = np.arange(len(tasks)) + (i - (len(sets) - 1) / 2) * width
            errors = None
            if table.lower is not None and table.upper is not None:
                # An interval that corrects for the bias may lie beside the value.
                ends = distance[i] - table.lower[i], table.upper[i] - distance[i]
                errors = np.nan_to_num(np.maximum(ends, 0))
            bars = ax.bar(
                x, distance[i], 0.9 * width, label=name, color=_color(i), yerr=errors, capsize=2
            )
            for j, bar in enumerate(bars):
                bar.set_alpha(1.0 if table.above is None or table.above[i, j] else PALE)
        ax.set_xticks(range(len(tasks)), tasks)
        # Sets that share nothing have no bar.
        ax.set_xlim(-0.5, len(tasks) - 0.5)
        nearer = "lower" if table.measure.near == "small" else "higher"
        ax.set(title=table.column.variant, ylabel=f"{table.measure.label} ({nearer} is nearer)")
    axes[-1].legend(frameon=False, title="upstream", loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def plot_heat_map(comparison: Comparison, path: Path) -> None:
    """Values as colours, each relative to the closest of its task, one panel for each measure."""
    tasks, sets = ([s.name for s in side] for side in (comparison.downstream, comparison.upstream))
    tables = [table for table in comparison.tables if table.column.first]
    figure, axes = make_figure(len(tables), 3 + len(tasks))
    for ax, table in zip(axes, tables, strict=True):
        draw_heat(ax, table.distance, sets, tasks, table.measure.label, table.measure.sign)
    save_figure(figure, path)


def plot_parts(comparison: Comparison, table: Table, path: Path) -> None:
    """Values within each part, one panel for each task; white where a set lacks the part."""
    sets = [s.name for s in comparison.upstream]
    figure, axes = make_figure(len(comparison.downstream), 5)
    for j, (ax, task) in enumerate(zip(axes, comparison.downstream, strict=True)):
        rows = [table.values.parts[i, j] for i in range(len(sets))]
        names = [f"{part} {share:.0%}" for part, share in rows[0].share.items()]
        values = [[row.distance.get(part, np.nan) for part in row.share] for row in rows]
        title = f"{task.name}: {table.column.title}"
        draw_heat(ax, np.array(values), sets, names, title, table.measure.sign)
    save_figure(figure, path)


def plot_map(
    rows: Mapping[str, np.ndarray], tasks: Sequence[str], path: Path | None, seed: int = 0
) -> "Figure":
    """Feature rows of all sets in the plane of their two principal components.

    Args:
        rows: name of the set → [n, d] feature rows; sets weigh alike.
        tasks: names that are downstream, drawn on top.
        path: PNG to write, or None.
        seed: seed of the choice of rows.
    """
    rng = np.random.default_rng(seed)
    count = min(len(values) for values in rows.values())
    even = [values[rng.permutation(len(values))[:count]] for values in rows.values()]
    pooled = np.concatenate(even).astype(np.float64)
    mean = pooled.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(pooled - mean, rowvar=False))
    plane = directions[:, [-1, -2]]
    shares = variances[[-1, -2]] / max(variances.sum(), np.finfo(float).tiny)
    figure, (ax,) = make_figure(1, 7)
    upstream = [name for name in rows if name not in tasks]
    for i, name in enumerate([*upstream, *tasks]):
        points = (rows[name] - mean) @ plane
        style = {"marker": MARKERS[i % len(MARKERS)], "s": 9, "linewidths": 0, "alpha": 0.5}
        color = "black" if name in tasks else _color(i)
        ax.scatter(*points.T, color=color, label=name, **style)
    ax.set(
        xlabel=f"first principal component ({shares[0]:.0%} of the variance)",
        ylabel=f"second ({shares[1]:.0%})",
        title="features",
    )
    ax.legend(frameon=False, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    return save_figure(figure, path)


def plot_embeddings(embeddings: Mapping[str, np.ndarray], path: Path) -> None:
    """Cosine similarity of the learned embeddings of elements; writes a PNG.

    Args:
        embeddings: symbol → [C], by atomic number.
        path: PNG to write.
    """
    symbols = list(embeddings)
    similarity = cosine_similarity(np.stack(list(embeddings.values())))
    width = 2.5 + 0.32 * len(symbols)
    figure, (ax,) = make_figure(1, width, 0.8 * width)
    image = ax.imshow(similarity, cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set_xticks(range(len(symbols)), symbols)
    ax.set_yticks(range(len(symbols)), symbols)
    ax.set(title="cosine similarity of learned element embeddings")
    figure.colorbar(image, ax=ax)
    save_figure(figure, path)


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
) -> None:
    """Draws values [rows, columns] as colours, each relative to the nearest of its column.

    Args:
        ax: axes to draw on.
        values: the values, which are written into the fields.
        rows: labels of the rows.
        columns: labels of the columns.
        title: above the axes.
        sign: 1 where small values are near, -1 where large ones are.
    """
    nearest = np.nanmin if sign > 0 else np.nanmax
    with np.errstate(invalid="ignore", divide="ignore"):
        best = np.array([nearest(v) if np.isfinite(v).any() else np.nan for v in values.T])
        ratio = np.maximum(values, np.finfo(float).tiny) / np.maximum(best, 1e-300)
        shade = sign * np.log(ratio)
    image = ax.imshow(np.ma.masked_invalid(shade), cmap="viridis_r", aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        text = f"{value:.3g}" if np.isfinite(value) else "–"
        dark = np.isfinite(value) and float(np.ma.filled(image.norm(shade[i, j]), 0)) > 0.5
        ax.text(j, i, text, ha="center", va="center", color="white" if dark else "black")
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.set(title=title)


def _color(i: int) -> str:
    return COLORS[i % len(COLORS)]
