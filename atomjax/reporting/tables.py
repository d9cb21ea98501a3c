"""Tables in Markdown, and numbers with their spread."""

from collections.abc import Sequence

import numpy as np

from atomjax.runtime.progress import format_digits


def markdown_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1
) -> list[str]:
    """Lines of a table.

    Args:
        head: column titles.
        rows: cells.
        left: number of columns, from the first on, that are aligned to the left.
    """
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def with_unit(name: str, unit: str) -> str:
    """The name of a quantity with its unit, where it has one."""
    return f"{name} ({unit})" if unit else name


def mean_and_std(values: Sequence[float], digits: int = 4) -> str:
    """Mean and standard deviation of a sample: "90 ± 10"; "90" for one value, "" for none."""
    if not len(values):
        return ""
    text = format_digits(float(np.mean(values)), digits)
    if len(values) > 1:
        text += f" ± {format_digits(float(np.std(values, ddof=1)), 2)}"
    return text
