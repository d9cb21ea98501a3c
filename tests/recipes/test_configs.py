"""Every config of the papers' recipes, with the papers' values."""

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atomjax.launch import main
from atomjax.recipes import downstream, networks, upstream
from atomjax.recipes.words import choose
from atomjax.runtime.config import ConfigError, change, load_config, override
from atomjax.studies.benchmark import BENCHMARK, BenchmarkSettings
from atomjax.studies.sweep import SWEEP, SweepSettings, divide
from atomjax.training.checks import check_settings
from atomjax.training.running.checkpoint import save_converted
from atomjax.training.settings import AveragingSettings, RunSettings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ARGUMENTS = {
    "pretrain/jmp": tuple(networks.GEMNET_OC),
    "pretrain/budget": (
        *upstream.UPSTREAMS,
        *upstream.BUDGETS,
        "oc22,large",
        "balanced,large",
        *networks.EQUIFORMER_V2,
        "temperature,equiformer_v2",
    ),
    "finetune/rmd17": (*downstream.RMD17_MOLECULES, "few", "large", "equiformer_v2"),
    "finetune/md22": (*downstream.MD22_MOLECULES, "large", "equiformer_v2"),
    "finetune/spice": (*downstream.SPICE_SUBSETS, "large", "equiformer_v2"),
    "finetune/qm9": (*downstream.QM9_TARGETS, "all,overlap", "equiformer_v2", "mu,equiformer_v2"),
    "finetune/qmof": tuple(networks.NETWORKS),
    "finetune/matbench": (*downstream.MATBENCH_TASKS, "fold4", "large", "equiformer_v2"),
}
SUITES = {"csi": 4, "ood": 7, "rmd17": 10, "rmd17_few": 10, "md22": 7, "spice": 2, "qm9": 12,
          "qmof": 1, "matbench": 45, "all,large": 87}  # fmt: skip
PAPERS = ("jmp", "efficient_atom")
ALL = [f"{name}.py:{argument}" for name, given in ARGUMENTS.items() for argument in given]


def settings_table(paper: str) -> list[dict[str, Any]]:
    """Rows of a paper's settings: where they are stated, a config, and values by dotted path."""
    path = Path(__file__).with_name("tables") / f"{paper}.json"
    return json.loads(path.read_text())["settings"]


