"""Tables that all studies share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from atomjax.reporting.tables import markdown_table, mean_and_std, with_unit
from atomjax.runtime.progress import format_digits, format_seconds
from atomjax.studies.results import Results, spread
from atomjax.training.running.metrics import METRICS


def heading(results: Results, metric: str, data_set: str | None = None) -> str:
    """A metric in words, with its unit: "force MAE (meV/Å)"."""
    return with_unit(METRICS[metric][0], results.unit(metric, data_set))


def error_table(
    results: Results,
    points: Sequence[str],
    *,
    metrics: Sequence[tuple[str | None, str]] | None = None,
    reference: str | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    first: str = "point",
) -> list[str]:
    """Test errors of points: mean ± standard deviation over the seeds.

    Args:
        results: rows.
        points: in this order.
        metrics: (data set, metric) of each column; None: all that any of the points has. The
            errors of single seeds follow where all columns are of one data set.
        reference: point over which the others' improvement in the first metric is given.
        columns: head → cells of further columns.
        first: head of the first column.
    """
    if metrics is None:
        have = {(row.data_set, row.metric) for row in results.rows if row.point in points}
        sets = dict.fromkeys(row.data_set for row in results.rows)
        metrics = [(name, key) for name in sets for key in METRICS if (name, key) in have]
    if not metrics:
        return []
    several = len({data_set for data_set, _ in metrics}) > 1
    table = {first: list(points)}
    for data_set, metric in metrics:
        head = f"{data_set}: " * several + heading(results, metric, data_set)
        table[head] = [mean_and_std(results.errors(point, metric, data_set)) for point in points]
    data_set, metric = metrics[0]
    if reference is not None:
        gains = [results.gains(point, reference, metric, data_set) for point in points]
        for point, own in zip(points, gains, strict=True):
            shown = point != reference and len(own) > 0
            ahead = f"{sum(gain > 0 for gain in own)} of {len(own)}"
            table.setdefault("improvement", []).append(_percent(own) if shown else "–")
            table.setdefault("ahead in", []).append(ahead if shown else "–")
    table |= {head: list(cells) for head, cells in (columns or {}).items()}
    if not several:
        single = [results.errors(point, metric, data_set) for point in points]
        table["single seeds"] = [", ".join(format_digits(v, 4) for v in own) for own in single]
    return markdown_table(list(table), list(zip(*table.values(), strict=True)))


def correlation_cells(one: Mapping[str, Any]) -> list[str]:
    """Cells of a rank correlation: one for each task, one for their mean, one for its interval."""
    values = (*one["by_task"].values(), one["mean"])
    return [*(f"{value:.2f}" for value in values), "{:.2f} to {:.2f}".format(*one["interval"])]


def fractions(by_task: Mapping[str, float]) -> list[str]:
    """A cell for each task, and one for their mean."""
    values = list(by_task.values())
    return [f"{value:.1%}" for value in (*values, np.mean(values))]


def cost_columns(results: Results, points: Sequence[str]) -> dict[str, list[str]]:
    """Columns of what trainings took, for :func:`error_table`: means over the seeds.

    "Memory" is that of weights, averages, moments and of a step's temporary arrays.
    """

    def mean(point: str, *metrics: str) -> float | None:
        values = [results.errors(point, metric, "") for metric in metrics]
        return sum(sum(own) / len(own) for own in values) if all(values) else None

    def column(*metrics: str, form: Callable[[float], str]) -> list[str]:
        found = [mean(point, *metrics) for point in points]
        return ["–" if value is None else form(value) for value in found]

    columns = {
        "trained": column("trained_parameters", form=lambda n: f"{n:,.0f}"),
        "memory (MB)": column("state_bytes", "step_bytes", form=lambda n: f"{n / 1e6:,.1f}"),
        "wall time": column("seconds", form=format_seconds),
    }
    # Records of earlier versions have their time alone, which has a table of its own.
    return {} if set(columns["trained"]) == {"–"} else columns


def _percent(gains: Sequence[float]) -> str:
    gain = spread(gains)
    return f"{gain['mean']:+.1%}" + f" ± {gain['std']:.1%}" * (len(gains) > 1)


def time_table(results: Results) -> list[str]:
    """Wall time of the points, all seeds together."""
    seconds: dict[str, float] = {}
    for row in results.rows:
        if row.metric == "seconds":
            seconds[row.point] = seconds.get(row.point, 0.0) + row.value
    rows = [*seconds.items(), ("together", results.seconds)]
    cells = [[point, format_seconds(value)] for point, value in rows]
    return markdown_table(["computation", "wall time"], cells)
