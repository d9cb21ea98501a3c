"""Sweeps: which trainings variants share, and what the table says of them."""

import json

import numpy as np
import pytest
from rich.console import Console

from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.studies import engine
from atomjax.studies.sweep import SWEEP, SweepSettings, divide
from tests.studies.trainings import FORCE, Trainings, replace_trainings, transfer_config
from tests.training.workflow import make_config, write_structures


def make_sweep(path, variants, seeds=(0, 1), **changes) -> SweepSettings:
    base = transfer_config(path)
    config = {"workflow": "sweep", "base": base, "variants": variants, "seeds": list(seeds)}
    return SweepSettings.from_config({**config, **changes})


def start(settings) -> str | None:
    """Variant and seed of the pretraining that a finetuning starts from."""
    checkpoint = settings.finetune.checkpoint
    return checkpoint and checkpoint.partition("pretrained/")[2]


UP, DOWN = "pretraining.train.optimizer", "finetuning.train.optimizer"
VARIANTS = [
    {"name": "B", "changes": {f"{UP}.weight_decay": 0.01}},
    {"name": "WD", "changes": {f"{UP}.weight_decay": 0.1}},
    {"name": "LR", "changes": {f"{UP}.weight_decay": 0.1, f"{DOWN}.learning_rate": 1e-4}},
    {"name": "none", "start": "scratch"},
]


@pytest.fixture
def trainings(monkeypatch) -> Trainings:
    def errors(settings):
        if settings.finetune is None:
            return {FORCE: 1.0}
        return {FORCE: 8.0 + settings.seed if start(settings) is None else 4.0}

    return replace_trainings(monkeypatch, errors)


def run_sweep(settings, folder) -> dict:
    return SWEEP(settings, Run(folder, settings, console=Console(quiet=True)))


def test_variants_share_pretrainings_and_nothing_is_done_twice(tmp_path, trainings):
    settings = make_sweep(tmp_path / "chains.xyz", VARIANTS, reference="none")
    summary = run_sweep(settings, tmp_path / "run")
    first = [
        ("pretrain", one.train.optimizer.weight_decay)
        if one.finetune is None
        else ("finetune", start(one), one.train.optimizer.learning_rate)
        for one in trainings.done
        if one.seed == 0
    ]
    assert first == [
        ("pretrain", 0.01),
        ("finetune", "B/seed_0", 3e-3),
        ("pretrain", 0.1),
        ("finetune", "WD/seed_0", 3e-3),
        ("finetune", "WD/seed_0", 1e-4),
        ("finetune", None, 3e-3),
    ]
    assert len(trainings.done) == 12
    again = run_sweep(settings, tmp_path / "run")
    assert again == summary == json.loads((tmp_path / "run" / "report.json").read_text())
    assert len(trainings.done) == 12
    by_name = {variant["name"]: variant for variant in summary["variants"]}
    assert by_name["B"]["error"]["values"] == [4.0, 4.0]
    assert by_name["B"]["improvement"]["values"] == [1 - 4 / 8, 1 - 4 / 9]
    lines = (tmp_path / "run" / "report.md").read_text().splitlines()
    assert "| variant | force MAE (meV/Å) | improvement | ahead in | single seeds |" in lines
    assert "| WD | 4 ± 0 | +52.8% ± 3.9% | 2 of 2 | 4, 4 |" in lines
    assert "| none | 8.5 ± 0.71 | – | – | 8, 9 |" in lines


def test_there_is_a_report_after_every_seed(tmp_path, trainings):
    settings = make_sweep(tmp_path / "chains.xyz", VARIANTS)
    given, reports = trainings.errors, []

    def errors(one):
        path = tmp_path / "run" / "report.json"
        reports.append(json.loads(path.read_text())["seeds"] if path.exists() else None)
        return given(one)

    trainings.errors = errors
    assert run_sweep(settings, tmp_path / "run")["seeds"] == [0, 1]
    assert reports == [None] * 6 + [[0]] * 6


