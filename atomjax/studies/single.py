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
from atomjax.runtime.files import read_json
from atomjax.runtime.progress import format_seconds
from atomjax.runtime.run import Run
from atomjax.studies.engine import TRAININGS
from atomjax.studies.figures import (
    VALIDATION,
    Log,
    comparisons,
    logged_curve,
    metric_plot,
    parity_plot,
    read_predictions,
)
from atomjax.training.running.metrics import FURTHER_METRICS, METRICS
from atomjax.training.settings import RunSettings

TITLES = {"pretrain": "Pretraining on", "finetune": "Finetuning on"}
TRAINED = "train/"


def pretrain(config: Mapping[str, Any] | RunSettings, run: Run) -> dict[str, Any]:
    """Pretrains and reports; see :func:`atomjax.training.pretrain.pretrain`."""
    return _train("pretrain", config, run)


def finetune(config: Mapping[str, Any] | RunSettings, run: Run) -> dict[str, Any]:
    """Finetunes once and reports; see :func:`atomjax.training.finetune.finetune`."""
    return _train("finetune", config, run)


def _train(workflow: str, config: Mapping[str, Any] | RunSettings, run: Run) -> dict[str, Any]:
    results = TRAININGS[workflow](config, run)
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
    head = config.get("head", {})
    lines: list[str | Plot] = [*_errors(results, head.get("unit", "")), *_summary(results)]
    lines += [*_curves(log), *_parity(folder, results, head.get("unit", ""))]
    sets = ", ".join(one["name"] for one in config.get("data", {}).get("train", ()))
    title = f"{TITLES.get(config.get('workflow', ''), 'Training on')} {sets}"
    return Document(title=title, lines=lines)


def _errors(results: Mapping[str, Any], value_unit: str) -> list[str]:
    """A row for each part of each data set, a column for each error."""
    parts = {
        f"{part}, {data_set}": errors
        for part in ("test", "validation")
        for data_set, errors in results[part].items()
    }
    known = {**METRICS, **FURTHER_METRICS}
    keys = [key for key in known if any(key in errors for errors in parts.values())]
    if not keys:
        return []
    units = [value_unit if key.startswith("value_") else known[key][1] for key in keys]
    heads = [with_unit(known[key][0], unit) for key, unit in zip(keys, units, strict=True)]
    rows = [
        [name, *(f"{errors[key]:.4g}" if key in errors else "" for key in keys)]
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


def _parity(folder: Path, results: Mapping[str, Any], value_unit: str) -> list[Plot]:
    names = (Path(file).name for file in results["predictions"].values())
    found = [
        one
        for data_set, arrays in read_predictions(folder, names).items()
        for one in comparisons(data_set, arrays, value_unit)
    ]
    return parity_plot(found, "Predictions for the test set against labels")
