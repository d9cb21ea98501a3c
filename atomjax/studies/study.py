"""The whole story: compare, recommend, pretrain, finetune, and see whether the prediction held.

    csi/                            the similarity job
    pretrain/<set>/                 on the closest and on the farthest set, under one budget
    finetuned/<set>/seed_<s>/       from each of them, one for each seed
    scratch/seed_<s>/               the same model, data, schedule and seed from random weights
    study.json, report.md, plots/

A stage that is done is not done again, one that was interrupted resumes.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.similarity.settings import SimilaritySettings, implied_pretraining
from atomjax.similarity.workflow.job import check_similarity, similarity
from atomjax.studies.stages import run_stage
from atomjax.studies.study_report import SCRATCH, StudyOutcome, verdict, write_study
from atomjax.studies.transfer import (
    downstream_settings,
    read_outcome,
    upstream_settings,
    with_start,
)
from atomjax.training.checks import check_settings
from atomjax.training.finetune import finetune
from atomjax.training.pretrain import pretrain
from atomjax.training.settings import RunSettings
from atomjax.training.update.compiled import CompiledFunctions


def study(config: Mapping[str, Any] | SimilaritySettings, run: Run) -> dict[str, Any]:
    """Runs a study; called again in the same directory, it resumes.

    Args:
        config: settings of workflow "study", or a config that makes them.
        run: receives the stages' directories and the report.

    Returns:
        The content of ``study.json``.

    Raises:
        ConfigError: settings contradict each other or the data.
        FloatingPointError: at a loss that is not finite, naming the structures.
        RunInterrupted: after SIGTERM, with the state saved.
    """
    settings = SimilaritySettings.from_config(config)
    compared = run_stage(run, "csi", similarity, comparison_settings(settings))
    ranking = compared["recommendations"][0]["ranking"]
    # One N for both, so that only the set differs.
    pair = ranking[0], ranking[-1]
    available = min(compared["available"][name] for name in pair)
    plans = {name: transfer_settings(settings, name, available) for name in pair}
    downstream = downstream_settings(plans[pair[0]])
    pretrained, starts = {}, {}
    for name, plan in plans.items():
        results = run_stage(run, f"pretrain/{name}", pretrain, upstream_settings(plan))
        pretrained[name] = read_outcome(run.workdir / "pretrain" / name, results)
        starts[name] = str((run.workdir / "pretrain" / name).resolve())
    starts[SCRATCH] = None
    outcomes = {name: [] for name in starts}
    labels = 0
    downstream_stage = functools.partial(finetune, compiled=CompiledFunctions())
    for seed in downstream.finetune.seeds if downstream.finetune else ():
        for name, checkpoint in starts.items():
            folder = f"{name}/seed_{seed}" if name == SCRATCH else f"finetuned/{name}/seed_{seed}"
            results = run_stage(
                run, folder, downstream_stage, with_start(downstream, seed, checkpoint)
            )
            outcomes[name].append(read_outcome(run.workdir / folder, results))
            labels = results["structures"]
    summary = write_study(
        StudyOutcome(
            task=downstream.data.train[0].name,
            labels=labels,
            closest=pair[0],
            farthest=pair[1],
            csi={r["upstream"]: r["csi"] for r in compared["pairs"]},
            confidence=compared["recommendations"][0]["confidence"],
            outside=compared["recommendations"][0]["outside"],
            budget=int(plans[pair[0]].train.budget or 0),
            seconds_comparing=compared["wall_seconds"],
            pretrained=pretrained,
            outcomes=outcomes,
        ),
        run,
    )
    run.say(f"{verdict(summary)}\nreport: {run.workdir / 'report.md'}")
    return summary


def check_study(settings: SimilaritySettings) -> list[str]:
    """Checks everything about a config that can be known before reading data.

    Raises:
        ConfigError: naming the key and how to mend it.
    """
    if settings.workflow != "study":
        raise ConfigError(f'workflow "{settings.workflow}" is not a study')
    # The number of structures is known once the data are read.
    one = transfer_settings(settings, settings.candidates[0].name, available=1)
    check_settings(one)
    return check_similarity(settings)


def comparison_settings(settings: SimilaritySettings) -> SimilaritySettings:
    """The similarity job of a study."""
    return settings.replace(workflow="csi", downstream=settings.tasks, finetune=None)


def transfer_settings(settings: SimilaritySettings, candidate: str, available: int) -> RunSettings:
    """Pretraining on a candidate and finetuning on the task, as one transfer study's settings."""
    plan = implied_pretraining(settings, candidate, available)
    finetuning = settings.finetune
    if finetuning is None or finetuning.data is None:
        raise ConfigError('workflow "study" needs finetune.data and finetune.train')
    data = finetuning.data
    if data.cache_dir is None:
        data = dataclasses.replace(data, cache_dir=settings.cache_dir)
    return plan.replace(workflow="transfer", finetune=dataclasses.replace(finetuning, data=data))