def test_strategies_are_compared_on_the_task_and_on_what_they_forget(tmp_path, monkeypatch):
    stand_in = Trainings(lambda settings: {FORCE: 4.0 + settings.finetune.replay.share})

    def train(settings, run, compiled=None):
        share = settings.finetune.replay.share
        results = stand_in(settings, run, compiled)
        results["test"]["upstream"] = {FORCE: 40.0 - 60 * share}
        costs = {"trained_parameters": 1200, "state_bytes": 3_000_000, "step_bytes": 1_500_000}
        return {**results, **costs}

    replace_trainings(monkeypatch, lambda _: {})
    monkeypatch.setitem(engine.TRAININGS, "finetune", train)
    base = make_config(tmp_path / "chains.xyz")
    upstream = {**base["data"]["train"][0], "name": "upstream"}
    base |= {"workflow": "finetune", "finetune": {"replay": {"dataset": upstream, "share": 0.0}}}
    changes = {"finetune.replay.share": 0.5}
    variants = [{"name": "none"}, {"name": "half", "changes": changes}]
    settings = SweepSettings.from_config(
        {"workflow": "sweep", "base": base, "variants": variants, "seeds": [0, 1]}
    )
    summary = run_sweep(settings, tmp_path / "run")
    assert [one["error"]["mean"] for one in summary["variants"]] == [4.0, 4.5], "the task's alone"
    text = (tmp_path / "run" / "report.md").read_text()
    heads = (
        "variant | chains: force MAE (meV/Å) | upstream: force MAE (meV/Å) | improvement | ahead in"
        " | trained | memory (MB) | wall time"
    )
    assert f"| {heads} |" in text
    assert "| half | 4.5 ± 0 | 10 ± 0 | -12.5% ± 0.0% | 0 of 2 | 1,200 | 4.5 |" in text


def test_curves_over_the_number_of_structures_are_plotted(tmp_path, trainings, figures):
    variants = [
        {"name": f"{start}_{n}", "start": start, "line": start, "x": n,
         "changes": {"finetuning.train.max_structures": n}}
        for start in ("pretrained", "scratch") for n in (8, 16)
    ]  # fmt: skip
    settings = make_sweep(tmp_path / "chains.xyz", variants, seeds=(0,))
    run_sweep(settings, tmp_path / "run")
    assert (tmp_path / "run" / "plots" / "curves.png").stat().st_size > 5_000
    assert "(plots/curves.png)" in (tmp_path / "run" / "report.md").read_text()
    assert sum(one.finetune is None for one in trainings.done) == 1


def test_settings_of_a_variant(tmp_path):
    settings = make_sweep(tmp_path / "chains.xyz", VARIANTS)
    upstream, downstream = divide(settings, settings.variants[2], 5)
    assert upstream is not None
    assert downstream is not None
    assert (upstream.seed, upstream.train.optimizer.weight_decay) == (5, 0.1)
    assert (downstream.seed, downstream.train.optimizer.learning_rate) == (5, 1e-4)
    assert divide(settings, settings.variants[3], 5)[0] is None


@pytest.mark.parametrize(
    ("variants", "changes", "message"),
    [
        (
            [{"name": "a", "changes": {f"{UP}.weight_deca": 1}}],
            {},
            r'"a": .*weight_decay',
        ),
        ([{"name": "a"}, {"name": "a"}], {}, "of different names"),
        ([{"name": "plots"}], {}, "is a folder of the study"),
        ([{"name": "a"}], {"reference": "b"}, 'reference "b" is none of a'),
        ([{"name": "a", "x": 3}], {}, "line and x go together"),
        ([{"name": "a"}, {"name": "b", "line": "l", "x": 1}], {}, "give all or none"),
        ([{"name": "a", "changes": {"finetuning.data.train.0.split": {}}}], {}, "has no test part"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(tmp_path, variants, changes, message):
    path = write_structures(tmp_path / "chains.xyz")
    with pytest.raises(ConfigError, match=message):
        SWEEP.check(make_sweep(path, variants, **changes))


def test_properties_of_several_units_are_not_averaged(tmp_path):
    base = make_config(write_structures(tmp_path / "chains.xyz"), epochs=1)
    base |= {"workflow": "finetune"}
    base["head"] = {"kind": "scalar", "targets": [{"name": "gap"}, {"name": "mu"}]}
    sweep = {"workflow": "sweep", "base": base, "variants": [{"name": "a"}], "seeds": [0]}
    with pytest.raises(ConfigError, match=r"several \(gap, mu\)"):
        SWEEP.check(SweepSettings.from_config(sweep))


@pytest.mark.slow
def test_a_sweep_of_pretrainings_trains(tmp_path):
    base = make_config(write_structures(tmp_path / "chains.xyz"), epochs=1)
    variants = [
        {"name": "mean"},
        {"name": "atom", "changes": {"train.loss.force_reduction": "atom"}},
    ]
    settings = SweepSettings.from_config(
        {"workflow": "sweep", "base": base, "variants": variants, "seeds": [0]}
    )
    assert SWEEP.check(settings)[0] == "2 pretrainings"
    summary = run_sweep(settings, tmp_path / "run")
    errors = [variant["error"]["mean"] for variant in summary["variants"]]
    assert np.isfinite(errors).all()
    assert errors[0] != errors[1]
