"""Successive halving: who goes on, what the report says of the choice, and what it costs."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from atomjax.launch import main
from atomjax.recipes.own_sets import csi_config
from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.similarity.settings import HalvingSettings, SimilaritySettings
from atomjax.studies.halving import HALVING, halving_points, shortened
from tests.similarity.test_job import dataset
from tests.studies.test_study import study_config
from tests.studies.trainings import FORCE, replace_comparison, replace_trainings
from tests.training.workflow import write_structures

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("near", "second", "third", "far")
CSI = {(name, "task"): {"csi": float(i + 1)} for i, name in enumerate(NAMES)}
# Candidate → errors by round, for seed 0; those of seed 1 are larger by 2.
ERRORS = {"near": [50.0], "second": [40.0, 30.0], "third": [45.0, 28.0, 20.0], "far": [60.0]}


def halving_config(folder, **changes) -> dict:
    config = study_config(folder)
    for name in ("second", "third"):
        config["candidates"].append(dataset(name, folder / "far.extxyz"))
    config["workflow"] = "halving"
    config["plan"] = {**config["plan"], "budget": 600}
    config["finetuning"]["seeds"] = [0, 1]
    return config | changes


def run_halving(folder, monkeypatch, *, scratch=35.0, **changes):
    """The summary of a halving whose trainings had these errors, and the trainings."""

    def errors(settings):
        if settings.finetune is None:
            return {}
        if settings.finetune.checkpoint is None:
            return {FORCE: scratch}
        *_, name, number = settings.finetune.checkpoint.split("/")
        return {FORCE: ERRORS[name][int(number.removeprefix("round_"))] + 2 * settings.seed}

    trainings = replace_trainings(monkeypatch, errors)
    replace_comparison(monkeypatch, CSI)
    config = halving_config(folder, **changes)
    run = Run(folder / "run", config, console=Console(quiet=True))
    return HALVING(config, run), trainings.done


def test_the_better_half_goes_on(tmp_path, monkeypatch):
    summary, done = run_halving(tmp_path, monkeypatch)
    pretrained = [s.data.train[0].name for s in done if s.workflow == "pretrain"]
    assert pretrained == [*NAMES, "second", "third", "third"]
    assert sum(s.workflow == "finetune" for s in done) == 2 * (1 + 4 + 2 + 1)
    assert [one["fraction"] for one in summary["rounds"]] == [0.05, 0.2, 1.0]
    assert summary["distances"] == {name: i + 1.0 for i, name in enumerate(NAMES)}
    assert summary["rounds"][0]["validation"]["near"] == [50.0, 52.0]
    assert list(summary["rounds"][1]["validation"]) == ["second", "third"]
    assert (summary["chosen"], summary["nearest"]) == ("third", "near")
    assert summary["mean"] == {"third, 100 % of C": 21.0, "scratch": 35.0}
    assert summary["better_than_scratch"]
    cost = summary["cost"]
    # The trainings that stand for the real ones all say that they took 100 samples.
    assert (cost["samples"], cost["samples_of_all"]) == (700, 2400)
    assert (cost["finetunings"], cost["finetunings_of_all"]) == (14, 8)
    text = (tmp_path / "run" / "report.md").read_text()
    assert "Pretrain on third" in text
    assert "| third | 3 | 46 ± 1.4 | 29 ± 1.4 | 21 ± 1.4 |" in text
    assert "| near | 1 | 51 ± 1.4 |  |  |" in text


def test_pretraining_that_does_not_pay_is_said(tmp_path, monkeypatch):
    summary, _ = run_halving(tmp_path, monkeypatch, scratch=15.0)
    assert not summary["better_than_scratch"]
    assert "not pretrain" in (tmp_path / "run" / "report.md").read_text()


def test_distance_says_who_enters(tmp_path, monkeypatch):
    rounds = {"fractions": [0.1, 1.0], "keep": 0.5, "first": 2}
    summary, done = run_halving(tmp_path, monkeypatch, halving=rounds)
    pretrained = [s.data.train[0].name for s in done if s.workflow == "pretrain"]
    assert pretrained == ["near", "second", "second"]
    assert summary["chosen"] == "second"


def test_budget_and_warmup_of_a_round(tmp_path):
    config = halving_config(tmp_path)
    config["plan"]["train"] = {
        **config["plan"]["train"],
        "epochs": 2,
        "schedule": {"warmup_steps": 20},
    }
    settings = SimilaritySettings.from_config(config)
    plan = shortened(settings.plan, 0.2)
    assert (plan.budget, plan.train.schedule.warmup_steps) == (120, 4)
    done = {
        "csi": {
            "recommendations": [{"ranking": list(NAMES)}],
            "available": dict.fromkeys(NAMES, 10),
        }
    }
    points = {point.name: point for point in halving_points(settings, done)}
    assert "pretrain/near/round_1" not in points
    train = points["pretrain/near/round_0"].settings.train
    assert (train.max_structures, train.epochs, train.budget) == (10, 3, 30)
    tuned = points["finetuned/near/round_0/seed_1"]
    assert (tuned.start, tuned.seed) == ("pretrain/near/round_0", 1)
    assert tuned.settings == points["scratch/seed_1"].settings


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fractions": (0.2, 0.1)}, "rise"),
        ({"fractions": ()}, "rise"),
        ({"fractions": (0.5, 2.0)}, "fractions"),
        ({"keep": 1.5}, "keep"),
        ({"first": 0}, "first"),
    ],
)
def test_wrong_rounds_are_refused(wrong, words):
    with pytest.raises(ConfigError, match=words):
        HalvingSettings(**wrong)


def test_wrong_configs_are_refused(tmp_path):
    config = halving_config(tmp_path)
    assert "then 4 pretrainings with 5 %" in " ".join(
        HALVING.check(SimilaritySettings.from_config(config))
    )
    del config["finetuning"]["data"]["train"][0]["split"]["validation"]
    with pytest.raises(ConfigError, match="no validation part"):
        HALVING.check(SimilaritySettings.from_config(config))
    config["plan"]["budget"] = 10
    with pytest.raises(ConfigError, match=r"plan\.budget"):
        SimilaritySettings.from_config(config)


def own_files(folder) -> str:
    write_structures(folder / "a.xyz", 30, seed=1)
    write_structures(folder / "b.xyz", 30, seed=2)
    write_structures(folder / "task.xyz", 40, seed=3)
    return "a.xyz,b.xyz,task=task.xyz"


def test_config_for_own_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = own_files(tmp_path)
    settings = SimilaritySettings.from_config(csi_config(f"{files},budget=4000", ["csi"]))
    assert HALVING.check(settings)
    assert [one.name for one in settings.tasks] == ["task"]
    assert settings.plan.budget == 4000
    tuned = settings.finetuning
    assert settings.plan.head == tuned.head
    graphs = {one.graph.cutoff for one in (*settings.candidates, *settings.tasks)}
    assert graphs == {4.0}
    with pytest.raises(ConfigError, match="budget=lots"):
        csi_config(f"{files},budget=lots", ["csi"])


@pytest.mark.slow
def test_own_files_are_tried(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    own = f"--config={ROOT}/configs/csi/own.py:{own_files(tmp_path)},budget=400"
    short = ["--config.halving.fractions=(0.5,1.0)", "--config.finetuning.seeds=(0,)"]
    short += ["--config.finetuning.train.epochs=4", "--config.plan.train.epochs=5"]
    short += ["--config.finetuning.train.schedule.warmup_steps=2"]
    assert main([own, "--workdir=run", *short]) == 0
    shown = capfd.readouterr().out
    summary = json.loads((tmp_path / "run" / "report.json").read_text())
    assert summary["chosen"] in shown
    assert [len(one["validation"]) for one in summary["rounds"]] == [2, 1]
    assert summary["cost"]["samples"] <= 800
    assert main([own, "--workdir=run", *short]) == 0
    assert "step" not in capfd.readouterr().out
