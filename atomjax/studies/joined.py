"""Reports of several runs joined in one page, with what they share side by side."""

import html
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console

from atomjax.reporting.drawing import Plot
from atomjax.reporting.page import markdown_html, page
from atomjax.reporting.plots import Panel
from atomjax.reporting.report import article, last_start, started, stored_article, stored_config
from atomjax.reporting.tables import markdown_table, mean_and_std, with_unit
from atomjax.runtime.earlier import read_config
from atomjax.runtime.files import read_json, replacing
from atomjax.runtime.run import Run
from atomjax.studies.figures import history_panel, metric_plot
from atomjax.studies.results import ReportError
from atomjax.studies.single import describe_training
from atomjax.training.running.metrics import METRICS

# Settings that differ between runs are shown up to this number, and each value up to this length.
MOST_SETTINGS = 100
LONGEST_VALUE = 60
MEND = "run the same command again, which resumes"


def join_reports(folders: Sequence[Path], output: Path) -> None:
    """Writes one page of the reports of several runs.

    Args:
        folders: directories of runs that have ended, of any workflow.
        output: HTML file to write.

    Raises:
        ReportError: a folder has neither a report nor results of a training.
    """
    runs = dict(zip(_names(folders), folders, strict=True))
    articles = []
    for i, (name, folder) in enumerate(runs.items()):
        made = _relocated(_article(folder), os.path.relpath(folder, output.parent))
        heading = f'<p class="facts">{html.escape(name)}</p>' if len(runs) > 1 else ""
        articles.append(made.replace("<article>", f'<article id="run-{i}">\n{heading}', 1))
    title = f"{len(runs)} runs" if len(runs) > 1 else f"Report of {next(iter(runs))}"
    if len(runs) > 1:
        articles.insert(0, _overview(title, runs))
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as file:
        file.write(page(title, articles).encode())


