"""The real configs, from native files to results, with nothing but sizes overridden.

The fast test also switches off the interactions that take longest to compile.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from atomjax.runtime.config import load_config, override
from atomjax.runtime.run import Run
from atomjax.studies.published import RunError, measure, read_runs
from atomjax.training.checks import check_settings
from atomjax.training.finetune import finetune
from atomjax.training.pretrain import pretrain
from atomjax.training.settings import RunSettings
from tests.recipes.native_files import WRITERS, write_ani1x
from tests.recipes.upstream_files import write_transition1x, write_upstream
from tests.smallest import NO_LAYERS

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
    **NO_LAYERS,
}
SIZES = {f"model.overrides.{name}": size for name, size in WIDTHS.items()}
EQUIFORMER_WIDTHS = {
    "num_blocks": 1,
    "lmax": 2,
    "channels": 8,
    "attention_hidden": 8,
    "num_heads": 2,
    "alpha_channels": 4,
    "value_channels": 4,
    "ffn_hidden": 8,
    "edge_channels": 8,
    "grid_resolution": 10,
}
EQUIFORMER = {f"model.overrides.{name}": size for name, size in EQUIFORMER_WIDTHS.items()}
SIMPLER = {
    f"model.overrides.{name}_interaction": False
    for name in ("quad", "atom_edge", "edge_atom", "atom")
} | {"train.batching.scale_factor_batches": 1}
PRETRAINING = {
    "data.max_validation": 6,
    "data.max_test": 6,
    "train.batching.batch_size": 8,
    "train.epochs": 2,
    "train.max_structures": 24,
    "train.budget": 48,
    "train.schedule.warmup_steps": 2,
    "train.batching.scale_factor_batches": 2,
}
FINETUNING = {
    "data.train.0.max_structures": 8,
    "data.max_validation": 4,
    "data.max_test": 6,
    "train.batching.batch_size": 4,
    "train.epochs": 3,
    "train.schedule.warmup_epochs": 1,
    "train.schedule.decay_epochs": 2,
}
# Joint pretrainings: the number of each set's structures, and of those of an epoch where the config
# limits the mixture instead.
UPSTREAM = {
    "jmp.py:small": ({"ani1x": 8, "oc20": 40, "oc22": 16}, None),
    "budget.py:temperature": ({"ani1x": 8, "oc20": 40, "oc22": 16}, 40),
    "budget.py:ani1x+oc22": ({"ani1x": 32, "oc22": 16}, None),
    "budget.py:oc20-2M": ({"oc20-2M": 24}, None),
    "budget.py:omat24": ({"omat24": 24}, None),
}
# Tasks of classes, and of several properties.
NO_TABLES = ("matbench.py:mp_is_metal", "qm9.py:all")
SPLITS = {
    "qm9.py:gap": {"division": "standard", "train_size": 100, "validation_size": 10},
    "qm9.py:all": {"division": "standard", "train_size": 100, "validation_size": 10},
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
    return pretrain_on_ani1x(tmp_path_factory.mktemp("upstream"), SIZES)


def pretrain_on_ani1x(root: Path, sizes: Mapping[str, Any], words: str = "") -> Path:
    """A pretraining by the config of the budget studies."""
    write_ani1x(root)
    changes = {**PRETRAINING, **sizes}
    settings = settings_of(f"pretrain/budget.py:ani1x{words}", root, **changes)
    run = Run(root / "ani1x_run", settings, console=Console(quiet=True))
    results = pretrain(settings, run)
    assert results["budget"] == 48
    assert np.isfinite(results["test"]["ani1x"]["force_mae_mev_per_angstrom"])
    return run.workdir


def check_finetuning(
    source: str, pretrained: Path, root: Path, sizes: Mapping[str, Any], words: str = ""
) -> dict[str, Any]:
    WRITERS[source](root)
    arguments = {
        f"data.train.0.arguments.{name}": size for name, size in SPLITS.get(source, {}).items()
    }
    changes = {**FINETUNING, **arguments, **sizes, "finetune.checkpoint": pretrained}
    settings = settings_of(f"finetune/{source}{words}", root, **changes)
    run = Run(root / "run", settings, console=Console(quiet=True))
    results = finetune(settings, run)
    assert results["structures"] == 8
    assert results["steps"] == 6
    assert len(results["test"]) == (12 if source == "qm9.py:all" else 1)
    for errors in results["test"].values():
        assert errors
        assert all(np.isfinite(error) for error in errors.values())
    if source in NO_TABLES:
        with pytest.raises(RunError, match="no benchmark of the papers"):
            measure(read_runs([run.workdir]))
        return results
    # The run has its place in the papers' tables.
    (measured,) = measure(read_runs([run.workdir])).values()
    assert all(key.startswith(source.partition(".")[0]) for key in measured)
    return results


def test_pretraining_on_ani1x_and_finetuning_on_qm9(tmp_path):
    sizes = {**SIZES, **SIMPLER}
    pretrained = pretrain_on_ani1x(tmp_path, sizes)
    write_transition1x(tmp_path)
    results = check_finetuning("qm9.py:gap", pretrained, tmp_path, sizes, ",overlap")
    by_formula = results["test_by_formula"]["qm9"]
    assert list(by_formula) == ["ani1x", "transition1x", "any of them"]
    counts = [one[kind]["structures"] for one in by_formula.values() for kind in one]
    assert counts == [0, 6, 6, 0, 6, 0]


@pytest.mark.slow
@pytest.mark.parametrize("source", WRITERS)
def test_every_benchmark(source, pretrained, tmp_path):
    check_finetuning(source, pretrained, tmp_path, SIZES)


@pytest.mark.slow
def test_equiformer_v2(tmp_path):
    pretrained = pretrain_on_ani1x(tmp_path, EQUIFORMER, ",equiformer_v2")
    for source in ("rmd17.py:aspirin", "qm9.py:gap", "matbench.py:phonons"):
        folder = tmp_path / source.partition(".")[0]
        check_finetuning(source, pretrained, folder, EQUIFORMER, ",equiformer_v2")


@pytest.mark.slow
@pytest.mark.parametrize("source", UPSTREAM)
def test_joint_pretraining(source, tmp_path):
    write_upstream(tmp_path)
    sizes, limit = UPSTREAM[source]
    names = [d["name"] for d in load_config(f"{CONFIGS}/pretrain/{source}")["data"]["train"]]
    limits = {f"data.train.{names.index(name)}.max_structures": n for name, n in sizes.items()}
    changes = {**PRETRAINING, **SIZES, **SIMPLER, **limits, "train.max_structures": limit}
    settings = settings_of(f"pretrain/{source}", tmp_path, **{**changes, "train.budget": None})
    run = Run(tmp_path / "run", settings, console=Console(quiet=True))
    results = pretrain(settings, run)
    # Transition-1x comes whole, with its 48 structures to train on.
    counts = [*sizes.values()] + [48] * ("transition1x" in names)
    samples = limit or sum(counts)
    if source.startswith("jmp"):
        # An epoch lasts until every set has come whole, in shares of the roots of their sizes.
        samples = math.ceil(sum(np.sqrt(counts)) * max(np.sqrt(counts)))
    assert results["budget"] == 2 * samples
    assert list(results["validation"]) == names
    for errors in results["validation"].values():
        assert np.isfinite(errors["energy_mae_mev"])
        assert np.isfinite(errors["force_mae_mev_per_angstrom"])
