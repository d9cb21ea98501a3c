"""What finished runs say of the papers' benchmarks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.recipes.downstream import MATBENCH_TASKS

FORCE_MAE, VALUE_MAE = "force_mae_mev_per_angstrom", "value_mae"
FORCE_BENCHMARKS = ("rmd17", "md22", "spice")
FOLD0, MEAN = "fold0", "mean"
FEW = 50


class RunError(ValueError):
    """A directory that holds no finished run of a benchmark."""


@dataclass(frozen=True)
class Measured:
    """The test errors of one model on one task.

    Attributes:
        values: one for each seed, in meV/Å or in the unit of the property.
        seeds: of the values.
        folds: number of folds that each value is a mean of; 0 where there are none.
    """

    values: tuple[float, ...]
    seeds: tuple[int, ...]
    folds: int = 0

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float | None:
        """Of a sample over the seeds; None for one seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None


def read_runs(directories: Sequence[Path]) -> dict[str, dict[str, Measured]]:
    """The errors of finetuning runs by model and task.

    Args:
        directories: of runs of workflow "finetune" on a benchmark, each of one seed and fold or
            of several.

    Returns:
        Name of the model, by its size and what it started from → key of the task, such as
        "qm9/gap" or "matbench/phonons/fold0" → errors. Runs of different seeds are put together.

    Raises:
        RunError: a directory is no such run, is not finished, or has a seed a second time.
    """
    found: dict[tuple[str, str], dict[int, dict[int | None, float]]] = {}
    for directory in directories:
        config = _read(directory, "config.json")
        model, task = model_name(config), task_key(config, directory)
        for seed, fold, value in _errors(directory, config, task):
            folds = found.setdefault((model, task), {}).setdefault(seed, {})
            if fold in folds:
                raise RunError(
                    f"{directory}: {model} on {task} has seed {seed} twice; leave one run out"
                )
            folds[fold] = value
    models: dict[str, dict[str, Measured]] = {}
    for (model, task), seeds in found.items():
        for key, measured in _by_fold(task, seeds).items():
            models.setdefault(model, {})[key] = measured
    return models


def task_key(config: Mapping[str, Any], directory: Path) -> str:
    """The benchmark's task that a run was finetuned on, such as "rmd17/aspirin".

    Raises:
        RunError: it is none of the papers'.
    """
    if config.get("workflow") != "finetune":
        raise RunError(
            f"{directory}: is a run of workflow {config.get('workflow')!r}; give finetuning runs"
        )
    (dataset, *_) = (config["finetune"].get("data") or config["data"])["train"]
    kind, name, arguments = dataset["format"], dataset["name"], dataset["arguments"]
    if kind == "rmd17":
        return f"rmd17{'_50' if arguments.get('train_size') == FEW else ''}/{name}"
    if kind == "md22":
        return f"md22/{arguments.get('molecule', name)}"
    if kind == "spice" and "subset" in arguments:
        return f"spice/{arguments['subset']}"
    if kind in ("qm9", "qmof"):
        return f"{kind}/{config['finetune']['head']['target']}"
    if kind == "matbench" and name in MATBENCH_TASKS:
        return f"matbench/{name}"
    raise RunError(
        f"{directory}: dataset '{name}' (format {kind!r}) is no benchmark of the papers; give runs "
        "of configs/finetune"
    )


def model_name(config: Mapping[str, Any]) -> str:
    """The backbone of a run and what it started from."""
    name, checkpoint = config["model"]["name"], config["finetune"]["checkpoint"]
    if checkpoint is None:
        return f"{name} from scratch"
    path = Path(checkpoint)
    if not (path / "config.json").is_file():
        return f"{name} from {path.name}"
    pretraining = _read(path, "config.json")
    data, train = pretraining["data"], pretraining["train"]
    upstream = ", ".join(dataset["name"] for dataset in data["train"])
    if len(data["train"]) > 1:
        upstream = f"{upstream} ({data['mixture']['kind']})"
    structures = train["max_structures"]
    size = f", {structures:,} × {train['epochs']}" if structures else ""
    return f"{name} from {path.name}: {upstream}{size}"


def _errors(
    directory: Path, config: Mapping[str, Any], task: str
) -> list[tuple[int, int | None, float]]:
    """Seed, fold and test error of every training of a run."""
    metric = FORCE_MAE if task.startswith(FORCE_BENCHMARKS) else VALUE_MAE
    (dataset, *_) = config["data"]["train"]
    if (directory / "summary.json").is_file():
        summary = _read(directory, "summary.json")
        values = _only(summary["test"], metric, directory)["values"]
        places = [_place(name) for name in summary["runs"]]
    else:
        results = _read(directory, "results.json")
        values = [_only(results["test"], metric, directory)]
        places = [(results["seed"], None)]
    given = dataset["arguments"].get("fold", 0) if task.startswith("matbench") else None
    return [
        (seed, given if fold is None else fold, value)
        for (seed, fold), value in zip(places, values, strict=True)
    ]


def _place(name: str) -> tuple[int, int | None]:
    """Seed and fold of a run's folder, such as "fold_1/seed_0"."""
    parts = dict(part.split("_") for part in name.split("/"))
    return int(parts["seed"]), int(parts["fold"]) if "fold" in parts else None


def _only(test: Mapping[str, Any], metric: str, directory: Path) -> Any:
    for errors in test.values():
        if metric in errors:
            return errors[metric]
    raise RunError(f"{directory}: its test errors have no {metric}")


def _by_fold(task: str, seeds: Mapping[int, Mapping[int | None, float]]) -> dict[str, Measured]:
    """Errors of a task; those of a task with folds under two keys, as the papers give them."""
    if not task.startswith("matbench"):
        means = {seed: float(np.mean(list(folds.values()))) for seed, folds in seeds.items()}
        folds = max(len(own) for own in seeds.values())
        return {task: Measured(tuple(means.values()), tuple(means), folds if folds > 1 else 0)}
    found = {}
    first = {seed: folds[0] for seed, folds in seeds.items() if 0 in folds}
    if first:
        found[f"{task}/{FOLD0}"] = Measured(tuple(first.values()), tuple(first))
    several = {s: float(np.mean(list(f.values()))) for s, f in seeds.items() if len(f) > 1}
    if several:
        count = min(len(seeds[seed]) for seed in several)
        found[f"{task}/{MEAN}"] = Measured(tuple(several.values()), tuple(several), count)
    return found


def _read(directory: Path, name: str) -> dict[str, Any]:
    path = directory / name
    if not path.is_file():
        what = "is no run" if name == "config.json" else "is not finished"
        raise RunError(f"{directory}: {what}, it has no {name}")
    return json.loads(path.read_text())
