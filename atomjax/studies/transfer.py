"""The transfer study: pretrain, then finetune the result and a scratch twin, and report.

    pretrain/               the pretraining
    finetuned/seed_<s>/     finetuned from it, one for each seed
    scratch/seed_<s>/       the same model, data, schedule and seed from random weights
    report.json, report.md, plots/

A stage that is done is not done again, one that was interrupted resumes.
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.studies.report import Outcome, TransferOutcome, verdict, write_report
from atomjax.studies.stages import run_stage
from atomjax.training.finetune import finetune
from atomjax.training.pretrain import pretrain
from atomjax.training.settings import FinetuneSettings, RunSettings
from atomjax.training.update.compiled import CompiledFunctions


def transfer(config: Mapping[str, Any] | RunSettings, run: Run) -> dict[str, Any]:
    """Runs a transfer study; called again in the same directory, it resumes.

    Args:
        config: settings of workflow "transfer", or a config that makes them: the upper sections
            are the pretraining's, ``finetune`` is the downstream task's.
        run: receives the stages' directories and the report.

    Returns:
        The content of ``report.json``.

    Raises:
        ConfigError: if settings contradict each other or the data.
        FloatingPointError: at a loss that is not finite, naming the structures.
        RunInterrupted: after SIGTERM, with the state saved.
    """
    settings = RunSettings.from_config(config)
    upstream, downstream = upstream_settings(settings), downstream_settings(settings)
    seeds = downstream.finetune.seeds if downstream.finetune else ()
    pretraining = run_stage(run, "pretrain", pretrain, upstream)
    checkpoint = str((run.workdir / "pretrain").resolve())
    outcomes: dict[str, list[Outcome]] = {"finetuned": [], "scratch": []}
    labels = 0
    downstream_stage = functools.partial(finetune, compiled=CompiledFunctions())
    for seed in seeds:
        for name, start in (("finetuned", checkpoint), ("scratch", None)):
            stage = with_start(downstream, seed, start)
            results = run_stage(run, f"{name}/seed_{seed}", downstream_stage, stage)
            outcomes[name].append(read_outcome(run.workdir / name / f"seed_{seed}", results))
            labels = results["structures"]
    study = TransferOutcome(
        upstream=", ".join(dataset.name for dataset in upstream.data.train),
        upstream_structures=pretraining["structures"],
        budget=pretraining["budget"],
        downstream=downstream.data.train[0].name,
        labels=labels,
        pretraining=read_outcome(run.workdir / "pretrain", pretraining),
        finetuned=outcomes["finetuned"],
        scratch=outcomes["scratch"],
        property_unit=downstream.finetune.head.unit if downstream.finetune else "",
    )
    summary = write_report(
        study, run, command=" ".join(["python -m atomjax.launch", *sys.argv[1:]])
    )
    run.say(f"{verdict(summary)}\nreport: {run.workdir / 'report.md'}")
    return summary


def upstream_settings(settings: RunSettings) -> RunSettings:
    """What the pretraining is asked for."""
    return settings.replace(workflow="pretrain", finetune=None)


def downstream_settings(settings: RunSettings) -> RunSettings:
    """What a downstream training is asked for, before its seed and start are known.

    Raises:
        ConfigError: the section "finetune" lacks data or train settings, or has several tasks.
    """
    finetuning = settings.finetune
    if finetuning is None or finetuning.data is None or finetuning.train is None:
        raise ConfigError('workflow "transfer" needs finetune.data and finetune.train')
    if len(finetuning.data.train) != 1:
        raise ConfigError(
            f"finetune.data.train has {len(finetuning.data.train)} datasets; a transfer study "
            "compares one downstream task, give one dataset"
        )
    return settings.replace(
        workflow="finetune",
        data=finetuning.data,
        train=finetuning.train,
        finetune=dataclasses.replace(finetuning, data=None, train=None),
    )


def with_start(settings: RunSettings, seed: int, checkpoint: str | None) -> RunSettings:
    """Downstream settings of one seed, from a checkpoint or from random weights."""
    finetuning = settings.finetune or FinetuneSettings()
    return settings.replace(
        seed=seed,
        finetune=dataclasses.replace(finetuning, checkpoint=checkpoint, seeds=(seed,)),
    )


def read_outcome(directory: Path, results: Mapping[str, Any]) -> Outcome:
    """One finished training as the report needs it.

    Args:
        directory: of its run.
        results: of its stage.
    """

    def only(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        # Several sets only in pretraining, whose errors are kept apart by name.
        if len(metrics) == 1:
            return dict(next(iter(metrics.values())))
        return {f"{name}/{key}": v for name, m in metrics.items() for key, v in m.items()}

    predictions: dict[str, np.ndarray] = {}
    for file in results["predictions"].values():
        with np.load(directory / "predictions" / Path(file).name) as arrays:
            predictions = {name: arrays[name] for name in arrays.files}
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return Outcome(
        seed=results["seed"],
        seconds=results["wall_seconds"],
        steps=results["steps"],
        test=only(results["test"]),
        validation=only(results["validation"]),
        history=[json.loads(line) for line in lines],
        predictions=predictions,
    )
