"""Tables of results in the layout of the papers', with the published numbers beside ours.

    python -m atomjax.studies.table runs/aspirin runs/qm9_gap --out results.md

Runs are finetuning runs of ``configs/finetune``, of one seed or several. Every cell of ours names
its seeds. Without runs the published tables are printed. The published numbers are data, in
``published/``: table n of JMP (Shoghi et al., ICLR 2024) and of the study of upstream data under a
budget (Ghunaim et al., 2025); ``*`` marks JMP's models as the second paper reproduced them.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atomjax.runtime.progress import format_digits
from atomjax.studies.runs import Measured, RunError, read_runs

PUBLISHED = Path(__file__).with_name("published")
EMPTY = "–"


@dataclass(frozen=True)
class Table:
    """A published table.

    Attributes:
        title, source: what it shows, and where it was published.
        tasks_are: "rows" or "columns".
        tasks: for each "key" (see :func:`atomjax.studies.runs.read_runs`), "name", "unit" and
            "factor", which turns our unit into the table's.
        models: name → values in the order of the tasks, None where there is none.
    """

    title: str
    source: str
    tasks_are: str
    tasks: Sequence[Mapping[str, Any]]
    models: Mapping[str, Sequence[float | None]]


def published_tables() -> dict[str, Table]:
    """All published tables by name, such as "jmp_table2"."""
    tables = {}
    for path in sorted(PUBLISHED.glob("*.json"), key=lambda path: (len(path.stem), path.stem)):
        content = json.loads(path.read_text(encoding="utf-8"))
        models = {model["name"]: model["values"] for model in content.pop("models")}
        tables[path.stem] = Table(models=models, **content)
    return tables


def render(table: Table, ours: Mapping[str, Mapping[str, Measured]]) -> str:
    """A table as Markdown.

    Args:
        table: the published one.
        ours: model → key of the task → errors; models without a task of the table are left out.
    """
    names = [_named(task) for task in table.tasks]
    cells: dict[str, list[str]] = {
        model: [EMPTY if value is None else f"{value:g}" for value in values]
        for model, values in table.models.items()
    }
    for model, measured in ours.items():
        if any(task["key"] in measured for task in table.tasks):
            cells[f"**{model}**"] = [
                _cell(measured.get(task["key"]), task["factor"]) for task in table.tasks
            ]
    if table.tasks_are == "columns":
        head, rows = ["pretraining", *names], [[model, *own] for model, own in cells.items()]
    else:
        head = ["task", *cells]
        rows = [[name, *(own[i] for own in cells.values())] for i, name in enumerate(names)]
    lines = [
        f"## {table.title}",
        "",
        f"Published: {table.source}.",
        "",
        _line(head),
        _line(["---", *["---:"] * (len(head) - 1)]),
        *map(_line, rows),
    ]
    return "\n".join([*lines, ""])


def _named(task: Mapping[str, Any]) -> str:
    return f"{task['name']} ({task['unit']})" if task["unit"] else str(task["name"])


def _cell(measured: Measured | None, factor: float) -> str:
    if measured is None:
        return EMPTY
    text = format_digits(factor * measured.mean, 3)
    if measured.deviation is not None:
        text += f" ± {format_digits(factor * measured.deviation, 2)}"
    seeds = ", ".join(map(str, measured.seeds))
    folds = f"; {measured.folds} folds" if measured.folds else ""
    return f"{text} (seed{'s' if len(measured.seeds) > 1 else ''} {seeds}{folds})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def make_parser(names: Sequence[str]) -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m atomjax.studies.table",
        description="Results of finetuning runs beside the published ones.",
    )
    add = parser.add_argument
    add("runs", nargs="*", type=Path, metavar="RUN", help="directory of a finetuning run")
    add("--table", action="append", choices=names, help="only this table; may be repeated")
    add("--out", type=Path, metavar="FILE", help="write here instead of to the terminal")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables that the runs belong to, all without runs; the exit status."""
    tables = published_tables()
    given = make_parser(list(tables)).parse_args(arguments)
    try:
        ours = read_runs(given.runs)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    keys = {key for measured in ours.values() for key in measured}
    chosen = [
        table
        for name, table in tables.items()
        if (name in given.table if given.table else True)
        and (not keys or any(task["key"] in keys for task in table.tasks))
    ]
    text = "\n".join(render(table, ours) for table in chosen)
    if given.out is None:
        print(text)
    else:
        given.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
