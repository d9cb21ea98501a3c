"""Values of the measures of a comparison, as lines of a report."""

import collections
import math
from typing import Any

from atomjax.reporting.tables import markdown_table
from atomjax.similarity.analysis.comparison import Comparison, Table


def describe_measures(comparison: Comparison) -> list[str]:
    """Description of each measure, once, with the time that its values took."""
    lines, seconds = [], collections.defaultdict[str, float](float)
    for table in comparison.tables:
        seconds[table.measure.name] += table.seconds
    for measure in {table.measure.name: table.measure for table in comparison.tables}.values():
        order = "" if measure.symmetric else ", from the task's point of view"
        about = f": {measure.about}" if measure.about else ""
        lines.append(
            f"- **{measure.label}** (`{measure.name}`; {measure.near} is near{order}){about};"
            f" {seconds[measure.name]:.2g} s, without the features."
        )
    return [*lines, ""]


def describe_intervals(comparison: Comparison) -> str:
    """The value that the intervals of the deciding measure are about, in words."""
    resampling, level = comparison.table.measure.resampling, f"{comparison.level:.0%}"
    if resampling is not None and not resampling.about_infinite:
        return f"Intervals are about the value at these numbers of structures, at {level}."
    return (
        f"Intervals are about the value of infinitely many structures, at {level}; they correct "
        "for the bias of finite sets, so a value may lie above its interval."
    )


def value_table(comparison: Comparison) -> list[str]:
    """A row for each pair, the nearest of every task first, with all statistics of the measures."""
    first, *others = comparison.tables
    terms = list(first.values.terms)
    heads = ["task", "upstream", first.measure.label, "interval", "noise floor"]
    heads += [name.replace("_", " ") for name in terms]
    heads += ["infinite"] if first.extrapolation is not None else []
    heads += [*(table.column.title for table in others), "unseen"]
    rows = []
    for i, j in sorted(comparison.pairs(), key=lambda pair: (pair[1], first.far[pair])):
        known = first.facts(i, j)
        cells = [comparison.downstream[j].name, comparison.upstream[i].name, _value(first, i, j)]
        cells += [_range(known["lower"], known["upper"]), f"{known['noise_floor']:.4g}"]
        cells += [f"{known[name]:.4g}" for name in terms]
        if first.extrapolation is not None:
            limit = known["infinite"], known["infinite_uncertainty"]
            cells.append("not known" if math.isnan(limit[0]) else "{:.4g} ± {:.2g}".format(*limit))
        for table in others:
            cell = _value(table, i, j)
            if table.lower is not None and table.upper is not None:
                cell += f" ({_range(table.lower[i, j], table.upper[i, j])})"
            cells.append(cell)
        unseen = comparison.unseen[i, j]
        cells.append("" if math.isnan(unseen) else f"{unseen:.0%}")
        rows.append(cells)
    return markdown_table(heads, rows, left=2)


def part_lists(comparison: Comparison) -> list[str]:
    """Sections of the measures whose values are made up of parts."""
    lines = []
    for table in divided(comparison):
        part = table.measure.parts_name
        lines += [f"## {part.capitalize()} by {part}", ""]
        for i, j in comparison.pairs():
            one = table.values.parts[i, j]
            inside = ", ".join(f"{name} {value:.3g}" for name, value in one.distance.items())
            unseen = f"; never seen: {', '.join(one.unseen)}" if one.unseen else ""
            task, up = comparison.downstream[j].name, comparison.upstream[i].name
            lines.append(f"- {task} from {up}: {inside or f'no common {part}'}{unseen}")
        lines.append("")
    return lines


def divided(comparison: Comparison) -> list[Table]:
    """Tables of the deciding features whose values are made up of parts."""
    return [table for table in comparison.tables if table.column.first and table.values.parts]


def measure_record(table: Table) -> dict[str, Any]:
    """One table, for ``csi.json``."""
    measure, variant = table.measure, table.column.variant
    said = {"name": measure.name, "label": measure.label, "near": measure.near}
    return {"column": table.column.name, "variant": variant, **said, "symmetric": measure.symmetric}


def _value(table: Table, i: int, j: int) -> str:
    value = table.distance[i, j]
    mark = "" if table.above is None or table.above[i, j] else " ≈ 0"
    return "" if math.isnan(value) else f"{value:.4g}{mark}"


def _range(lower: float, upper: float) -> str:
    return "not known" if math.isnan(lower) else f"{lower:.4g} to {upper:.4g}"
