"""The survey: one model pretrained on many starts, finetuned on many tasks, against the CSI.

    csi/                                   the similarity job of all candidates and tasks
    pretrain/<start>/seed_<s>/             one pretraining for every start and seed
    finetuned/<task>/<start>/seed_<s>/     from each, and from random weights ("scratch")
    survey.json, report.md, plots/         written after every seed, of the seeds that are done

A stage that is done is not done again, one that was interrupted resumes.
"""

import functools
from collections.abc import Mapping
from typing import Any

from atomjax.runtime.run import Run
from atomjax.similarity.workflow.job import check_similarity, similarity
from atomjax.studies.stages import run_stage
from atomjax.studies.survey_report import SurveyOutcome, judged_error, write_survey
from atomjax.studies.survey_settings import SCRATCH, SurveySettings, TaskSettings
from atomjax.training.checks import check_settings
from atomjax.training.finetune import finetune
from atomjax.training.pretrain import pretrain
from atomjax.training.update.compiled import CompiledFunctions


def survey(config: Mapping[str, Any] | SurveySettings, run: Run) -> dict[str, Any]:
    """Runs a survey; called again in the same directory, it resumes.

    Args:
        config: settings of workflow "survey", or a config that makes them.
        run: receives the stages' directories and the report.

    Returns:
        The content of ``survey.json``.

    Raises:
        ConfigError: settings contradict each other or the data.
        FloatingPointError: at a loss that is not finite, naming the structures.
        ReportError: a task has no test error to judge by.
        RunInterrupted: after SIGTERM, with the state saved.
    """
    settings = SurveySettings.from_config(config)
    compared = run_stage(run, "csi", similarity, settings.comparison())
    outcome = SurveyOutcome(settings=settings, pairs=compared["pairs"])
    compiled = {task.data.name: CompiledFunctions() for task in settings.tasks}
    upstream = {start.name: CompiledFunctions() for start in settings.starts}
    summary: dict[str, Any] = {}
    for seed in settings.seeds:
        checkpoints: dict[str, str | None] = {}
        for start in settings.starts:
            if start.seeds is not None and seed not in start.seeds:
                continue
            folder = f"pretrain/{start.name}/seed_{seed}"
            stage = functools.partial(pretrain, compiled=upstream[start.name])
            results = run_stage(run, folder, stage, settings.pretraining(start, seed))
            outcome.seconds += results["wall_seconds"]
            checkpoints[start.name] = str((run.workdir / folder).resolve())
        checkpoints[SCRATCH] = None
        for task in settings.tasks:
            shared = compiled[task.data.name]
            for name, checkpoint in checkpoints.items():
                _finetune(settings, task, seed, (name, checkpoint), outcome, shared, run)
        outcome.seeds.append(seed)
        summary = write_survey(outcome, run)
    run.say(f"report: {run.workdir / 'report.md'}")
    return summary


def _finetune(
    settings: SurveySettings,
    task: TaskSettings,
    seed: int,
    start: tuple[str, str | None],
    outcome: SurveyOutcome,
    compiled: CompiledFunctions,
    run: Run,
) -> None:
    """One finetuning, whose test error joins the outcome."""
    name, checkpoint = start
    results = run_stage(
        run,
        f"finetuned/{task.data.name}/{name}/seed_{seed}",
        functools.partial(finetune, compiled=compiled),
        settings.finetuning(task, seed, checkpoint),
    )
    metric, error = judged_error(task.data.name, results["test"])
    outcome.metrics[task.data.name] = metric
    outcome.errors.setdefault((name, task.data.name), {})[seed] = error
    outcome.seconds += results["wall_seconds"]


def check_survey(settings: SurveySettings) -> list[str]:
    """Checks everything about a config that can be known before reading data.

    Returns:
        Notes on what the run will do.

    Raises:
        ConfigError: naming the key and how to mend it.
    """
    notes = check_similarity(settings.comparison())[1:-1]
    for start in settings.starts:
        check_settings(settings.pretraining(start, settings.seeds[0]))
    for task in settings.tasks:
        check_settings(settings.finetuning(task, settings.seeds[0], None))
    seeds, tasks = len(settings.seeds), len(settings.tasks)
    runs = sum(seeds if start.seeds is None else len(start.seeds) for start in settings.starts)
    return [
        f"workflow survey, {seeds} seeds",
        *notes,
        f"{runs} pretrainings, {(runs + seeds) * tasks} finetunings",
    ]
