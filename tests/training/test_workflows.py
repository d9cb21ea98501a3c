"""Pretraining and finetuning through the real loader and model."""

import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.training import session
from atomjax.training.checks import check_settings
from atomjax.training.finetune import finetune
from atomjax.training.pretrain import pretrain
from atomjax.training.running.checkpoint import CheckpointError, load_checkpoint, read_metadata
from atomjax.training.running.metrics import FURTHER_METRICS, METRICS
from atomjax.training.settings import RunSettings
from atomjax.training.update.compiled import CompiledFunctions
from tests.training.workflow import make_config, write_structures


@pytest.fixture(scope="module")
def structures(tmp_path_factory) -> Path:
    return write_structures(tmp_path_factory.mktemp("data") / "chains.xyz")


def start_run(function, config: dict[str, Any], workdir: Path) -> tuple[dict[str, Any], str]:
    """Results, and what the terminal showed."""
    settings = RunSettings.from_config(config)
    check_settings(settings)
    with (workdir.parent / f"{workdir.name}.txt").open("w+") as terminal:
        run = Run(workdir, settings, console=Console(file=terminal, width=200))
        results = function(settings, run)
        run.close()
        terminal.seek(0)
        return results, terminal.read()


@pytest.fixture(scope="module")
def pretrained(structures, tmp_path_factory) -> tuple[Path, dict[str, Any], str]:
    workdir = tmp_path_factory.mktemp("pretrained") / "run"
    results, text = start_run(pretrain, make_config(structures, epochs=8, budget=192), workdir)
    # Here, since a test that goes on in this directory writes them again.
    assert json.loads((workdir / "results.json").read_text()) == json.loads(json.dumps(results))
    return workdir, results, text


# A vanishing learning rate shows where training began.
STILL = {"epochs": 1, "learning_rate": 1e-30, "ema_decay": 0.0, "weight_decay": 0.0}


def finetune_config(structures: Path, checkpoint: Path | None, head: dict[str, Any], **train: Any):
    config = make_config(structures, **{"epochs": 2, **train})
    config["workflow"] = "finetune"
    config["data"]["train"][0]["name"] = "task"
    config["head"] = head
    config["finetune"] = {"checkpoint": checkpoint and str(checkpoint)}
    return config


def test_pretraining_learns_and_reports(pretrained):
    workdir, results, text = pretrained
    assert results["budget"] == 8 * 24
    assert results["steps"] == 32
    # None where another training of this process had been the same.
    assert results["compilations"] <= 1
    assert results["structures"] == 24
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    for part in (
        "data card",
        "C = 8 epochs × 24 unique structures",
        "compiled the training step",
    ):
        assert part in text
    assert text.index("data card") < text.index("training:")
    metadata = read_metadata(workdir)
    assert metadata["model"]["name"] == "gemnet_oc_tiny"
    assert metadata["heads"][0]["forces"] == "direct"
    assert metadata["graphs"]["chains"]["cutoff_molecule"] == 5.0
    assert set(metadata["datasets"]["chains"]["references"]["element_energies"]) == {"H", "C", "O"}


def test_predictions_agree_with_the_metrics(pretrained):
    workdir, results, _ = pretrained
    with np.load(workdir / "predictions" / "chains.npz", allow_pickle=False) as arrays:
        energy = np.abs(arrays["energy_true"] - arrays["energy_predicted"]).mean()
        forces = np.abs(arrays["forces_true"] - arrays["forces_predicted"]).mean()
        assert len(arrays["identifier"]) == 8
        assert len(set(arrays["identifier"])) == 8
        assert len(arrays["forces_structure"]) == (count := len(arrays["forces_true"]))
    by_element = results["test_by_element"]["chains"]
    assert set(by_element) == {"H", "C", "O"}
    assert sum(one["atoms"] for one in by_element.values()) == count
    test = results["test"]["chains"]
    assert test["energy_mae_mev"] == pytest.approx(1000 * energy, rel=1e-3)
    assert test["force_mae_mev_per_angstrom"] == pytest.approx(1000 * forces, rel=1e-4)
    assert test["force_rmse_mev_per_angstrom"] > test["force_mae_mev_per_angstrom"]
    assert -1 < test["force_cosine"] < 1


def test_finished_run_is_not_trained_again(pretrained, structures):
    workdir, results, _ = pretrained
    again, text = start_run(pretrain, make_config(structures, epochs=8, budget=192), workdir)
    assert "resuming after step 32" in text
    assert again["compilations"] == 0
    assert again["test"] == results["test"]


