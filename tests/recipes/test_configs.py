"""Every config of the papers' recipes, with the papers' values."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atomjax.launch import main
from atomjax.recipes import downstream, upstream
from atomjax.recipes.words import choose
from atomjax.runtime.config import ConfigError, change, load_config, override
from atomjax.studies.benchmark import BENCHMARK, BenchmarkSettings
from atomjax.studies.sweep import SWEEP, SweepSettings, divide
from atomjax.training.checks import check_settings
from atomjax.training.running.checkpoint import save_converted
from atomjax.training.settings import RunSettings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ARGUMENTS = {
    "pretrain/jmp": upstream.SIZES,
    "pretrain/budget": (*upstream.UPSTREAMS, *upstream.BUDGETS, "oc22,large", "balanced,large"),
    "finetune/rmd17": (*downstream.RMD17_MOLECULES, "few", "large", "equiformer_v2"),
    "finetune/md22": (*downstream.MD22_MOLECULES, "large", "equiformer_v2"),
    "finetune/spice": (*downstream.SPICE_SUBSETS, "large", "equiformer_v2"),
    "finetune/qm9": (*downstream.QM9_TARGETS, "large", "equiformer_v2", "mu,equiformer_v2"),
    "finetune/qmof": tuple(downstream.MODELS),
    "finetune/matbench": (*downstream.MATBENCH_TASKS, "fold4", "large", "equiformer_v2"),
}
SUITES = {"csi": 4, "ood": 7, "rmd17": 10, "rmd17_few": 10, "md22": 7, "spice": 2, "qm9": 12,
          "qmof": 1, "matbench": 40, "all,large": 82}  # fmt: skip
ALL = [f"{name}.py:{argument}" for name, given in ARGUMENTS.items() for argument in given]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder with an empty file or folder for every data set, and a checkpoint of each model."""
    root = tmp_path_factory.mktemp("data")
    for name, folder in downstream.MODELS.values():
        weights = {"backbone": {"embedding": np.zeros(1)}}
        metadata = {"model": {"name": name}, "step": 1}
        save_converted(root / folder, weights, weights, {}, metadata)
    return root


def settings_of(source: str, root: Path) -> RunSettings:
    """The settings of a config whose files exist below ``root``."""
    plain: dict[str, Any] = load_config(f"{CONFIGS}/{source}")
    changes = [f"--config.data.root={root}"]
    if plain["workflow"] == "finetune":
        checkpoint = root / Path(plain["finetune"]["checkpoint"]).name
        changes.append(f"--config.finetune.checkpoint={checkpoint}")
    settings = RunSettings.from_config(override(plain, changes))
    make_files(settings)
    return settings


def make_files(settings: RunSettings) -> None:
    """An empty file or folder for every data set."""
    for dataset in (*settings.data.train, *settings.data.validation):
        path = Path(dataset.path or "")
        if dataset.facts.is_folder:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


@pytest.mark.parametrize("source", ALL)
def test_every_config_passes_its_checks(source, root):
    settings = settings_of(source, root)
    assert check_settings(settings)
    assert RunSettings.from_config(settings.to_dict()) == settings


@pytest.mark.parametrize("suite", SUITES)
def test_suites_run_every_task_and_fold(suite, root):
    plain: dict[str, Any] = load_config(f"{CONFIGS}/finetune/benchmark.py:{suite}")
    for config in plain["tasks"].values():
        make_files(RunSettings.from_config(change(config, {"data.root": str(root)})))
    size = "large" if "large" in suite else "small"
    changes = {"data.root": str(root), "finetune.checkpoint": str(root / f"jmp_{size}")}
    settings = BenchmarkSettings.from_config({**plain, "changes": changes})
    assert f" {SUITES[suite]} finetunings" in BENCHMARK.check(settings)[0]


@pytest.mark.parametrize("name", [*ARGUMENTS, "finetune/benchmark"])
def test_docstrings_name_the_command_and_published_numbers(name):
    text = ast.get_docstring(ast.parse((CONFIGS / f"{name}.py").read_text())) or ""
    assert f"python -m atomjax.launch --config configs/{name}.py" in text
    assert "Published" in text


