"""Many tasks in one command: every finetuning of a suite, and the papers' tables of the results.

    <task>/         one finetuning, of one seed or with a folder for each seed and fold
    results.md      ours beside the published numbers
    results.json    task → results

A task that is done is not done again, one that was interrupted resumes.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from atomjax.runtime.config import ConfigError, build, change
from atomjax.runtime.run import Run
from atomjax.runtime.workflows import WorkflowSettings
from atomjax.studies.runs import read_runs
from atomjax.studies.stages import run_stage
from atomjax.studies.table import published_tables, render
from atomjax.training.checks import check_settings
from atomjax.training.finetune import finetune
from atomjax.training.settings import FinetuneSettings, RunSettings


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings(WorkflowSettings):
    """A whole config of workflow "benchmark".

    Attributes:
        workflow: "benchmark".
        tasks: name of a folder → config of workflow "finetune" on one of the papers' benchmarks.
        seeds: of every task; its folds, where it has some, are in its own config.
        changes: dotted key → value, for all tasks: {"finetune.checkpoint": "runs/ani1x"}.
    """

    workflow: Literal["benchmark"]
    tasks: dict[str, dict[str, Any]]
    seeds: tuple[int, ...] = (0,)
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if not self.tasks:
            raise ConfigError("tasks is empty; give at least one")
        wrong = [name for name in self.tasks if "/" in name or name.startswith(".")]
        if wrong:
            raise ConfigError(f"task name {wrong[0]!r} cannot name a folder; give another")


def task_settings(settings: BenchmarkSettings) -> dict[str, RunSettings]:
    """Name → settings of every finetuning.

    Raises:
        ConfigError: naming the task and the key that is wrong.
    """
    tasks = {}
    for name, config in settings.tasks.items():
        try:
            one = build(RunSettings, change(config, settings.changes))
            if one.workflow != "finetune":
                raise ConfigError(f'workflow is "{one.workflow}"; a task is of workflow "finetune"')
            seeds = dataclasses.replace(one.finetune or FinetuneSettings(), seeds=settings.seeds)
        except ConfigError as error:
            raise ConfigError(f'task "{name}": {error}') from error
        tasks[name] = one.replace(finetune=seeds, seed=settings.seeds[0])
    return tasks


def benchmark(config: Mapping[str, Any] | BenchmarkSettings, run: Run) -> dict[str, Any]:
    """Finetunes on every task; called again in the same directory, it resumes.

    Args:
        config: settings of workflow "benchmark", or a config that makes them.
        run: receives the tasks' directories, ``results.json`` and ``results.md``.

    Returns:
        Task → its results.

    Raises:
        ConfigError: settings contradict each other or the data.
        FloatingPointError: at a loss that is not finite, naming the structures.
        RunInterrupted: after SIGTERM, with the state saved.
    """
    tasks = task_settings(BenchmarkSettings.from_config(config))
    results = {name: run_stage(run, name, finetune, one) for name, one in tasks.items()}
    run.write_json("results.json", results)
    if run.primary:
        ours = read_runs([run.workdir / name for name in tasks])
        keys = {key for measured in ours.values() for key in measured}
        tables = published_tables().values()
        shown = [t for t in tables if any(task["key"] in keys for task in t.tasks)]
        run.path("results.md").write_text("\n".join(render(table, ours) for table in shown))
        run.say(f"tables: {run.workdir / 'results.md'}")
    return results


def check_benchmark(settings: BenchmarkSettings) -> list[str]:
    """Checks everything about a config that can be known before reading data.

    Returns:
        Notes on what will be done.

    Raises:
        ConfigError: naming the task, the key and how to mend it.
    """
    notes, trainings = [], 0
    for name, one in task_settings(settings).items():
        try:
            described = check_settings(one)[1:]
        except ConfigError as error:
            raise ConfigError(f'task "{name}": {error}') from error
        finetuning = one.finetune or FinetuneSettings()
        folds = len(finetuning.folds) or 1
        trainings += folds * len(finetuning.seeds)
        notes.append(f"{name}, {folds} × {len(finetuning.seeds)} runs: {'; '.join(described)}")
    return [f"{len(notes)} tasks, {trainings} trainings", *notes]