def test_errors_on_formulas_that_other_sets_hold(structures, tmp_path):
    config = make_config(structures, epochs=8, budget=192)
    path = tmp_path / "water.xyz"
    path.write_text("3\n\nO 0 0 0\nH 1 0 0\nH 0 1 0\n")
    # Labels are not asked for.
    water = {"name": "water", "kind": "read", "path": str(path), "length_unit": "Å"}
    chains = {**water, "name": "chains", "path": str(structures)}
    config["data"]["seen"] = [water, chains]
    results, _ = start_run(pretrain, config, tmp_path / "run")
    found = results["test_by_formula"]["chains"]
    assert list(found) == ["water", "chains", "any of them"]
    assert found["water"]["seen"] == found["chains"]["unseen"] == {"structures": 0}
    assert found["chains"]["seen"] == found["any of them"]["seen"] == found["water"]["unseen"]
    errors = found["chains"]["seen"]
    assert errors.pop("structures") == 8
    assert errors == pytest.approx(results["test"]["chains"], rel=1e-3)
    config["data"]["seen"].append(chains)
    with pytest.raises(ConfigError, match=r"seen share a name: water, chains, chains"):
        RunSettings.from_config(config)
    config["data"]["seen"], config["data"]["train"][0]["split"] = [chains], {"validation": 8}
    with pytest.raises(ConfigError, match=r"data.seen divides test errors, and no data set has a"):
        check_settings(RunSettings.from_config(config))


def test_a_run_is_not_resumed_with_other_data(pretrained, structures):
    workdir, text = pretrained[0], structures.read_text()
    lines = text.splitlines(keepends=True)
    structures.write_text("".join(lines[int(lines[0]) + 2 :]))
    try:
        with pytest.raises(ConfigError, match=r"had 24 structures and has 23.*--accept-changes"):
            start_run(pretrain, make_config(structures, epochs=8, budget=192), workdir)
    finally:
        structures.write_text(text)


def test_finetuning_starts_from_the_backbone_alone(pretrained, structures, tmp_path):
    checkpoint, _, _ = pretrained
    config = finetune_config(structures, checkpoint, {}, **STILL)
    results, text = start_run(finetune, config, tmp_path / "run")
    source, _ = load_checkpoint(checkpoint)
    ours, metadata = load_checkpoint(tmp_path / "run")
    assert set(ours["params"]) == {"backbone", "head_task"}
    jax.tree.map(
        np.testing.assert_array_equal, ours["params"]["backbone"], source["params"]["backbone"]
    )
    jax.tree.map(np.testing.assert_array_equal, ours["scale_factors"], source["scale_factors"])
    assert "heads discarded: chains" in text
    assert metadata["heads"][0]["name"] == "task"
    assert set(results["test"]["task"]) & METRICS.keys() == {
        "energy_mae_mev",
        "energy_mae_mev_per_atom",
        "force_mae_mev_per_angstrom",
    }
    assert set(results["test"]["task"]) - METRICS.keys() <= FURTHER_METRICS.keys()


@pytest.mark.parametrize("head_from", ["chains", "mean"])
def test_a_head_carries_over(pretrained, structures, tmp_path, head_from):
    checkpoint, _, _ = pretrained
    config = finetune_config(structures, checkpoint, {}, **STILL)
    config["finetune"]["head_from"] = head_from
    _, text = start_run(finetune, config, tmp_path / "run")
    assert "heads from chains" in text
    said = r"eV/atom from the head's element energies \(root mean square \S+\), which are kept"
    assert re.search(said, text)
    with (
        np.load(checkpoint / "predictions" / "chains.npz") as before,
        np.load(tmp_path / "run" / "predictions" / "task.npz") as after,
    ):
        np.testing.assert_array_equal(after["identifier"], before["identifier"])
        for label in ("energy_predicted", "forces_predicted"):
            np.testing.assert_allclose(after[label], before[label], rtol=1e-6, atol=1e-6)