def test_the_command_validates(root, capsys):
    settings_of("finetune/rmd17.py:aspirin", root)
    config = f"--config={CONFIGS}/finetune/rmd17.py:aspirin,large"
    checkpoint = f"--config.finetune.checkpoint={root / 'jmp_large'}"
    assert main([config, "--validate", f"--config.data.root={root}", checkpoint]) == 0
    assert "gemnet_oc_large on aspirin: energy_forces" in capsys.readouterr().out


def test_jmp_pretraining(root):
    settings = settings_of("pretrain/jmp.py:large", root)
    train, data = settings.train, settings.data
    assert (train.batch_size, train.epochs, train.learning_rate) == (768, 2, 2e-4)
    assert settings_of("pretrain/jmp.py:small", root).train.batch_size == 1024
    assert (data.mixture.kind, data.mixture.temperature) == ("temperature", 2.0)
    assert (train.warmup_steps, train.warmup_factor, train.final_factor) == (2000, 0.2, 0.1)
    assert (train.weight_decay, train.edge_dropout, train.ema_decay) == (0.1, 0.1, 0.99)
    assert [d.force_coefficient for d in data.train] == [15, 14, 73, 80]
    assert [d.name for d in data.validation] == ["oc20", "oc22"]
    assert data.max_validation == 2000


@pytest.mark.parametrize("source", ALL)
def test_recipes_do_what_both_codes_do_between_loss_and_update(source, root):
    settings = settings_of(source, root)
    train = settings.train
    # The average begins with the initial weights; gradients that blocks share are divided.
    assert (train.ema_decay, train.ema_warmup, train.scale_shared_gradients) == (0.99, False, True)
    # By its norm in pretraining, by value in finetuning.
    pretraining = settings.workflow == "pretrain"
    clipping = (1.0, None) if pretraining else (None, 1.0)
    assert (train.clip_norm, train.clip_value) == clipping
    assert train.fixed_atoms == pretraining


@pytest.mark.parametrize(
    ("argument", "batch_size", "rate", "structures", "epochs"),
    [
        ("ani1x", 20, 1e-4, 2_000_000, 5),
        ("oc22,large", 12, 1e-5, 2_000_000, 5),
        ("oc20,large,3M", 12, 1e-4, 3_000_000, 5),
        ("transition1x,1Mx10", 20, 1e-4, 1_000_000, 10),
        ("balanced", 20, 1e-4, 2_000_000, 5),
    ],
)
def test_pretraining_under_a_budget(root, argument, batch_size, rate, structures, epochs):
    settings = settings_of(f"pretrain/budget.py:{argument}", root)
    train = settings.train
    assert (train.batch_size, train.learning_rate) == (batch_size, rate)
    assert (train.max_structures, train.epochs) == (structures, epochs)
    assert train.budget == structures * epochs
    assert train.force_coefficient == 10
    assert train.eval_every == structures // batch_size // 20


def test_relevant_data_and_less_relevant_data(root):
    settings = settings_of("pretrain/budget.py:ani1x+oc22", root)
    sizes = {d.name: d.max_structures for d in settings.data.train}
    assert sizes == {"ani1x": 2_000_000, "oc22": 1_000_000}
    assert "C = 5 epochs × 3,000,000 structures = 15,000,000" in check_settings(settings)[1]


def test_finetuning(root):
    small = settings_of("finetune/md22.py:DHA", root)
    train = small.train
    assert (train.learning_rate, train.warmup_epochs, train.decay_epochs) == (8e-5, 5, 32)
    assert (train.clip_value, train.clip_norm, train.layer_rates) == (1.0, None, "jmp_small")
    assert train.plateau is not None
    assert (train.plateau.patience, train.plateau.factor) == (5, 0.1)
    assert (train.early_stopping_patience, train.epochs, train.max_hours) == (50, 500, 168)
    rmd17 = settings_of("finetune/rmd17.py:few,large", root)
    assert (rmd17.train.epochs, rmd17.train.early_stopping_patience) == (100_000, 1000)
    assert (rmd17.train.final_factor, rmd17.train.layer_rates) == (0.01, "jmp_large")
    assert rmd17.data.train[0].arguments["train_size"] == 50
    heads = {
        source: settings_of(f"finetune/{source}", root).finetune.head  # pyright: ignore
        for source in ("md22.py:DHA", "md22.py:buckyball-catcher", "qm9.py:gap", "qm9.py:U0")
    }
    assert [head.forces for head in heads.values()][:2] == ["conservative", "direct"]
    assert [head.extensive for head in heads.values()][2:] == [False, True]


