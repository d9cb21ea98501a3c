"""A suite of finetunings with seeds and folds: interrupted, resumed, and put into the tables."""

from pathlib import Path

import pytest
from rich.console import Console

from atomjax.runtime.config import ConfigError, load_config
from atomjax.runtime.run import Run
from atomjax.studies.benchmark import BENCHMARK, BenchmarkSettings
from tests.studies.trainings import replace_trainings

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "finetune" / "benchmark.py"
# Of 2 × (1 gap + 1 QMOF + 5 folds) trainings, the one that is killed the first time.
KILLED = 9


def settings(**changes) -> BenchmarkSettings:
    every = {"train.epochs": 40, "finetune.checkpoint": None}
    plain = {**load_config(f"{CONFIG}:ood"), "seeds": [0, 1], "changes": every}
    return BenchmarkSettings.from_config({**plain, **changes})


def test_a_suite_resumes_and_ends_with_the_tables(tmp_path, monkeypatch):
    asked = []

    def errors(one):
        asked.append(one)
        if len(asked) == KILLED + 1:
            raise KeyboardInterrupt
        fold = one.data.train[0].arguments.get("fold", 0)
        return {"value_mae": 0.02 + 0.002 * one.seed + fold}

    trainings = replace_trainings(monkeypatch, errors)
    run = Run(tmp_path / "run", settings(), console=Console(quiet=True))
    with pytest.raises(KeyboardInterrupt):
        BENCHMARK(settings(), run)
    assert not (tmp_path / "run" / "report.md").exists()
    results = BENCHMARK(settings(), run)
    done = [
        f"{dataset.name} {dataset.arguments.get('fold', 0)} {one.seed} {one.train.epochs}"
        for one in trainings.done
        for dataset in one.data.train
    ]
    assert len(done) == len(set(done)) == 14
    assert done[:4] == ["qm9 0 0 40", "qm9 0 1 40", "qmof 0 0 40", "qmof 0 1 40"]
    error = results["errors"]["qm9_gap"]["qm9"]["value_mae"]
    assert error["mean"] == pytest.approx(0.021)
    text = (tmp_path / "run" / "report.md").read_text()
    # Ours beside the published numbers, in the table's units.
    (row,) = [line for line in text.splitlines() if line.startswith("| Δε")]
    assert row.endswith("| 23.1 | 19.1 | 21 ± 1.4 (seeds 0, 1) |")
    (row,) = [line for line in text.splitlines() if line.startswith("| **")]
    assert "21 ± 1.4 (seeds 0, 1)" in row
    assert "2.02 ± 0.0014 (seeds 0, 1; 5 folds)" in row
    assert BENCHMARK(settings(), run) == results
    assert len(trainings.done) == 14


def test_mistakes_name_their_task():
    with pytest.raises(ConfigError, match=r'task "qm9_gap": .*epoch'):
        BENCHMARK.check(settings(changes={"train.epoch": 1}))
    with pytest.raises(ConfigError, match="tasks is empty"):
        settings(tasks={})
