"""One finetuning for every seed and fold."""

import dataclasses
import json
from pathlib import Path

import pytest
from rich.console import Console

from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.studies import Results
from atomjax.studies.benchmark import finetune, repeated_points
from atomjax.training.settings import RunSettings
from tests.studies.trainings import FORCE, replace_trainings
from tests.training.workflow import make_config


def settings(tmp_path, **finetune) -> RunSettings:
    config = make_config(tmp_path / "chains.xyz")
    return RunSettings.from_config({**config, "workflow": "finetune", "finetune": finetune})


def test_every_seed_and_fold_is_a_run_of_its_own(tmp_path):
    several = settings(tmp_path, seeds=(3, 5), folds=(0, 4))
    points = {point.name: point for point in repeated_points(several)}
    assert list(points) == [f"fold_{f}/seed_{s}" for f in (0, 4) for s in (3, 5)]
    last = points["fold_4/seed_5"].settings
    assert last.seed == 5
    assert (last.finetune.seeds, last.finetune.folds) == ((5,), ())
    assert last.data.train[0].arguments == {"fold": 4}
    names = [point.name for point in repeated_points(settings(tmp_path, seeds=(1, 2)))]
    assert names == ["seed_1", "seed_2"]
    with pytest.raises(ConfigError, match="must be all different"):
        settings(tmp_path, folds=(1, 1))


def test_mean_and_deviation_are_written_and_nothing_is_done_twice(tmp_path, monkeypatch):
    trainings = replace_trainings(monkeypatch, lambda one: {FORCE: float(one.seed)})
    several = settings(tmp_path, seeds=(1, 2, 6))
    run = Run(tmp_path / "run", several, console=Console(quiet=True))
    summary = finetune(several, run)
    values = summary["errors"]["finetuned"]["chains"][FORCE]
    assert values["values"] == [1.0, 2.0, 6.0]
    assert (values["mean"], values["std"]) == pytest.approx((3.0, 7**0.5))
    assert finetune(several, run) == summary
    assert [one.seed for one in trainings.done] == [1, 2, 6]
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == summary
    assert "| finetuned | 3 ± 2.6 | 1, 2, 6 |" in (tmp_path / "run" / "report.md").read_text()


def test_points_with_other_settings_than_now_are_kept_and_named(tmp_path, monkeypatch):
    trainings = replace_trainings(monkeypatch, lambda one: {FORCE: float(one.seed)})
    several, console = settings(tmp_path, seeds=(1, 2)), Console(quiet=True)
    assert "outdated" not in finetune(several, Run(tmp_path / "run", several, console=console))
    train = dataclasses.replace(several.train, epochs=several.train.epochs + 3)
    changed = several.replace(
        train=train, finetune=dataclasses.replace(several.finetune, seeds=(1, 2, 6))
    )
    run = Run(tmp_path / "run", changed, console=console, accept_changes=True)
    summary = finetune(changed, run)
    assert [one.seed for one in trainings.done] == [1, 2, 6]
    epochs = several.train.epochs
    difference = f"config.train.epochs: {epochs} -> {epochs + 3}"
    assert summary["outdated"] == {"seed_1": [difference], "seed_2": [difference]}
    kept = json.loads((tmp_path / "run" / "seed_1" / "config.json").read_text())
    assert kept["train"]["epochs"] == epochs, "of what was done"
    assert f"- seed_2: `{difference}`" in (tmp_path / "run" / "report.md").read_text()


def test_rows_are_tidy_and_read_back(tmp_path, monkeypatch):
    replace_trainings(monkeypatch, lambda one: {FORCE: float(one.seed)})
    several = settings(tmp_path, seeds=(1, 2))
    run = Run(tmp_path / "run", several, console=Console(quiet=True))
    finetune(several, run)
    results = Results.load(Path(tmp_path / "run" / "results.json"))
    errors = [row for row in results.rows if row.metric == FORCE]
    assert [tuple(row) for row in errors] == [
        ("finetuned", seed, "chains", FORCE, float(seed), "meV/Å") for seed in (1, 2)
    ]
    assert results.study == "finetune"
    (start,) = results.starts
    assert {"started", "command", "atomjax", "jax", "device", "cores"} <= set(start)
    lines = (tmp_path / "run" / "results.csv").read_text().splitlines()
    assert lines[0] == "point,seed,data_set,metric,value,unit"
    assert f"finetuned,2,chains,{FORCE},2.0,meV/Å" in lines


def test_one_seed_is_one_training(tmp_path, monkeypatch):
    replace_trainings(monkeypatch, lambda _: {FORCE: 1.0})
    one = settings(tmp_path, seeds=(4,))
    run = Run(tmp_path / "run", one, console=Console(quiet=True))
    assert finetune(one, run)["test"] == {"chains": {FORCE: 1.0}}
    assert not (tmp_path / "run" / "report.json").exists()
