"""Points of a study and their results as tidy rows: one value of one metric of one point.

results.json    rows, and every start of the study: time, command, versions, machine
results.csv     the rows alone
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from atomjax.runtime.files import read_json
from atomjax.runtime.run import Run
from atomjax.training.running.metrics import FURTHER_METRICS, METRICS
from atomjax.training.settings import RunSettings


class ReportError(ValueError):
    """Results that no report can be made of."""


@dataclass(frozen=True)
class Point:
    """One computation of a study."""

    name: str  # its folder below the study's
    settings: Any  # settings of the computation; its kind is settings.workflow
    label: str  # name of its results, shared by all seeds
    seed: int | None = None  # None for a computation that all seeds share
    start: str | None = None  # name of the point whose weights are finetuned
    judged: bool = True  # whether its test error is an answer of the study


# Costs of a training, beside its wall time, and their units.
COSTS = {"trained_parameters": "", "state_bytes": "B", "step_bytes": "B"}


class Row(NamedTuple):
    """One value. The seed is None where all seeds share it, the data set "" where it has none."""

    point: str
    seed: int | None
    data_set: str
    metric: str
    value: float
    unit: str = ""


def rows_of(point: Point, record: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of one point: test errors, distances between data sets, and its wall time."""
    for data_set, errors in record.get("test", {}).items():
        for metric, value in errors.items():
            unit = {**METRICS, **FURTHER_METRICS}.get(metric, ("", ""))[1]
            if metric in ("value_mae", "value_rmse") and isinstance(point.settings, RunSettings):
                unit = point.settings.head.unit_of(data_set)
            yield Row(point.label, point.seed, data_set, metric, value, unit)
    for pair in record.get("pairs", ()):
        for metric, value in pair.items():
            if isinstance(value, float):
                yield Row(pair["upstream"], None, pair["downstream"], metric, value)
    yield Row(point.label, point.seed, "", "seconds", record["wall_seconds"], "s")
    # Of the first output, as tasks of a study have one.
    chosen = next(iter(record.get("probe", {}).values()), None)
    if chosen is not None:
        task = point.settings.data.train[0].name
        yield Row(point.label, point.seed, task, "probe_mae", chosen["validation_mae"])
        yield Row(point.label, point.seed, task, "log_evidence", chosen["log_evidence"])
    for name, unit in COSTS.items():
        if record.get(name) is not None:
            yield Row(point.label, point.seed, "", name, record[name], unit)


@dataclass(frozen=True)
class Results:
    """Rows of a study, and the result of :func:`describe_environment` at each start."""

    rows: Sequence[Row]
    study: str = ""
    starts: Sequence[Mapping[str, Any]] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Results as ``results.json`` holds them."""
        content = read_json(path, "run the study again, which computes nothing that is done")
        return cls([Row(*row) for row in content["rows"]], content["study"], content["starts"])

    def write(self, run: Run) -> None:
        """Writes ``results.json``, a row a line, and ``results.csv``."""
        head = {"study": self.study, "starts": self.starts, "columns": Row._fields}
        text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
        rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in self.rows)
        run.write_text("results.json", f'{text},\n "rows": [\n  {rows}\n ]\n}}\n')
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([Row._fields, *self.rows])
        run.write_text("results.csv", table.getvalue())

    def values(
        self, point: str, metric: str, data_set: str | None = None
    ) -> dict[int | None, float]:
        """Seed → value; without a data set, the mean over those that have it."""
        found: dict[int | None, list[float]] = {}
        for row in self.rows:
            if (row.point, row.metric) == (point, metric) and data_set in (None, row.data_set):
                found.setdefault(row.seed, []).append(row.value)
        return {seed: float(np.mean(values)) for seed, values in found.items()}

    def ratios(
        self, point: str, reference: str, metric: str, data_set: str | None = None
    ) -> list[float]:
        """Values of one point over those of another, of the seeds in which both have one.

        Seeds in which the other's is zero have no ratio.
        """
        own, other = (self.values(name, metric, data_set) for name in (point, reference))
        return [own[seed] / other[seed] for seed in own if other.get(seed)]

    def gains(
        self, point: str, reference: str, metric: str, data_set: str | None = None
    ) -> list[float]:
        """Fraction by which errors are below those of a reference, seed by seed."""
        return [1 - ratio for ratio in self.ratios(point, reference, metric, data_set)]

    def judged_by(self, points: Iterable[str], data_set: str | None = None) -> str:
        """The metric that points are compared by.

        Raises:
            ReportError: there is no test error that all of them have.
        """
        points = list(points)
        for metric in METRICS:
            if all(self.values(point, metric, data_set) for point in points):
                return metric
        where = f" on '{data_set}'" if data_set else ""
        raise ReportError(
            f"{', '.join(points)} share no test error{where}; give the data that they are judged "
            "by a test split with labels"
        )

    def unit(self, metric: str, data_set: str | None = None) -> str:
        """Unit of a metric."""
        units = (r.unit for r in self.rows if r.metric == metric and data_set in (None, r.data_set))
        return next(units, "")

    def errors(self, point: str, metric: str, data_set: str | None = None) -> list[float]:
        """Values of all seeds; see :meth:`values`."""
        return list(self.values(point, metric, data_set).values())

    @property
    def seconds(self) -> float:
        """Wall time of all computations together."""
        return sum(row.value for row in self.rows if row.metric == "seconds")


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Mean (NaN of none), standard deviation of a sample (0 for one value), and the values."""
    values = list(values)
    if not values:
        return {"mean": math.nan, "std": 0.0, "values": []}
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "values": values}


def against(value: float, reference: float) -> str:
    """Relation of an error to another one, in words: "12% below"."""
    if not reference:
        return "equal to" if not value else "above"
    change = value / reference - 1
    return f"{abs(change):.0%} {'below' if change < 0 else 'above'}"


@dataclass(frozen=True)
class Findings:
    """Content for a report: the points of the seeds that are complete."""

    settings: Any  # settings of the study
    run: Run  # its directory
    points: Sequence[Point]
    records: Mapping[str, Mapping[str, Any]]  # name of a point → what its workflow returned
    results: Results  # the same as rows
    # Name of a point that was done with other settings → how those of now differ.
    outdated: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """Seeds that are complete."""
        return list(dict.fromkeys(p.seed for p in self.points if p.seed is not None))

    @property
    def judged(self) -> list[str]:
        """Labels of the points that answer the question."""
        return list(dict.fromkeys(point.label for point in self.points if point.judged))

    def summary(self) -> dict[str, Any]:
        """Seeds, wall time in seconds, and errors: label → data set → metric → spread."""
        errors: dict[str, Any] = {}
        for point, _, data_set, metric, *_ in self.results.rows:
            if metric in METRICS:
                one = spread(self.results.errors(point, metric, data_set))
                errors.setdefault(point, {}).setdefault(data_set, {})[metric] = one
        summary = {"seeds": self.seeds, "seconds": self.results.seconds, "errors": errors}
        return {**summary, "outdated": self.outdated} if self.outdated else summary
