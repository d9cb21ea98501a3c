"""Figures of trainings: validation while they were trained, and predictions against labels."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.reporting.drawing import Plot
from atomjax.reporting.plots import (
    Comparison,
    Curve,
    Outcomes,
    Panel,
    comparison_plot,
    curve_plot,
    outcome_plot,
)
from atomjax.reporting.tables import with_unit
from atomjax.runtime.files import read_npz
from atomjax.studies.results import Findings, Point
from atomjax.studies.tables import heading
from atomjax.training.running.classification import outcome_counts
from atomjax.training.running.metrics import METRICS
from atomjax.training.settings import HeadSettings, RunSettings

VALIDATION = "validation/"
# Panels of one figure; a suite of forty tasks has its numbers in tables.
MOST_PANELS = 6
# Key of the arrays of a property, and the beginning of that of one of several.
VALUE = "value"
# Key of an array of predictions → quantity, unit, whether it is shown per atom.
QUANTITIES = {
    "forces": ("force", "eV/Å", False),
    VALUE: (VALUE, "", False),
    "energy": ("energy", "eV/atom", True),
    "stress": ("stress", "eV/Å³", False),
}

PREDICTED, CLASSES = "_predicted", "_classes"

Log = Sequence[Mapping[str, float]]
Arrays = Mapping[str, np.ndarray]


def training_plots(findings: Findings) -> list[Plot]:
    """Validation values by step: losses of pretrainings, errors by which the others are judged."""
    logs = {p.name: findings.run.child(p.name).metrics() for p in findings.points}
    others = [point for point in findings.points if not point.judged]
    panels = [history_panel("pretraining", "loss", "loss", _named(others), logs)]
    judged = [point for point in findings.points if point.judged]
    sets = validated_sets(logs[point.name] for point in judged)
    for data_set, metric in list(sets.items())[: MOST_PANELS - 1]:
        y_label = heading(findings.results, metric, data_set)
        key = f"{data_set}/{metric}"
        panels.append(history_panel(data_set, y_label, key, _named(judged), logs))
    panels = [panel for panel in panels if panel.curves]
    caption = "Validation while the models were trained, a line for each seed."
    if len(sets) >= MOST_PANELS:
        caption += f" The first {MOST_PANELS - 1} data sets are shown."
    return [curve_plot("training", caption, panels)] if panels else []


def parity_plots(findings: Findings) -> list[Plot]:
    """Predictions of the first seed against labels, of the quantity that decides."""
    if not findings.seeds:
        return []
    found, classes = [], []
    for point in findings.points:
        if point.judged and point.seed == findings.seeds[0]:
            for data_set, arrays in predictions_of(findings, point).items():
                label = point.label if len(findings.judged) > 1 else data_set
                settings = point.settings
                head = settings.head if isinstance(settings, RunSettings) else HeadSettings()
                numbers = comparisons(label, arrays, head)[:1]
                found += numbers
                classes += [] if numbers else outcomes(label, arrays)
    return parity_plot(
        found, f"Predictions for the test set against labels, seed {findings.seeds[0]}", classes
    )


def parity_plot(
    found: Sequence[Comparison], caption: str, classes: Sequence[Outcomes] = ()
) -> list[Plot]:
    """The figures of predictions against labels, of numbers and of classes; none without any."""
    plots = []
    if found:
        pointer = "; the pointer shows the numbers of the largest errors."
        shown = caption + pointer + _left_out(len(found))
        plots.append(comparison_plot("parity", shown, found[:MOST_PANELS]))
    if classes:
        shown = f"{caption}: counts of classes.{_left_out(len(classes))}"
        plots.append(outcome_plot("outcomes", shown, classes[:MOST_PANELS]))
    return plots


def _left_out(count: int) -> str:
    return f" {MOST_PANELS} of {count} are shown." if count > MOST_PANELS else ""


def predictions_of(findings: Findings, point: Point) -> dict[str, Arrays]:
    """Data set → arrays of the predictions of a point."""
    files = findings.records[point.name].get("predictions", {}).values()
    folder = findings.run.workdir / point.name
    return read_predictions(folder, (Path(file).name for file in files))


def read_predictions(folder: Path, names: Iterable[str]) -> dict[str, Arrays]:
    """Data set → arrays of predictions of a training, by the names of their files."""
    mend = "delete the training's folder; it is computed again"
    return {Path(n).stem: read_npz(folder / "predictions" / n, mend) for n in names}


def comparisons(label: str, arrays: Arrays, head: HeadSettings) -> list[Comparison]:
    """Predictions against labels of every quantity that has both, the one first that decides.

    Args:
        label: above the panels.
        arrays: as :meth:`atomjax.training.running.predictions.PredictedSet.arrays` returns them.
        head: head that made them, for the units of properties.
    """
    made = []
    for key, quantity, unit, per_atom in _quantities(arrays, head):
        needed = {f"{key}_true", f"{key}_predicted", *(["n_atoms"] if per_atom else [])}
        if needed <= arrays.keys():
            names = arrays.get("identifier")
            if key == "forces" and names is not None:
                rows = arrays.get("forces_structure")
                names = None if rows is None else names[rows]
            each: Any = arrays["n_atoms"] if per_atom else 1
            one = Comparison(
                label=label,
                true=arrays[f"{key}_true"] / each,
                predicted=arrays[f"{key}_predicted"] / each,
                quantity=quantity,
                unit=unit,
                names=None if names is None else names.tolist(),
            )
            if np.isfinite(one.true).any():
                made.append(one)
    return made


def outcomes(label: str, arrays: Arrays) -> list[Outcomes]:
    """Counts of the classes predicted, of each property that is a class and has labels."""
    found = []
    for name in (key.removesuffix(CLASSES) for key in arrays if key.endswith(CLASSES)):
        true = arrays.get(f"{name}_true")
        if true is not None and np.isfinite(true).any():
            known = np.isfinite(true)
            counts = outcome_counts(true[known], arrays[name + PREDICTED][known])
            target = name.removeprefix(f"{VALUE}_")
            named = label if target == VALUE else f"{label}, {target}"
            classes = arrays[name + CLASSES].tolist()
            found.append(Outcomes(label=named, counts=counts, classes=classes))
    return found


def _quantities(arrays: Arrays, head: HeadSettings) -> Iterator[tuple[str, str, str, bool]]:
    """Key, name, unit of each quantity of predictions, and whether it is shown per atom."""
    for key, shown in QUANTITIES.items():
        if key != VALUE:
            yield key, *shown
            continue
        for one in arrays:
            name = one.removesuffix(PREDICTED)
            if one.startswith(VALUE) and name != one and name + CLASSES not in arrays:
                target = name.removeprefix(f"{VALUE}_")
                yield name, target, head.unit_of(target), False


def history_panel(
    title: str,
    y_label: str,
    key: str,
    runs: Iterable[tuple[str, str, str]],
    logs: Mapping[str, Log],
) -> Panel:
    """Validation values of one metric while models were trained.

    Args:
        title: title of the panel.
        y_label: name of the metric with its unit.
        key: name of the metric in a log, without "validation/"; one of a single data set has its
            name in front.
        runs: key in ``logs``, label, and name among those of the label.
        logs: metrics of each run, as :meth:`atomjax.runtime.run.Run.metrics` returns them.
    """
    curves = []
    for run, label, name in runs:
        curves += logged_curve(logs[run], VALIDATION + key, label=label, name=name)
    return Panel(title=title, y_label=f"validation {y_label}", curves=curves)


def logged_curve(log: Log, key: str, *, label: str, name: str = "") -> list[Curve]:
    """Values that a run logged under a key, by step; none where there are none."""
    points = [(record["step"], record[key]) for record in log if key in record]
    if not points:
        return []
    steps, values = zip(*points, strict=True)
    return [Curve(label=label, name=name, steps=steps, values=values)]


def metric_plot(
    caption: str, logs: Sequence[Log], panel: Callable[[str, str, str], Panel]
) -> list[Plot]:
    """The loss and the error of each validated data set; none without any."""
    panels = [panel("loss", "loss", "loss")]
    for data_set, metric in list(validated_sets(logs).items())[: MOST_PANELS - 1]:
        panels.append(panel(data_set, with_unit(*METRICS[metric]), f"{data_set}/{metric}"))
    panels = [one for one in panels if one.curves]
    return [curve_plot("training", caption, panels)] if panels else []


def validated_sets(logs: Iterable[Log]) -> dict[str, str]:
    """Data set → the metric by which trainings on it are compared, of all that were validated."""
    keys = {key for log in logs for record in log for key in record if key.startswith(VALIDATION)}
    names = sorted(key.removeprefix(VALIDATION) for key in keys)
    pairs = [tuple(name.rsplit("/", 1)) for name in names if "/" in name]
    sets = dict.fromkeys(data_set for data_set, metric in pairs if metric in METRICS)
    return {one: next(m for m in METRICS if (one, m) in pairs) for one in sets}


def _named(points: Iterable[Point]) -> list[tuple[str, str, str]]:
    return [
        (point.name, point.label, "" if point.seed is None else f"seed {point.seed}")
        for point in points
    ]
