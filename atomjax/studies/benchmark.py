"""Many finetunings: seeds and folds of one task, or all tasks of a suite, in the papers' tables.

seed_<s>/ or fold_<f>/seed_<s>/    one finetuning of a task each, in a suite below <task>/
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from atomjax.runtime.config import ConfigError, build, change
from atomjax.runtime.earlier import translated_changes, translated_config
from atomjax.runtime.names import check_name
from atomjax.runtime.run import Run
from atomjax.runtime.workflows import WorkflowSettings
from atomjax.studies.engine import TRAININGS, Report, Study, report_errors
from atomjax.studies.published import fill_tables
from atomjax.studies.results import Findings, Point
from atomjax.training.settings import FinetuneSettings, RunSettings


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings(WorkflowSettings):
    """Finetunings on many tasks, in the papers' tables."""

    workflow: Literal["benchmark"]
    "Finetune on many tasks."
    tasks: dict[str, dict[str, Any]]
    'Name of a folder → config of workflow "finetune" on one of the papers\' benchmarks.'
    seeds: tuple[int, ...] = (0,)
    "Seeds of every task; folds, if any, are in its own config."
    changes: dict[str, Any] = field(default_factory=dict)
    'Dotted key → value for all tasks, such as {"finetune.checkpoint": "runs/ani1x"}.'

    def __post_init__(self):
        super().__post_init__()
        if not self.tasks:
            raise ConfigError("tasks is empty; give at least one")
        for name in self.tasks:
            check_name(name, "task")

    @classmethod
    def from_earlier(cls, previous: Mapping[str, Any]) -> Mapping[str, Any]:
        """A stored config with tasks and changed keys of now."""
        tasks = {name: translated_config(task) for name, task in previous["tasks"].items()}
        changes = translated_changes("finetune", previous["changes"])
        return {**previous, "tasks": tasks, "changes": changes}


def repeated_points(settings: RunSettings, label: str = "") -> list[Point]:
    """One finetuning for every fold and seed; a single one has the label as its folder."""
    given = settings.finetune or FinetuneSettings()
    points = []
    for fold in given.folds or (None,):
        for seed in given.seeds:
            one = dataclasses.replace(given, seeds=(seed,), folds=())
            data = settings.data
            if fold is not None:
                train = [
                    dataclasses.replace(dataset, arguments={**dataset.arguments, "fold": fold})
                    for dataset in data.train
                ]
                data = dataclasses.replace(data, train=tuple(train))
            folder = [label, "" if fold is None else f"fold_{fold}"]
            several = len(given.seeds) > 1 or fold is not None
            name = "/".join(filter(None, [*folder, f"seed_{seed}" if several else ""]))
            config = settings.replace(seed=seed, finetune=one, data=data)
            points.append(Point(name, config, "/".join(filter(None, folder)) or "finetuned", seed))
    return points


def finetune(
    config: Mapping[str, Any] | RunSettings, run: Run, *, jobs: int = 1, report_only: bool = False
) -> dict[str, Any]:
    """Finetunes once, or as a study once for each of several seeds and folds.

    Args:
        config: settings of workflow "finetune".
        run: receives the results.
        jobs: trainings side by side; 0: as many as there are cores.
        report_only: only report what is done, where there are several.
    """
    settings = RunSettings.from_config(config)
    given = settings.finetune or FinetuneSettings()
    if len(given.seeds) > 1 or given.folds:
        return REPEATED(settings, run, jobs=jobs, report_only=report_only)
    return TRAININGS["finetune"](settings, run)


def benchmark_points(settings: BenchmarkSettings, records: Mapping[str, Any]) -> list[Point]:
    """Every finetuning of every task.

    Raises:
        ConfigError: naming the task and the key that is wrong.
    """
    del records
    points = []
    for name, config in settings.tasks.items():
        try:
            one = build(RunSettings, change(config, settings.changes))
            if one.workflow != "finetune":
                raise ConfigError(f'workflow is "{one.workflow}"; a task is of workflow "finetune"')
        except ConfigError as error:
            raise ConfigError(f'task "{name}": {error}') from error
        finetuning = dataclasses.replace(one.finetune or FinetuneSettings(), seeds=settings.seeds)
        points += repeated_points(one.replace(finetune=finetuning), name)
    return points


def report_benchmark(findings: Findings) -> Report:
    """The errors of all tasks, and the papers' tables of them."""
    done = [(p.settings.to_dict(), findings.records[p.name], p.name) for p in findings.points]
    report = report_errors(findings)
    return dataclasses.replace(report, lines=[*report.lines, "", *fill_tables(done)])


REPEATED = Study(
    name="finetune", settings=RunSettings, points=lambda settings, _: repeated_points(settings)
)
BENCHMARK = Study(
    name="benchmark",
    settings=BenchmarkSettings,
    points=benchmark_points,
    report=report_benchmark,
)
