"""Rows of a benchmark: printed as they come, and appended to a file as JSON lines."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atomjax.runtime.files import replacing


def add_option(parser: argparse.ArgumentParser) -> None:
    """The option ``--rows`` of every benchmark."""
    parser.add_argument("--rows", type=Path, help="file to append the figures to, as JSON lines")


def show(path: Path | None, title: str, **figures: Any) -> None:
    """Print a row, and append it to a file.

    Args:
        path: the file; None only prints.
        title: what was measured; rows are told apart by it.
        figures: name with its unit → value. What is None is left out.
    """
    figures = {name: value for name, value in figures.items() if value is not None}
    print(f"\n{title}")
    width = max(map(len, figures))
    for name, value in figures.items():
        text = f"{value:,.4g}" if isinstance(value, float) else f"{value}"
        print(f"  {name.replace('_', ' '):<{width}}  {text}", flush=True)
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"title": title, **figures}) + "\n")


def write_result(path: Path, document: Mapping[str, Any]) -> None:
    """Write a file of results, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write((json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