def value_at(owner: Any, path: list[str]) -> Any:
    """The value at a path through attributes, keys and places; "*" makes a list of all."""
    if not path:
        return owner
    key, rest = path[0], path[1:]
    if key == "*":
        return [value_at(item, rest) for item in owner]
    if key.isdigit():
        return value_at(owner[int(key)], rest)
    inner = owner[key] if isinstance(owner, dict) else getattr(owner, key)
    return value_at(inner, rest)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder with an empty file or folder for every data set, and a checkpoint of each model."""
    root = tmp_path_factory.mktemp("data")
    for word, folder in downstream.PRETRAININGS.items():
        weights = {"backbone": {"embedding": np.zeros(1)}}
        metadata = {"model": {"name": networks.NETWORKS[word]}, "step": 1}
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
    count = SUITES[suite]
    assert BENCHMARK.check(settings)[0] == f"{count} finetuning{'s' if count > 1 else ''}"


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


@pytest.mark.parametrize("source", ALL)
def test_recipes_do_what_both_codes_do_between_loss_and_update(source, root):
    settings = settings_of(source, root)
    train = settings.train
    pretraining = settings.workflow == "pretrain"
    # The average begins with the initial weights; a pretrained EquiformerV2 has none.
    none = pretraining and settings.model.name in networks.EQUIFORMER_V2.values()
    assert train.averaging == AveragingSettings(ema_decay=0.0 if none else 0.99, ema_warmup=False)
    # Gradients that blocks share are divided.
    assert train.optimizer.scale_shared_gradients
    # By its norm in pretraining, by value in finetuning.
    clipping = (1.0, None) if pretraining else (None, 1.0)
    assert (train.optimizer.clip_norm, train.optimizer.clip_value) == clipping
    assert train.loss.fixed_atoms == pretraining


@pytest.mark.parametrize(("paper", "row"), [(p, r) for p in PAPERS for r in settings_table(p)])
def test_configs_have_the_settings_of_the_papers(root, paper, row):
    settings = settings_of(row["config"], root)
    for path, expected in row.items():
        if path not in ("where", "config"):
            assert value_at(settings, path.split(".")) == expected, (row["where"], path)


def test_equiformer_pretrains_on_the_main_graph_of_that_study(root):
    settings = settings_of("pretrain/budget.py:oc20,equiformer_v2_153M,1M", root)
    assert settings.model.name == "equiformer_v2_153M"
    assert settings.train.budget == 5_000_000
    for dataset in (*settings.data.train, *settings.data.validation):
        assert (dataset.graph.cutoff_molecule, dataset.graph.max_neighbors) == (8.0, 30)


def test_relevant_data_and_less_relevant_data(root):
    settings = settings_of("pretrain/budget.py:ani1x+oc22", root)
    assert "C = 5 epochs × 3,000,000 structures = 15,000,000" in check_settings(settings)[1]


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
        "data_efficiency.py:dimers.h5": "3 pretrainings, 18 finetunings",
    }
    assert notes[0] == expected[name]


def test_strategies_of_finetuning_pass_their_checks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    strategies = CONFIGS / "finetune" / "strategies.py"
    for task, start in (("aspirin", "conformers"), ("li_electrode", "oxides")):
        pretraining = RunSettings.from_config(load_config(f"{strategies}:{start}"))
        model = {"name": pretraining.model.name, **pretraining.model.overrides}
        weights, metadata = {"backbone": {"embedding": np.zeros(1)}}, {"model": model, "step": 1}
        save_converted(tmp_path / start, weights, weights, {}, metadata)
        (tmp_path / "Li_electrode_finetune.xyz").touch()
        settings = SweepSettings.from_config(load_config(f"{strategies}:{task},{start}"))
        assert SWEEP.check(settings)[0] == "36 finetunings, 6 linear probes"
        trainings = {one.name: divide(settings, one, 0)[1] for one in settings.variants}
        # The same steps, of which a replay has as many structures of the task less.
        epochs = [trainings[f"{name}_50"].train.epochs for name in ("full", "replay_50", "lora")]
        assert epochs == [60, 30, 60]
        assert trainings["replay_50_50"].finetune.replay.share == 0.5
        assert trainings["lora_50"].train.lora.rank == 4
    with pytest.raises(ConfigError, match="and the folder of the pretraining"):
        load_config(f"{strategies}:aspirin")


def test_the_ablation_adds_one_part_after_the_other():
    settings = SweepSettings.from_config(load_config(CONFIGS / "ablation.py"))
    parts: dict[str, Any] = {v.name: divide(settings, v, 0)[0] for v in settings.variants}
    trains = {name: upstream.train for name, upstream in parts.items() if upstream is not None}
    assert parts["B"].data.mixture.kind == "proportional"
    assert parts["T2"].data.mixture.kind == "temperature"
    reductions = [trains[name].loss.force_reduction for name in ("T2", "SWL")]
    assert reductions == ["atom", "structure"]
    decays = [trains[name].optimizer.weight_decay for name in ("SWL", "WD", "DO")]
    assert decays == [0.01, 0.1, 0.01]
    assert trains["DO"].regularization.dropout == 0.1
    dropped = [trains[name].regularization.edge_dropout for name in ("WD", "ED")]
    assert dropped == [0, 0.1]
    assert (trains["ED"].averaging.ema_decay, trains["EMA"].averaging.ema_decay) == (0, 0.99)
    assert parts["EMA"] == parts["EMA+LLRD"] == parts["EMA+LLRD+RLP"]