def test_finetuning_of_equiformer_v2(root):
    settings = settings_of("finetune/rmd17.py:equiformer_v2", root)
    train, finetune = settings.train, settings.finetune
    assert (settings.model.name, train.learning_rate) == ("equiformer_v2_31M", 8e-5)
    assert (train.warmup_epochs, train.warmup_factor, train.final_factor) == (5, 0.2, 0.01)
    assert (train.epochs, train.layer_rates) == (600, None)
    assert (train.decay_epochs, train.plateau) == (None, None)
    assert finetune is not None
    assert finetune.head.forces == "direct"
    qm9 = settings_of("finetune/qm9.py:equiformer_v2", root)
    graph = qm9.data.train[0].graph
    assert (graph.cutoff_molecule, graph.max_neighbors, qm9.train.weight_decay) == (12, 500, 0)


def test_pooling(root):
    def pooling(source: str) -> str:
        finetune = settings_of(f"finetune/{source}", root).finetune
        assert finetune is not None
        return finetune.head.pooling

    assert pooling("matbench.py:phonons") == "max"
    assert pooling("matbench.py:mp_gap") == pooling("qmof.py:small") == "mean"
    assert pooling("qm9.py:homo") == "sum"
    assert pooling("qm9.py:mu") == "dipole"
    assert pooling("qm9.py:r2") == "extent"


def test_words_choose_in_any_order():
    choices = {"size": ("small", "large"), "fold": ("fold0", "fold1")}
    assert choose("", choices) == {"size": "small", "fold": "fold0"}
    assert choose("fold1, large", choices) == {"size": "large", "fold": "fold1"}
    with pytest.raises(ConfigError, match=r"'larg' is unknown. Did you mean 'large'\?"):
        choose("larg", choices)
    with pytest.raises(ConfigError, match="'small' and 'large' both choose the size; give one"):
        choose("small,large", choices)


@pytest.mark.parametrize("name", ["ablation.py", "data_efficiency.py:dimers.h5"])
def test_sweeps_pass_their_checks(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dimers.h5").touch()
    notes = SWEEP.check(SweepSettings.from_config(load_config(f"{CONFIGS}/{name}")))
    expected = {
        "ablation.py": "14 pretrainings, 18 finetunings",
        "data_efficiency.py:dimers.h5": "3 pretrainings, 24 finetunings",
    }
    assert notes[0] == expected[name]


def test_the_ablation_adds_one_part_after_the_other():
    settings = SweepSettings.from_config(load_config(CONFIGS / "ablation.py"))
    parts: dict[str, Any] = {v.name: divide(settings, v, 0)[0] for v in settings.variants}
    trains = {name: upstream.train for name, upstream in parts.items() if upstream is not None}
    assert parts["B"].data.mixture.kind == "proportional"
    assert parts["T2"].data.mixture.kind == "temperature"
    assert (trains["T2"].force_reduction, trains["SWL"].force_reduction) == ("atom", "structure")
    assert (trains["SWL"].weight_decay, trains["WD"].weight_decay) == (0.01, 0.1)
    assert (trains["DO"].dropout, trains["DO"].weight_decay) == (0.1, 0.01)
    assert (trains["WD"].edge_dropout, trains["ED"].edge_dropout) == (0, 0.1)
    assert (trains["ED"].ema_decay, trains["EMA"].ema_decay) == (0, 0.99)
    assert parts["EMA"] == parts["EMA+LLRD"] == parts["EMA+LLRD+RLP"]
