"""One finetuning for every seed, or every fold of a benchmark, and their mean and deviation.

    seed_<s>/ or fold_<f>/seed_<s>/    one run each
    summary.json                       mean and deviation of every error, and the single values

A run that is done is not done again, one that was interrupted resumes.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from atomjax.runtime.run import Run
from atomjax.studies.stages import run_stage
from atomjax.training.settings import FinetuneSettings, RunSettings

Finetune = Callable[[RunSettings, Run], dict[str, Any]]


def single_settings(settings: RunSettings) -> dict[str, RunSettings]:
    """Name → settings of every run that settings with several seeds or folds ask for."""
    given = settings.finetune or FinetuneSettings()
    runs = {}
    for fold in given.folds or (None,):
        for seed in given.seeds:
            name = f"seed_{seed}" if fold is None else f"fold_{fold}/seed_{seed}"
            one = dataclasses.replace(given, seeds=(seed,), folds=())
            runs[name] = settings.replace(seed=seed, finetune=one)
            if fold is not None:
                train = tuple(_in_fold(dataset, fold) for dataset in settings.data.train)
                data = dataclasses.replace(settings.data, train=train)
                runs[name] = runs[name].replace(data=data)
    return runs


def _in_fold(dataset: Any, fold: int) -> Any:
    return dataclasses.replace(dataset, arguments={**dataset.arguments, "fold": fold})


def finetune_repeatedly(settings: RunSettings, run: Run, finetune: Finetune) -> dict[str, Any]:
    """Finetunes once for each seed and fold.

    Args:
        settings: of workflow "finetune", with several seeds or folds.
        run: receives the directories and ``summary.json``.
        finetune: does one run.

    Returns:
        What :func:`summarize` returns.
    """
    results = {
        name: run_stage(run, name, finetune, one) for name, one in single_settings(settings).items()
    }
    summary = summarize(results)
    run.write_json("summary.json", summary)
    for dataset, metrics in summary["test"].items():
        for metric, values in metrics.items():
            run.say(
                f"test {dataset}: {metric} {values['mean']:.4g} ± {values['deviation']:.2g} "
                f"({len(values['values'])} runs)"
            )
    return summary


def summarize(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and deviation of the errors of several runs.

    Args:
        results: name of a run → its results.

    Returns:
        "runs", the names; "validation" and "test": dataset → metric → "mean", "deviation" (of a
        sample, 0 for one run) and "values" in the order of the runs.
    """
    summary: dict[str, Any] = {"runs": list(results)}
    for split in ("validation", "test"):
        tables = [result[split] for result in results.values()]
        summary[split] = {
            dataset: {
                metric: _spread([table[dataset][metric] for table in tables]) for metric in metrics
            }
            for dataset, metrics in tables[0].items()
        }
    return summary


def _spread(values: Sequence[float]) -> dict[str, Any]:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "deviation": deviation, "values": list(values)}