def _names(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: its own, or the path where folders share one."""
    own = [folder.resolve().name for folder in folders]
    paths = [str(folder) for folder in folders]
    return own if len(set(own)) == len(own) else paths


def _article(folder: Path) -> str:
    """The report of one run, made now of a training that has none."""
    if any((folder / name).exists() for name in ("report.html", "report.md")):
        return stored_article(folder)
    if _results(folder) is None:
        raise ReportError(
            f"{folder} holds no report and no results of a training; give the --workdir of a run "
            "that has ended"
        )
    document = describe_training(_opened(folder))
    drawn = {plot.address: "".join(plot.svgs()) for plot in document.plots}
    return article(folder, document.markdown(), drawn)


def _results(folder: Path) -> dict[str, Any] | None:
    """The results of a training; None of other runs, whose file of that name holds other things."""
    path = folder / "results.json"
    found = read_json(path, MEND) if path.exists() else {}
    return found if "test" in found else None


def _opened(folder: Path) -> Run:
    return Run(folder, console=Console(quiet=True))


def _relocated(made: str, folder: str) -> str:
    """A report whose links to files beside it are seen from elsewhere."""
    place = quote(Path(folder).as_posix())
    return re.sub(r' href="([^"#:]+)"', lambda found: f' href="{place}/{found[1]}"', made)


def _overview(title: str, runs: Mapping[str, Path]) -> str:
    """A table of the runs, their errors and distances, and the settings in which they differ."""
    heads = ["run", "workflow", "started", "atomjax", "device"]
    cells = []
    for i, (name, folder) in enumerate(runs.items()):
        start, workflow = last_start(folder), stored_config(folder).get("workflow", "")
        facts = [started(start), *(str(start.get(key, "")) for key in ("atomjax", "device"))]
        cells.append([f"[{name}](#run-{i})", workflow, *facts])
    plots = _curves(runs)
    lines = [
        *markdown_table(heads, cells, left=len(heads)),
        "",
        *_errors(runs),
        *_distances(runs),
        *(f"![{plot.caption}]({plot.address})\n" for plot in plots),
        *_differences(runs),
    ]
    drawn = {plot.address: "".join(plot.svgs()) for plot in plots}
    body = markdown_html("\n".join(lines), drawn)
    return f"<article>\n<h1>{html.escape(title)}</h1>\n{body}\n</article>"


def _errors(runs: Mapping[str, Path]) -> list[str]:
    """Test errors: a row for each run, or for each point of a study."""
    rows: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    for name, folder in runs.items():
        for point, data_set, metric, values in _tested(folder):
            if metric in METRICS:
                rows.setdefault((name, point), {})[data_set, metric] = mean_and_std(values)
    columns = sorted({key for row in rows.values() for key in row})
    if not columns:
        return []
    heads = [f"{one}: {with_unit(*METRICS[metric])}" for one, metric in columns]
    cells = [[*key, *(row.get(column, "") for column in columns)] for key, row in rows.items()]
    table = markdown_table(["run", "point", *heads], cells, left=2)
    return ["## Test errors", "", *table, "", "Mean ± standard deviation over the seeds.", ""]


def _tested(folder: Path) -> Iterator[tuple[str, str, str, list[float]]]:
    """Point, data set, metric and values by seed, of a study or of one training."""
    if (folder / "report.json").exists():
        errors = read_json(folder / "report.json", MEND)["errors"]
    elif results := _results(folder):
        test = results["test"].items()
        errors = {"": {k: {m: {"values": [v]} for m, v in one.items()} for k, one in test}}
    else:
        return
    for point, by_set in errors.items():
        for data_set, metrics in by_set.items():
            for metric, found in metrics.items():
                yield point, data_set, metric, found["values"]


def _distances(runs: Mapping[str, Path]) -> list[str]:
    """Values of the deciding measure, of runs that compared data sets."""
    rows = []
    for name, folder in runs.items():
        if not (folder / "csi.json").exists():
            continue
        found = read_json(folder / "csi.json", MEND)
        first = found["measures"][0]
        for pair in found["pairs"]:
            numbers = [pair.get(key) for key in (first["column"], "lower", "upper", "noise_floor")]
            texts = ["" if number is None else f"{number:.4g}" for number in numbers]
            rows.append([name, pair["downstream"], pair["upstream"], first["label"], *texts])
    heads = ["run", "task", "upstream", "measure", "value", "lower end", "upper end", "noise floor"]
    return ["## Distances", "", *markdown_table(heads, rows, left=4), ""] if rows else []


def _curves(runs: Mapping[str, Path]) -> list[Plot]:
    """Validation of all single trainings on common axes."""
    logs = {name: _opened(folder).metrics() for name, folder in runs.items()}
    named = [(name, name, "") for name in runs]

    def panel(title: str, y_label: str, key: str) -> Panel:
        return history_panel(title, y_label, key, named, logs)

    return metric_plot("Validation of the trainings.", list(logs.values()), panel)


def _differences(runs: Mapping[str, Path]) -> list[str]:
    """Settings in which runs of one workflow differ, under their names of now."""
    files = {name: folder / "config.json" for name, folder in runs.items()}
    configs = {name: read_config(file) for name, file in files.items() if file.exists()}
    lines = []
    for workflow in dict.fromkeys(config.get("workflow") for config in configs.values()):
        own = {
            name: dict(_flat(config))
            for name, config in configs.items()
            if config.get("workflow") == workflow
        }
        keys = list(dict.fromkeys(key for flat in own.values() for key in flat))
        rows = [
            [f"`{key}`", *(_shown(flat.get(key)) for flat in own.values())]
            for key in keys
            if len({json.dumps(flat.get(key)) for flat in own.values()}) > 1
        ]
        if rows:
            table = markdown_table(["setting", *own], rows[:MOST_SETTINGS], left=1 + len(own))
            lines += [f"## Settings that differ, workflow {workflow}", "", *table, ""]
        if len(rows) > MOST_SETTINGS:
            lines += [f"{len(rows) - MOST_SETTINGS} more are in the configurations below.", ""]
    return lines


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything in a config."""
    parts: Mapping[Any, Any] = {}
    if isinstance(value, dict):
        parts = value
    elif isinstance(value, list):
        parts = dict(enumerate(value))
    if not parts:
        yield key, value
    for name, part in parts.items():
        yield from _flat(part, f"{key}.{name}" if key else str(name))


def _shown(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
