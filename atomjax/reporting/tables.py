"""Tables in Markdown, CSV and pandas, and numbers with their spread."""

import csv
import importlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

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
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in (head, *rows))
    first, *others = (f"| {' | '.join(cells)} |" for cells in escaped)
    return [first, f"| {' | '.join(rule)} |", *others]


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


def table_text(records: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def data_frame(columns: Mapping[str, Any]) -> Any:
    """A ``pandas.DataFrame`` of columns of one length.

    Raises:
        ImportError: pandas, which atomjax does not need otherwise, is missing.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise ImportError(
            'data frames need pandas: pip install pandas, or "atomjax[dataframes]". The arrays of a'
            " result hold the same numbers"
        ) from error
    return pandas.DataFrame(dict(columns))
