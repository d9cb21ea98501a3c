"""Configs that earlier versions stored, with flat names and other sections, keep their meaning."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from atomjax.runtime.config import ConfigError
from atomjax.runtime.earlier import as_it_began, read_config, translated_config
from atomjax.runtime.run import Run
from atomjax.runtime.workflows import find_workflow
from atomjax.training.settings import RunSettings, TransferSettings

DATASET = {"name": "chains", "kind": "generate", "generator": "conformers"}
FLAT: dict[str, Any] = {
    "batch_size": 4,
    "epochs": 20,
    "learning_rate": 3e-4,
    "plateau": {"patience": 2, "factor": 0.5},
    "decay_epochs": 10,
    "force_reduction": "atom",
    "dropout": 0.1,
    "select_by": "force_mae",
    "max_hours": 2.0,
    "groups": [{"pattern": "a", "multiplier": 0.5}],
}
TRANSFER: dict[str, Any] = {
    "workflow": "transfer",
    "model": {"name": "gemnet_oc_tiny"},
    "data": {"train": [DATASET]},
    "train": FLAT,
    "head": {"kind": "energy"},
    "finetune": {
        "checkpoint": None,
        "head_from": "mean",
        "seeds": [0, 1],
        "folds": [],
        "head": {"kind": "energy_forces", "forces": "conservative"},
        "data": {"train": [{**DATASET, "name": "task"}]},
        "train": {**FLAT, "learning_rate": 1e-3},
    },
    "seed": 3,
}
FINETUNE: dict[str, Any] = {
    **TRANSFER,
    "workflow": "finetune",
    "finetune": {**TRANSFER["finetune"], "data": None, "train": None, "checkpoint": "runs/a"},
}


def built(stored: dict[str, Any]) -> Any:
    plain = translated_config(stored)
    return find_workflow(plain).load_settings(plain)


def test_flat_fields_are_found_in_their_sections():
    train = built(FINETUNE).train
    assert (train.epochs, train.batching.batch_size) == (20, 4)
    assert (train.optimizer.learning_rate, train.optimizer.groups[0].multiplier) == (3e-4, 0.5)
    assert (train.schedule.decay_epochs, train.schedule.plateau.patience) == (10, 2)
    assert (train.loss.force_reduction, train.regularization.dropout) == ("atom", 0.1)
    assert (train.validation.select_by, train.checkpointing.max_hours) == ("force_mae", 2.0)


def test_a_finetuning_has_the_head_of_its_own():
    settings = built(FINETUNE)
    assert isinstance(settings, RunSettings)
    assert (settings.head.kind, settings.head.forces) == ("energy_forces", "conservative")
    start = settings.finetune
    assert start is not None
    assert (start.checkpoint, start.head_from, start.seeds) == ("runs/a", "mean", (0, 1))
    # Before, its own section could have other data and another training.
    own = {**FINETUNE["finetune"], **{key: TRANSFER["finetune"][key] for key in ("data", "train")}}
    settings = built({**FINETUNE, "finetune": own})
    assert (settings.data.train[0].name, settings.train.optimizer.learning_rate) == ("task", 1e-3)


def test_a_transfer_has_two_trainings():
    settings = built(TRANSFER)
    assert isinstance(settings, TransferSettings)
    upstream, downstream = settings.pretraining, settings.finetuning
    assert (upstream.data.train[0].name, upstream.head.kind) == ("chains", "energy")
    assert (downstream.data.train[0].name, downstream.head.forces) == ("task", "conservative")
    assert upstream.train.optimizer.learning_rate == 3e-4
    assert downstream.train.optimizer.learning_rate == 1e-3
    assert (downstream.head_from, downstream.seeds, settings.seed) == ("mean", (0, 1), 3)
    # The names of now mean themselves.
    assert built(settings.to_dict()) == settings


def test_a_sweep_and_a_benchmark_have_bases_and_changes_of_now():
    changes = {"train.weight_decay": 0.1, "finetune.train.plateau": {"patience": 1}, "seed": 2}
    variants = [{"name": "a", "changes": changes}]
    sweep = built({"workflow": "sweep", "base": TRANSFER, "variants": variants})
    assert sweep.base["pretraining"]["train"]["batching"] == {"batch_size": 4}
    assert sweep.variants[0].changes == {
        "pretraining.train.optimizer.weight_decay": 0.1,
        "finetuning.train.schedule.plateau": {"patience": 1},
        "seed": 2,
    }
    given = {"train.learning_rate": 1.0, "finetune.checkpoint": "a", "data.train.0.path": "b"}
    suite = {"workflow": "benchmark", "tasks": {"one": FINETUNE}, "changes": given}
    benchmark = built(suite)
    assert benchmark.tasks["one"]["head"] == FINETUNE["finetune"]["head"]
    assert list(benchmark.changes) == [
        "train.optimizer.learning_rate",
        "finetune.checkpoint",
        "data.train.0.path",
    ]


def test_a_run_goes_on_under_the_names_of_now(tmp_path: Path):
    settings = built(FINETUNE)
    stored = {**FINETUNE, "train": {**FLAT, "weight_decay": 0.1}}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert read_config(tmp_path / "config.json")["train"]["batching"] == {"batch_size": 4}
    # Of a time when averages began with the initial weights.
    begun, notes = as_it_began(settings, tmp_path)
    assert notes == ["config.train.averaging.ema_warmup=False"]
    assert not begun.train.averaging.ema_warmup
    Run(tmp_path, begun, console=Console(quiet=True))
    other = {**FINETUNE, "train": {**FLAT, "learning_rate": 1.0}}
    changed = r"config\.train\.optimizer\.learning_rate: 0\.0003 -> 1\.0"
    with pytest.raises(ConfigError, match=changed):
        Run(tmp_path, as_it_began(built(other), tmp_path)[0], console=Console(quiet=True))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("train.learning_rate", "Write config.train.optimizer.learning_rate"),
        ("train.plateau", "Write config.train.schedule.plateau"),
        ("train.optimizer.batch_size", "Write config.train.batching.batch_size"),
        ("train.lr", "Did you mean 'optimizer.learning_rate'"),
        ("finetune.head", "Write config.head"),
        ("train.epoch", "Did you mean 'epochs'"),
        ("finetune.data", "Write config.data"),
        ("finetune.train", "Write config.train"),
    ],
)
def test_an_old_name_in_a_config_is_told_the_new_one(key: str, words: str):
    plain: dict[str, Any] = translated_config(FINETUNE)
    *sections, last = key.split(".")
    place = plain
    for section in sections:
        place = place[section]
    place[last] = {}
    with pytest.raises(ConfigError, match=words):
        RunSettings.from_config(plain)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("data", "Write config.pretraining.data"),
        ("train", "Write config.pretraining.train"),
        ("finetune", "Did you mean 'finetuning'"),
    ],
)
def test_an_old_section_of_a_transfer_is_told_the_new_one(section: str, words: str):
    with pytest.raises(ConfigError, match=words):
        TransferSettings.from_config({**translated_config(TRANSFER), section: {}})
