"""Trainings that only write what they were told to measure, and a transfer study's config."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atomjax.studies import engine
from tests.training.workflow import make_config

FORCE = "force_mae_mev_per_angstrom"
ENERGY = "energy_mae_mev_per_atom"
# eV/Å; predicting zero is wrong by 200 meV/Å.
FORCES = np.array([[0.2, -0.2, 0.0], [0.1, 0.3, -0.4]])
Errors = Callable[[Any], Mapping[str, float]]


def transfer_config(structures: Path, seeds: Iterable[int] = (0,), **finetuning: Any) -> dict:
    """A transfer study on one file, of which the downstream set is called "task"."""
    base = make_config(structures)
    task = {**base["data"]["train"][0], "name": "task"}
    upstream = {"data": base.pop("data"), "train": base.pop("train")}
    return {
        **base,
        "workflow": "transfer",
        "pretraining": upstream,
        "finetuning": {
            "seeds": list(seeds),
            "head": {"kind": "energy_forces"},
            "data": {"train": [task]},
            "train": {**upstream["train"], "validation": {"select_by": "force_mae"}},
            **finetuning,
        },
    }


class Trainings:
    """Stands for pretraining and finetuning, and notes what it was asked for.

    Args:
        errors: settings of a training → its test errors by metric; none where that is empty. Of a
            probe, what it found.
    """

    def __init__(self, errors: Errors):
        self.errors = errors
        self.done: list[Any] = []

    def __call__(self, settings: Any, run: Any, compiled: Any = None) -> dict[str, Any]:
        errors = dict(self.errors(settings))
        (name, *_) = [dataset.name for dataset in settings.data.train]
        error = errors.get(FORCE, 1.0)
        predictions = run.path("predictions", f"{name}.npz")
        np.savez(predictions, forces_true=FORCES, forces_predicted=FORCES + error * 1e-3)
        history = [
            {"step": 5, "train/loss": 2.0},
            {"step": 10, f"validation/{name}/{FORCE}": error, "validation/loss": 1.0},
        ]
        lines = "".join(json.dumps(record) + "\n" for record in history)
        run.path("metrics.jsonl").write_text(lines)
        results = {
            "seed": settings.seed,
            "structures": 50,
            "budget": 100,
            "steps": 10,
            "best_step": 10,
            "seconds": 0.0,
            "parameters": 1000,
            "test": {name: errors} if errors else {},
            "validation": {name: errors} if errors else {},
            "predictions": {name: str(predictions)} if FORCE in errors else {},
        }
        if settings.workflow == "probe":
            results |= {"test": {}, "predictions": {}, "probe": {"energy": errors}}
        run.write_json("results.json", results)
        self.done.append(settings)
        return results


def replace_trainings(monkeypatch: pytest.MonkeyPatch, errors: Errors) -> Trainings:
    """Trainings that the points of all studies go to from now on."""
    trainings = Trainings(errors)
    for workflow in ("pretrain", "finetune", "probe"):
        monkeypatch.setitem(engine.TRAININGS, workflow, trainings)
    return trainings


def start(settings: Any) -> str | None:
    """Folder of the pretraining that a finetuning starts from."""
    checkpoint = settings.finetune and settings.finetune.checkpoint
    return checkpoint and Path(checkpoint).name


def replace_comparison(
    monkeypatch: pytest.MonkeyPatch,
    pairs: Mapping[tuple[str, str], Mapping[str, float]],
    **recommendation: Any,
) -> None:
    """A comparison with these distances: (upstream, downstream) → distances by name."""

    def compare(settings: Any, run: Any, compiled: Any = None) -> dict[str, Any]:
        del run, compiled
        ranking = sorted({upstream for upstream, _ in pairs}, key=lambda name: min(
            by["csi"] for (upstream, _), by in pairs.items() if upstream == name))  # fmt: skip
        choice = {"ranking": ranking, "confidence": 0.99, "outside": False, **recommendation}
        return {
            "pairs": [{"upstream": u, "downstream": d, **by} for (u, d), by in pairs.items()],
            "recommendations": [choice],
            "available": dict.fromkeys((dataset.name for dataset in settings.candidates), 10),
        }

    monkeypatch.setitem(engine.TRAININGS, "csi", compare)