def test_energies_of_another_reference_are_referenced_anew(pretrained, structures, tmp_path):
    checkpoint, _, _ = pretrained
    other = tmp_path / "other.xyz"
    text = structures.read_text()
    # Another functional: each atom's energy is another.
    other.write_text(re.sub(r"(\n?)(\d+)\n(.*?)energy=(\S+)", _shift_energy, text))
    config = finetune_config(other, checkpoint, {}, **STILL)
    config["finetune"]["head_from"] = "chains"
    _, shown = start_run(finetune, config, tmp_path / "run")
    assert "energies lie +20" in shown
    assert "another reference, fitted anew" in shown
    ours, theirs = (read_metadata(place)["datasets"] for place in (tmp_path / "run", checkpoint))
    ours, theirs = ours["task"]["references"], theirs["chains"]["references"]
    assert ours["force_scale"] == theirs["force_scale"]
    for element, energy in theirs["element_energies"].items():
        assert ours["element_energies"][element] == pytest.approx(energy + 20, abs=2)


def _shift_energy(found: re.Match[str]) -> str:
    atoms, energy = int(found[2]), float(found[4])
    return f"{found[1]}{atoms}\n{found[3]}energy={energy + 20 * atoms}"


def test_a_head_of_another_kind_does_not_carry_over(pretrained, structures, tmp_path):
    checkpoint, _, _ = pretrained
    config = finetune_config(structures, checkpoint, {"forces": "conservative"})
    config["finetune"]["head_from"] = "chains"
    with pytest.raises(ConfigError, match=r"forces: 'direct' in the checkpoint, 'conservative'"):
        start_run(finetune, config, tmp_path / "kind")
    config["finetune"]["head_from"] = "chain"
    with pytest.raises(ConfigError, match=r"no such head, but chains.*'chains'"):
        start_run(finetune, config, tmp_path / "name")


def test_trainings_of_one_task_share_compiled_functions(
    pretrained, structures, tmp_path, monkeypatch
):
    checkpoint, _, _ = pretrained
    monkeypatch.setattr(session, "COMPILED", CompiledFunctions())
    config = finetune_config(structures, checkpoint, {})
    first, _ = start_run(finetune, config, tmp_path / "first")
    second, text = start_run(finetune, config, tmp_path / "second")
    assert (first["compilations"], second["compilations"]) == (1, 0)
    assert "compiled the training step 0 time(s)" in text
    monkeypatch.setattr(session, "COMPILED", CompiledFunctions())
    alone, _ = start_run(finetune, config, tmp_path / "alone")
    assert alone["test"] == first["test"] == second["test"]
    # Another schedule is another function.
    config["train"]["optimizer"]["learning_rate"] = 1e-3
    other, _ = start_run(finetune, config, tmp_path / "other")
    assert other["compilations"] == 1


def test_functions_that_were_not_used_for_long_are_let_go():
    kept, made = CompiledFunctions(most=2), []
    for key in (1, 2, 1, 3, 1, 2):
        kept.get(key, lambda key=key: made.append(key) or key)
    assert made == [1, 2, 3, 2]


def test_finetuning_on_a_property_drops_the_edge_features(pretrained, structures, tmp_path):
    checkpoint, _, _ = pretrained
    head = {"kind": "scalar", "targets": [{"name": "gap", "pooling": "mean", "unit": "Å"}]}
    config = finetune_config(structures, checkpoint, head, epochs=8, select_by="value_mae")
    results, text = start_run(finetune, config, tmp_path / "run")
    assert "edge features, which no head here reads" in text
    assert "test task: MAE" in text
    assert " Å" in text
    with np.load(tmp_path / "run" / "predictions" / "task.npz") as arrays:
        error = np.abs(arrays["value_true"] - arrays["value_predicted"]).mean()
    errors = results["test"]["task"]
    assert errors.keys() == {"value_mae", "value_rmse"}
    assert errors["value_mae"] == pytest.approx(error, rel=1e-4)


def test_scratch_model_has_its_factors_fitted(structures, tmp_path):
    head = {"forces": "conservative"}
    results, text = start_run(
        finetune, finetune_config(structures, None, head, epochs=1), tmp_path / "run"
    )
    assert "fitting scale factors" in text
    variables, metadata = load_checkpoint(tmp_path / "run")
    factors = jax.tree.leaves(variables["scale_factors"])
    assert factors
    assert all(np.isfinite(f) and f != 0 for f in factors)
    references = metadata["datasets"]["task"]["references"]
    assert references["energy_scale"] == references["force_scale"]
    assert np.isfinite(results["test"]["task"]["force_mae_mev_per_angstrom"])


