"""Sweeps: which trainings variants share, and what the table says of them."""

import json

import numpy as np
import pytest
from rich.console import Console

from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.studies import sweep as module
from atomjax.studies.sweep import check_sweep, sweep
from atomjax.studies.sweep_settings import SweepSettings, trainings
from tests.training.workflow import make_config, write_structures

ERROR = "force_mae_mev_per_angstrom"


def make_sweep(path, variants, seeds=(0, 1), **changes) -> SweepSettings:
    base = make_config(path)
    task = {**base["data"]["train"][0], "name": "task"}
    base |= {
        "workflow": "transfer",
        "finetune": {
            "head": {"kind": "energy_forces"},
            "data": {"train": [task]},
            "train": {**base["train"], "select_by": "force_mae"},
        },
    }
    config = {"workflow": "sweep", "base": base, "variants": variants, "seeds": list(seeds)}
    return SweepSettings.from_config({**config, **changes})


VARIANTS = [
    {"name": "B", "changes": {"train.weight_decay": 0.01}},
    {"name": "WD", "changes": {"train.weight_decay": 0.1}},
    {"name": "LR", "changes": {"train.weight_decay": 0.1, "finetune.train.learning_rate": 1e-4}},
    {"name": "none", "start": "scratch"},
]


@pytest.fixture
def stages(monkeypatch):
    """Trainings that only note what they were asked for."""
    done = []

    def pretrain(settings, run, compiled):
        done.append(("pretrain", settings.train.weight_decay, settings.seed))
        return {"test": {"chains": {ERROR: 1.0}}, "validation": {}}

    def finetune(settings, run, compiled):
        start = settings.finetune.checkpoint
        start = start and start.partition("pretrained/")[2]
        done.append(("finetune", start, settings.train.learning_rate, settings.seed))
        error = 8.0 + settings.seed if start is None else 4.0
        return {"test": {"task": {ERROR: error}}, "validation": {"task": {ERROR: error}}}

    monkeypatch.setattr(module, "pretrain", pretrain)
    monkeypatch.setattr(module, "finetune", finetune)
    return done


def test_variants_share_pretrainings_and_nothing_is_done_twice(tmp_path, stages):
    settings = make_sweep(tmp_path / "chains.xyz", VARIANTS, reference="none")
    run = Run(tmp_path / "run", settings, console=Console(quiet=True))
    summary = sweep(settings, run)
    first = [stage for stage in stages if stage[-1] == 0]
    assert first == [
        ("pretrain", 0.01, 0),
        ("finetune", "B/seed_0", 3e-3, 0),
        ("pretrain", 0.1, 0),
        ("finetune", "WD/seed_0", 3e-3, 0),
        ("finetune", "WD/seed_0", 1e-4, 0),
        ("finetune", None, 3e-3, 0),
    ]
    assert len(stages) == 12
    assert sweep(settings, run) == summary == json.loads((run.workdir / "sweep.json").read_text())
    assert len(stages) == 12
    by_name = {variant["name"]: variant for variant in summary["variants"]}
    assert by_name["B"]["error"]["values"] == [4.0, 4.0]
    assert by_name["B"]["improvement"]["values"] == [1 - 4 / 8, 1 - 4 / 9]
    lines = (run.workdir / "sweep.md").read_text().splitlines()
    assert "| variant | force MAE (meV/Å) | improvement | ahead in | single seeds |" in lines
    assert "| WD | 4 ± 0 | +52.8% ± 3.9% | 2 of 2 | 4, 4 |" in lines
    assert "| none | 8.5 ± 0.71 | – | – | 8, 9 |" in lines


def test_curves_over_the_number_of_structures_are_plotted(tmp_path, stages):
    variants = [
        {"name": f"{start}_{n}", "start": start, "line": start, "x": n,
         "changes": {"finetune.train.max_structures": n}}
        for start in ("pretrained", "scratch") for n in (8, 16)
    ]  # fmt: skip
    settings = make_sweep(tmp_path / "chains.xyz", variants, seeds=(0,))
    sweep(settings, Run(tmp_path / "run", settings, console=Console(quiet=True)))
    assert (tmp_path / "run" / "plots" / "curves.png").stat().st_size > 5_000
    assert "![plots/curves.png]" in (tmp_path / "run" / "sweep.md").read_text()
    assert sum(stage[0] == "pretrain" for stage in stages) == 1


def test_settings_of_a_variant(tmp_path):
    settings = make_sweep(tmp_path / "chains.xyz", VARIANTS)
    parts = trainings(settings, settings.variants[2], 5)
    assert parts.upstream is not None
    assert parts.downstream is not None
    assert (parts.upstream.seed, parts.upstream.train.weight_decay) == (5, 0.1)
    assert (parts.downstream.seed, parts.downstream.train.learning_rate) == (5, 1e-4)
    assert trainings(settings, settings.variants[3], 5).upstream is None


@pytest.mark.parametrize(
    ("variants", "changes", "message"),
    [
        ([{"name": "a", "changes": {"train.weight_deca": 1}}], {}, r'"a": .*weight_decay'),
        ([{"name": "a"}, {"name": "a"}], {}, "of different names"),
        ([{"name": "plots"}], {}, "is a folder of the study"),
        ([{"name": "a"}], {"reference": "b"}, 'reference "b" is none of a'),
        ([{"name": "a", "x": 3}], {}, "line and x go together"),
        ([{"name": "a"}, {"name": "b", "line": "l", "x": 1}], {}, "give all or none"),
        ([{"name": "a", "changes": {"finetune.data.train.0.split": {}}}], {}, "has no test part"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(tmp_path, variants, changes, message):
    path = write_structures(tmp_path / "chains.xyz")
    with pytest.raises(ConfigError, match=message):
        check_sweep(make_sweep(path, variants, **changes))


def test_a_sweep_of_pretrainings_trains(tmp_path):
    base = make_config(write_structures(tmp_path / "chains.xyz"), epochs=1)
    variants = [{"name": "mean"}, {"name": "atom", "changes": {"train.force_reduction": "atom"}}]
    settings = SweepSettings.from_config(
        {"workflow": "sweep", "base": base, "variants": variants, "seeds": [0]}
    )
    assert check_sweep(settings)[0] == "2 variants × 1 seeds: 2 pretrainings, 0 finetunings"
    summary = sweep(settings, Run(tmp_path / "run", settings, console=Console(quiet=True)))
    errors = [variant["error"]["mean"] for variant in summary["variants"]]
    assert np.isfinite(errors).all()
    assert errors[0] != errors[1]
