"""One training with a report: its errors, how it came to them, and its predictions.

report.html     of what the directory of the training holds; in report.md and plots/ as well
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atomjax.reporting.drawing import Plot
from atomjax.reporting.plots import Panel
from atomjax.reporting.report import Document, stored_config, write_report
from atomjax.reporting.tables import markdown_table, with_unit
from atomjax.runtime.config import build
from atomjax.runtime.earlier import translated
from atomjax.runtime.files import read_json
from atomjax.runtime.progress import format_seconds
from atomjax.runtime.run import Run
from atomjax.runtime.workflows import resolve
from atomjax.studies.engine import TRAININGS
from atomjax.studies.figures import (
    VALIDATION,
    Log,
    comparisons,
    logged_curve,
    metric_plot,
    outcomes,
    parity_plot,
    read_predictions,
)
from atomjax.training.running.metrics import FURTHER_METRICS, METRICS
from atomjax.training.settings import HeadSettings, RunSettings

TITLES = {"pretrain": "Pretraining on", "finetune": "Finetuning on", "probe": "Linear probe on"}
TRAINED = "train/"


def pretrain(config: Mapping[str, Any] | RunSettings, run: Run) -> dict[str, Any]:
    """Pretrains and reports; see :func:`atomjax.training.pretrain.pretrain`."""
    return _train("pretrain", config, run)


def finetune(config: Mapping[str, Any] | RunSettings, run: Run) -> dict[str, Any]:
    """Finetunes once and reports; see :func:`atomjax.training.finetune.finetune`."""
    return _train("finetune", config, run)


def probe(config: Mapping[str, Any] | RunSettings, run: Run) -> dict[str, Any]:
    """Fits a linear head and reports; see :func:`atomjax.inference.probe.probe`."""
    return _train("probe", config, run)


def _train(workflow: str, config: Mapping[str, Any] | RunSettings, run: Run) -> dict[str, Any]:
    results = resolve(TRAININGS[workflow])(config, run)
    write_report(lambda: describe_training(run), run)
    run.say(f"report: {run.workdir / 'report.html'}")
    return results


def describe_training(run: Run) -> Document:
    """The report of a training that is done, from the files in its directory.

    Raises:
        FileNotFoundError: it has no results.
    """
    folder = run.workdir
    results = read_json(folder / "results.json", "run the same command again, which resumes")
    config, log = stored_config(folder), run.metrics()
    head = build(HeadSettings, translated(HeadSettings, config.get("head", {})))
    lines: list[str | Plot] = [*_errors(results, head), *_overlap(results, head)]
    lines += _summary(results)
    lines += [*_curves(log), *_parity(folder, results, head)]
    sets = ", ".join(one["name"] for one in config.get("data", {}).get("train", ()))
    title = f"{TITLES.get(config.get('workflow', ''), 'Training on')} {sets}"
    return Document(title=title, lines=lines)


def _errors(results: Mapping[str, Any], head: HeadSettings) -> list[str]:
    """A row for each part of each data set and property, a column for each error."""
    parts = {
        f"{part}, {data_set}": errors
        for part in ("test", "validation")
        for data_set, errors in results[part].items()
    }
    return _table(parts, head)


def _overlap(results: Mapping[str, Any], head: HeadSettings) -> list[str]:
    """A row for the formulas of each test set that another set holds, one for the others."""
    parts = {
        f"{data_set}, {errors['structures']:,} {kind} in {other}": errors
        for data_set, sets in results.get("test_by_formula", {}).items()
        for other, kinds in sets.items()
        for kind, errors in kinds.items()
    }
    return ["Test errors by formula:", "", *_table(parts, head)] if parts else []


def _table(parts: Mapping[str, Mapping[str, float]], head: HeadSettings) -> list[str]:
    known = {**METRICS, **FURTHER_METRICS}
    keys = [key for key in known if any(key in errors for errors in parts.values())]
    if not keys:
        return []
    # Properties of several units have theirs in the row.
    units = {head.unit_of(name) for name, errors in parts.items() if "value_mae" in errors}
    common = units.pop() if len(units) == 1 else None
    heads = [
        with_unit(known[key][0], (common or "") if key.startswith("value_") else known[key][1])
        for key in keys
    ]
    rows = [
        [
            name if common is not None else with_unit(name, head.unit_of(name)),
            *(f"{errors[key]:.4g}" if key in errors else "" for key in keys),
        ]
        for name, errors in parts.items()
    ]
    return [*markdown_table(["part", *heads], rows), ""]


def _summary(results: Mapping[str, Any]) -> list[str]:
    return [
        f"{results['structures']:,} structures, {results['parameters']:,} parameters, "
        f"{results['steps']:,} steps (C = {results['budget']:,} samples) in "
        f"{format_seconds(results['seconds'])}, seed {results['seed']}. Errors are of the weights "
        f"after step {results['best_step']:,}, the best by validation.",
        "",
    ]


def _curves(log: Log) -> list[Plot]:
    """The loss, and the error of each data set, while the model was trained."""
    caption = "The training data as they were passed, and the validation data."
    return metric_plot(caption, [log], functools.partial(_panel, log))


def _panel(log: Log, title: str, y_label: str, key: str) -> Panel:
    curves = [
        *logged_curve(log, TRAINED + key, label="training"),
        *logged_curve(log, VALIDATION + key, label="validation"),
    ]
    return Panel(title=title, y_label=y_label, curves=curves)


def _parity(folder: Path, results: Mapping[str, Any], head: HeadSettings) -> list[Plot]:
    names = (Path(file).name for file in results["predictions"].values())
    sets = read_predictions(folder, names).items()
    found = [one for name, arrays in sets for one in comparisons(name, arrays, head)]
    classes = [one for name, arrays in sets for one in outcomes(name, arrays)]
    return parity_plot(found, "Predictions for the test set against labels", classes)
