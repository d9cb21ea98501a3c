"""A sweep: variants of one config, each trained with several seeds, and a table that compares them.

    pretrained/<variant>/seed_<s>/    pretrainings; variants that differ downstream alone share one
    <variant>/seed_<s>/               the training that a variant is judged by
    sweep.json, sweep.md, plots/

An ablation is a sweep, and so is a curve over the number of training structures. A stage that is
done is not done again, one that was interrupted resumes; variants and seeds can be added later with
``--accept-changes``.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.studies.repeats import summarize
from atomjax.studies.stages import run_stage
from atomjax.studies.sweep_report import compare, write_sweep
from atomjax.studies.sweep_settings import SweepSettings, Trainings, trainings
from atomjax.training.checks import check_settings
from atomjax.training.finetune import finetune
from atomjax.training.pretrain import pretrain
from atomjax.training.settings import FinetuneSettings, RunSettings
from atomjax.training.update.compiled import CompiledFunctions

PRETRAINED = "pretrained"


def sweep(config: Mapping[str, Any] | SweepSettings, run: Run) -> dict[str, Any]:
    """Runs a sweep; called again in the same directory, it resumes.

    Args:
        config: settings of workflow "sweep", or a config that makes them.
        run: receives the stages' directories and the table.

    Returns:
        The content of ``sweep.json``, see :func:`atomjax.studies.sweep_report.compare`.

    Raises:
        ConfigError: settings contradict each other or the data.
        FloatingPointError: at a loss that is not finite, naming the structures.
        RunInterrupted: after SIGTERM, with the state saved.
    """
    settings = SweepSettings.from_config(config)
    folders: dict[str, str] = {}
    results: dict[str, dict[str, Any]] = {variant.name: {} for variant in settings.variants}
    summary: dict[str, Any] = {}
    compiled = CompiledFunctions()
    # Seed by seed, so that there is a table of all variants as soon as possible.
    for i, seed in enumerate(settings.seeds):
        for variant in settings.variants:
            name = f"{variant.name}/seed_{seed}"
            parts = trainings(settings, variant, seed)
            results[variant.name][name] = _train(run, name, parts, folders, compiled)
        seen = dataclasses.replace(settings, seeds=settings.seeds[: i + 1])
        summary = compare(seen, {name: summarize(own) for name, own in results.items()})
        write_sweep(summary, run)
        run.say(f"table of {i + 1} of {len(settings.seeds)} seeds: {run.workdir / 'sweep.md'}")
    return summary


def _train(
    run: Run,
    name: str,
    parts: Trainings,
    folders: dict[str, str],
    compiled: CompiledFunctions,
) -> dict[str, Any]:
    """The results that a variant is judged by with one seed.

    Args:
        run: of the sweep.
        name: variant and seed.
        parts: its trainings.
        folders: settings of a pretraining → its folder; takes new ones.
        compiled: functions that the trainings share.
    """
    checkpoint, results = None, {}
    if parts.upstream is not None:
        key = json.dumps(parts.upstream.to_dict(), sort_keys=True)
        folder = folders.setdefault(key, f"{PRETRAINED}/{name}")
        results = run_stage(
            run, folder, functools.partial(pretrain, compiled=compiled), parts.upstream
        )
        checkpoint = str((run.workdir / folder).resolve())
    if parts.downstream is not None:
        settings = from_checkpoint(parts.downstream, checkpoint)
        stage = functools.partial(finetune, compiled=compiled)
        results = run_stage(run, name, stage, settings)
    return results


def from_checkpoint(settings: RunSettings, checkpoint: str | None) -> RunSettings:
    """Downstream settings that start from a checkpoint, where there is one."""
    if checkpoint is None:
        return settings
    finetuning = settings.finetune or FinetuneSettings()
    return settings.replace(finetune=dataclasses.replace(finetuning, checkpoint=checkpoint))


def check_sweep(settings: SweepSettings) -> list[str]:
    """Checks everything about a config that can be known before reading data.

    Returns:
        Notes on what the sweep will do.

    Raises:
        ConfigError: naming the variant, the key and how to mend it.
    """
    notes, upstream = [], set()
    for variant in settings.variants:
        parts = trainings(settings, variant, settings.seeds[0])
        stages = [part for part in (parts.upstream, parts.downstream) if part is not None]
        described = [check_settings(part)[1] for part in stages]
        _check_test(variant.name, stages[-1])
        notes.append(f"{variant.name}: {'; then '.join(described)}")
        if parts.upstream is not None:
            upstream.add(json.dumps(parts.upstream.to_dict(), sort_keys=True))
    seeds = len(settings.seeds)
    judged = sum(
        trainings(settings, variant, settings.seeds[0]).downstream is not None
        for variant in settings.variants
    )
    return [
        f"{len(settings.variants)} variants × {seeds} seeds: {len(upstream) * seeds} pretrainings, "
        f"{judged * seeds} finetunings",
        *notes,
    ]


def _check_test(name: str, settings: RunSettings) -> None:
    data = settings.data
    tested = {dataset.name for dataset in data.test}
    for dataset in data.train:
        split = dataset.split
        if dataset.name not in tested and not (split is not None and split.fills("test")):
            raise ConfigError(
                f'variant "{name}": dataset "{dataset.name}" has no test part, by which variants '
                "are compared; give its split one, or data.test"
            )
