import json

import pytest
from rich.console import Console

from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.studies.repeats import finetune_repeatedly, single_settings, summarize
from atomjax.training.settings import RunSettings
from tests.training.workflow import make_config


def settings(tmp_path, **finetune) -> RunSettings:
    config = make_config(tmp_path / "chains.xyz")
    return RunSettings.from_config({**config, "workflow": "finetune", "finetune": finetune})


def test_every_seed_and_fold_is_a_run_of_its_own(tmp_path):
    runs = single_settings(settings(tmp_path, seeds=(3, 5), folds=(0, 4)))
    assert list(runs) == [f"fold_{f}/seed_{s}" for f in (0, 4) for s in (3, 5)]
    last = runs["fold_4/seed_5"]
    assert last.seed == 5
    assert last.finetune is not None
    assert (last.finetune.seeds, last.finetune.folds) == ((5,), ())
    assert last.data.train[0].arguments == {"fold": 4}
    assert list(single_settings(settings(tmp_path, seeds=(1, 2)))) == ["seed_1", "seed_2"]
    with pytest.raises(ConfigError, match="must be all different"):
        settings(tmp_path, folds=(1, 1))


def test_mean_and_deviation_are_written_and_nothing_is_done_twice(tmp_path):
    done = []

    def finetune(one: RunSettings, run: Run) -> dict:
        done.append(one.seed)
        errors = {"chains": {"force_mae": float(one.seed)}}
        return {"seed": one.seed, "test": errors, "validation": errors}

    several = settings(tmp_path, seeds=(1, 2, 6))
    run = Run(tmp_path / "run", console=Console(quiet=True))
    summary = finetune_repeatedly(several, run, finetune)
    values = summary["test"]["chains"]["force_mae"]
    assert values["values"] == [1.0, 2.0, 6.0]
    assert (values["mean"], values["deviation"]) == pytest.approx((3.0, 7**0.5))
    assert finetune_repeatedly(several, run, finetune) == summary
    assert done == [1, 2, 6]
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary


def test_one_run_has_no_deviation():
    errors = {"a": {"value_mae": 2.0}}
    summary = summarize({"seed_0": {"test": errors, "validation": {}}})
    assert summary["test"]["a"]["value_mae"] == {"mean": 2.0, "deviation": 0.0, "values": [2.0]}