def test_checkpoint_of_another_model_is_refused_before_training(pretrained, structures):
    checkpoint, _, _ = pretrained
    config = finetune_config(structures, checkpoint, {})
    overrides = {**config["model"]["overrides"], "num_blocks": 2}
    config["model"] = {**config["model"], "overrides": overrides}
    with pytest.raises(CheckpointError, match=r"model\.num_blocks: 1 -> 2"):
        check_settings(RunSettings.from_config(config))


def test_subset_and_budget_must_agree(structures, tmp_path):
    config = make_config(structures, epochs=2, max_structures=12, budget=100)
    message = (
        r"train\.budget=100 is not .* 2 × 12 = 24; set train\.budget=24 or .*max_structures=50"
    )
    with pytest.raises(ConfigError, match=message):
        check_settings(RunSettings.from_config(config))
    config = make_config(structures, budget=100)
    settings = RunSettings.from_config(config)
    with pytest.raises(ConfigError, match=r"2 × 24 = 48"):
        pretrain(settings, Run(tmp_path / "run", settings, console=Console(quiet=True)))


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("train", {"learning_rat": 1.0}, "Did you mean 'optimizer.learning_rate'"),
        ("train", {"learning_rate": 1.0}, "Write config.train.optimizer.learning_rate"),
        (
            "train",
            {"validation": {"select_by": "value_mae"}},
            "select_by.*energy_forces.*force_mae",
        ),
        ("train", {"dtype": "float16"}, "dtype.*float32"),
        ("train", {"schedule": {"warmup_steps": -1}}, "schedule.*warmup_steps=-1 .* at least 0"),
        ("model", {"name": "gemnet_oc_smal"}, "gemnet_oc_small"),
        ("model", {"overrides": {"num_block": 2}}, "num_block.*num_blocks"),
        ("head", {"kind": "scalar"}, "targets"),
        ("head", {"hidden_channels": 8}, "head.hidden_channels=8: .*gemnet_oc .*num_layers"),
        ("finetune", {}, "finetune"),
    ],
)
def test_mistaken_configs_are_explained(structures, section, changes, message):
    config = make_config(structures)
    config[section] = {**config.get(section, {}), **changes}
    with pytest.raises(ConfigError, match=message):
        check_settings(RunSettings.from_config(config))


def test_reading_needs_declared_units_and_energy_kind(structures):
    for name in ("energy_unit", "length_unit", "energy_kind"):
        config = make_config(structures)
        del config["data"]["train"][0][name]
        with pytest.raises(ConfigError, match=rf"{name}; add {name}=\.\.\."):
            check_settings(RunSettings.from_config(config))


@pytest.mark.parametrize(("model", "rows"), [("equiformer_v2_tiny", 8), ("gemnet_oc_tiny", 7)])
def test_elements_without_a_row_are_named(structures, tmp_path, model, rows):
    """The chains have hydrogen, carbon and oxygen."""
    config = make_config(structures)
    config["model"] = {"name": model, "overrides": {"num_elements": rows}}
    message = rf'"chains" has O, .*ends with N, Z = 7.*num_elements={rows + 1}'
    with pytest.raises(ConfigError, match=message):
        pretrain(config, Run(tmp_path, console=Console(quiet=True)))


@pytest.mark.slow
def test_equiformer_pretrains_and_is_finetuned(structures, tmp_path):
    small = {"num_blocks": 1, "lmax": 1, "mmax": 1, "grid_resolution": 4}
    model = {"name": "equiformer_v2_tiny", "overrides": small}
    config = {**make_config(structures, epochs=3, dropout=0.0), "model": model}
    results, text = start_run(pretrain, config, tmp_path / "pretrained")
    assert "fitting scale factors" not in text
    graphs = read_metadata(tmp_path / "pretrained", "latest")["graphs"]["chains"]
    assert (graphs["kind"], graphs["max_neighbors"], graphs["cutoff_molecule"]) == ("nearest", 6, 5)
    head = {"kind": "scalar", "targets": [{"name": "gap"}]}
    tuned = finetune_config(structures, tmp_path / "pretrained", head, dropout=0.0, epochs=1)
    tuned["train"]["validation"] = {"select_by": "value_mae"}
    finetuned, text = start_run(finetune, {**tuned, "model": model}, tmp_path / "finetuned")
    assert "parameter arrays loaded; heads discarded: chains" in text
    for outcome in (results, finetuned):
        measured = next(iter(outcome["test"].values()))
        assert measured
        assert all(np.isfinite(v) for v in jax.tree.leaves(measured) if isinstance(v, float))
