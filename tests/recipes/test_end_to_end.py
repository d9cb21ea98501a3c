"""The real configs, from native files to results, with nothing but sizes overridden.

The fast test also switches off the interactions that take longest to compile.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from atomjax.config import load_config, override
from atomjax.recipes.runs import read_runs
from atomjax.run import Run
from atomjax.training.checks import check_settings
from atomjax.training.finetune import finetune
from atomjax.training.pretrain import pretrain
from atomjax.training.settings import RunSettings
from tests.recipes.native_files import WRITERS, write_ani1x

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# Widths of the small model, whose four blocks have the published layer-wise rates.
WIDTHS = {
    "num_radial": 8,
    "emb_size_atom": 8,
    "emb_size_edge": 8,
    "emb_size_trip_in": 4,
    "emb_size_trip_out": 4,
    "emb_size_quad_in": 4,
    "emb_size_quad_out": 4,
    "emb_size_aint_in": 4,
    "emb_size_aint_out": 4,
    "emb_size_rbf": 4,
    "emb_size_cbf": 4,
    "emb_size_sbf": 4,
    "num_before_skip": 0,
    "num_after_skip": 0,
    "num_concat": 0,
    "num_atom": 0,
    "num_output_afteratom": 0,
    "num_atom_emb_layers": 0,
    "num_global_out_layers": 0,
}
SIZES = {f"model.overrides.{name}": size for name, size in WIDTHS.items()}
SIMPLER = {
    f"model.overrides.{name}_interaction": False
    for name in ("quad", "atom_edge", "edge_atom", "atom")
} | {"train.scale_factor_batches": 1}
PRETRAINING = {
    **SIZES,
    "data.max_validation": 6,
    "data.max_test": 6,
    "train.batch_size": 8,
    "train.epochs": 2,
    "train.max_structures": 24,
    "train.budget": 48,
    "train.warmup_steps": 2,
    "train.scale_factor_batches": 2,
}
FINETUNING = {
    **SIZES,
    "data.train.0.max_structures": 8,
    "data.max_validation": 4,
    "data.max_test": 6,
    "train.batch_size": 4,
    "train.epochs": 3,
    "train.warmup_epochs": 1,
    "train.decay_epochs": 2,
}
SPLITS = {
    "qm9.py:gap": {"train_size": 100, "validation_size": 10},
    "qmof.py:small": {"train_size": 12},
}


def settings_of(source: str, root: Path, **changes: Any) -> RunSettings:
    overrides = [f"--config.{key}={value}" for key, value in changes.items()]
    config = override(
        load_config(f"{CONFIGS}/{source}"), [f"--config.data.root={root}", *overrides]
    )
    settings = RunSettings.from_config(config)
    assert check_settings(settings)
    return settings


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    return pretrain_on_ani1x(tmp_path_factory.mktemp("upstream"))


def pretrain_on_ani1x(root: Path, **changes: Any) -> Path:
    """A pretraining by the config of the budget studies."""
    write_ani1x(root)
    settings = settings_of("pretrain/budget.py:ani1x", root, **{**PRETRAINING, **changes})
    run = Run(root / "ani1x_run", settings, console=Console(quiet=True))
    results = pretrain(settings, run)
    assert results["budget"] == 48
    assert np.isfinite(results["test"]["ani1x"]["force_mae_mev_per_angstrom"])
    return run.workdir


def check_finetuning(source: str, pretrained: Path, root: Path, **others: Any) -> None:
    WRITERS[source](root)
    arguments = {
        f"data.train.0.arguments.{name}": size for name, size in SPLITS.get(source, {}).items()
    }
    changes = {**FINETUNING, **arguments, **others, "finetune.checkpoint": pretrained}
    settings = settings_of(f"finetune/{source}", root, **changes)
    run = Run(root / "run", settings, console=Console(quiet=True))
    results = finetune(settings, run)
    assert results["structures"] == 8
    assert results["steps"] == 6
    ((_, errors),) = results["test"].items()
    assert all(np.isfinite(error) for error in errors.values())
    # The run has its place in the papers' tables.
    (measured,) = read_runs([run.workdir]).values()
    assert all(key.startswith(source.partition(".")[0]) for key in measured)


def test_pretraining_on_ani1x_and_finetuning_on_qm9(tmp_path):
    pretrained = pretrain_on_ani1x(tmp_path, **SIMPLER)
    check_finetuning("qm9.py:gap", pretrained, tmp_path, **SIMPLER)


@pytest.mark.slow
@pytest.mark.parametrize("source", WRITERS)
def test_every_benchmark(source, pretrained, tmp_path):
    check_finetuning(source, pretrained, tmp_path)
