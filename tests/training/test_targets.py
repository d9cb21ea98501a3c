"""Several properties in one training, alone or beside energies and forces."""

import functools
import json
import re
from pathlib import Path
from typing import Any

import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

import atomjax
from atomjax.command.__main__ import main
from atomjax.models import HeadConfig, Prediction, TargetConfig
from atomjax.runtime.config import ConfigError, build
from atomjax.runtime.earlier import translated_config
from atomjax.structures import ReferencesError
from atomjax.structures.readers import read
from atomjax.structures.store.writing import write_store
from atomjax.studies.single import finetune
from atomjax.training.checks import check_settings
from atomjax.training.from_settings import fit_target
from atomjax.training.running.checkpoint import read_metadata
from atomjax.training.running.metrics import error_sums, physical_metrics
from atomjax.training.settings import FinetuningSettings, RunSettings, TargetSettings
from atomjax.training.update.losses import (
    label_counts,
    loss_sums,
    mean_terms,
    prediction_errors,
    total,
)
from atomjax.training.update.tasks import Target, Task
from tests.training.standin import Labelled, make_batch
from tests.training.test_workflows import start_run
from tests.training.workflow import make_config

# A share of atoms, a number of atoms in a small unit and far from zero, a sum with its elements'.
TARGETS = (
    {"name": "carbon share", "pooling": "mean"},
    {"name": "atoms", "unit": "m", "coefficient": 2.0},
    {"name": "charge", "unit": "e", "extensive": True},
)
WITHOUT = 6


def molecules(count: int = 60) -> list[Atoms]:
    """Chains of three elements; the first lack one of their three properties."""
    rng, frames = np.random.default_rng(1), []
    for i in range(count):
        n = int(rng.integers(3, 8))
        atoms = Atoms(rng.choice([1, 6, 8], n), np.cumsum(rng.normal(0.8, 0.1, (n, 3)), axis=0))
        atoms.info["carbon share"] = float((atoms.numbers == 6).mean())
        atoms.info["atoms"] = 5000.0 + 1000.0 * n
        if i >= WITHOUT:
            atoms.info["charge"] = float(atoms.numbers.sum() + rng.normal(0, 0.01))
        distance = np.linalg.norm(atoms.positions[1] - atoms.positions[0])
        along = (atoms.positions[1] - atoms.positions[0]) / distance
        forces = np.zeros((n, 3))
        forces[0], forces[1] = along, -along
        atoms.calc = SinglePointCalculator(atoms, energy=distance, forces=forces)
        frames.append(atoms)
    return frames


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    found = tmp_path_factory.mktemp("data") / "chains.xyz"
    ase.io.write(found, molecules(), format="extxyz")
    return found


def config_of(path: Path, head: dict[str, Any], **train: Any) -> dict[str, Any]:
    config = make_config(path, **{"batch_size": 12, "learning_rate": 1e-2, **train})
    config["workflow"] = "finetune"
    config["data"]["train"][0]["split"] |= {"seed": 2}
    return {**config, "head": head}


trained = functools.partial(start_run, finetune)


@pytest.fixture(scope="module")
def three(path, tmp_path_factory) -> tuple[Path, dict[str, Any], str]:
    workdir = tmp_path_factory.mktemp("three") / "run"
    head = {"kind": "scalar", "targets": TARGETS}
    return workdir, *trained(config_of(path, head, epochs=30, eval_every=60), workdir)


def test_each_of_three_is_learned_better_than_its_mean(three, path):
    workdir, results, text = three
    labels = {name: [] for name in ("carbon share", "atoms", "charge")}
    for structure in read(path, energy_unit="eV"):
        for name, value in structure.targets.items():
            labels[name].append(value)
    assert list(results["test"]) == [f"chains/{name}" for name in labels]
    for name, values in labels.items():
        spread = np.abs(np.array(values) - np.mean(values)).mean()
        assert results["test"][f"chains/{name}"]["value_mae"] < 0.5 * spread, name
    assert "test chains/atoms: MAE" in text
    assert " m\n" in text
    # Labels that are missing are counted.
    assert re.search(r"carbon share of all, atoms of all, charge of \d+ of 44", text)
    arrays = np.load(workdir / "predictions" / "chains.npz")
    error = np.abs(arrays["value_atoms_true"] - arrays["value_atoms_predicted"]).mean()
    assert results["test"]["chains/atoms"]["value_mae"] == pytest.approx(error, rel=1e-4)
    report = (workdir / "report.md").read_text()
    assert "| test, chains/atoms (m) |" in report
    assert "parity" in report


def test_a_checkpoint_predicts_what_the_run_did_in_every_form(three, path, tmp_path, capsys):
    workdir, *_ = three
    written = np.load(workdir / "predictions" / "chains.npz")
    results = atomjax.load(workdir).predict(path, energy_unit="eV")
    rows = [list(results.identifiers).index(name) for name in written["identifier"]]
    for name, predicted in results.properties.items():
        expected = written[f"value_{name}_predicted"]
        np.testing.assert_allclose(predicted[rows], expected, rtol=1e-5, atol=1e-5)
    assert list(results.properties) == [target["name"] for target in TARGETS]
    assert np.isnan(results.labels.properties["charge"][:WITHOUT]).all()
    with pytest.raises(ValueError, match="several properties: carbon share, atoms, charge"):
        _ = results.values
    assert results.errors_by_target().keys() == results.properties.keys()
    assert "value_mae" not in results.errors()
    half = results.take(range(5))
    np.testing.assert_array_equal(half.properties["atoms"], results.properties["atoms"][:5])
    together = atomjax.load([workdir, workdir]).predict(path, energy_unit="eV")
    assert together.deviations is not None
    assert not together.deviations.properties["atoms"].any()
    results.plot(tmp_path / "parity.png")
    for name in ("out.csv", "out.xyz", "out.json"):
        command = ["predict", str(workdir), str(path), "--energy-unit=eV"]
        assert main([*command, "--output", str(tmp_path / name)]) == 0
    header = (tmp_path / "out.csv").read_text().splitlines()[0].split(",")
    assert {"value_atoms", "value_atoms_true", "value_charge"} <= set(header)
    frames = list(ase.io.iread(tmp_path / "out.xyz"))
    atoms = [frame.info["value_atoms"] for frame in frames]
    np.testing.assert_allclose(atoms, results.properties["atoms"], rtol=1e-6)
    records = json.loads((tmp_path / "out.json").read_text())
    assert records[0]["value_charge_true"] is None
    assert records[-1]["value_atoms"] == pytest.approx(results.properties["atoms"][-1], rel=1e-6)


@pytest.mark.slow
def test_energies_and_forces_with_properties_start_from_a_pretrained_head(three, path, tmp_path):
    """The head's energy and forces are carried over, beside properties that are its own or not."""
    workdir, *_ = three
    still = {"epochs": 1, "learning_rate": 1e-30, "ema_decay": 0.0, "weight_decay": 0.0}
    head = {"kind": "energy_forces", "forces": "conservative"}
    first = config_of(path, {**head, "targets": TARGETS[2:]}, epochs=1)
    first["finetune"] = {"checkpoint": str(workdir)}
    trained(first, tmp_path / "first")
    both = config_of(path, {**head, "targets": TARGETS[:2]}, **still)
    both["finetune"] = {"checkpoint": str(tmp_path / "first"), "head_from": "chains"}
    # The third property is the structures' charge, which no model reads that does not predict it.
    with pytest.raises(ConfigError, match=r"charge .*ignore_charge=True"):
        trained(both, tmp_path / "charged")
    both["data"]["ignore_charge"] = True
    results, text = trained(both, tmp_path / "both")
    models = [atomjax.load(tmp_path / name) for name in ("first", "both")]
    before, after = (model.predict(path, energy_unit="eV") for model in models)
    np.testing.assert_allclose(after.energies, before.energies, rtol=1e-6)
    np.testing.assert_allclose(
        np.concatenate(after.forces), np.concatenate(before.forces), atol=1e-5
    )
    assert after.properties.keys() == {"carbon share", "atoms"}
    assert {"energy_mae_mev", "force_mae_mev_per_angstrom"} <= results["test"]["chains"].keys()
    assert results["test"]["chains/atoms"].keys() == {"value_mae", "value_rmse"}
    assert "energies of all, forces of all, carbon share of all" in text
    metadata = read_metadata(tmp_path / "both")
    assert metadata["datasets"]["chains"]["references"] is not None
    assert [one["name"] for one in metadata["datasets"]["chains"]["properties"]] == [
        "carbon share",
        "atoms",
    ]


def test_scale_and_weight_act_and_missing_labels_do_not_count():
    items = [
        Labelled(np.array([1]), np.zeros((1, 3)), properties=given, index=i)
        for i, given in enumerate(({"gap": 1.0}, {"gap": -2.0}, {}))
    ]
    batch = make_batch(items, graphs=5, nodes=6)
    head = {"a": Prediction(None, None, jnp.zeros(6), {"gap": jnp.zeros(5)})}

    def of(**fields: Any) -> tuple[float, dict[str, float], jax.Array]:
        task = (Task(name="a", kind="scalar", targets=(Target(name="gap", **fields),)),)
        errors = prediction_errors(head, batch, task)
        counts = label_counts(batch, task, "structure")
        terms = mean_terms(loss_sums(errors, batch, task, "structure"), counts)

        def loss(values: jax.Array) -> jax.Array:
            own = {"a": Prediction(None, None, jnp.zeros(6), {"gap": values})}
            sums = loss_sums(prediction_errors(own, batch, task), batch, task, "structure")
            return total(mean_terms(sums, counts))

        metrics = physical_metrics(error_sums(errors, batch, task), task)
        return float(total(terms)), metrics, jax.grad(loss)(jnp.zeros(5))

    loss, metrics, gradient = of(scale=4.0, mean=7.0)
    assert (loss, metrics) == (pytest.approx(1.5), {"a/value_mae": pytest.approx(6.0)})
    np.testing.assert_allclose(gradient, [-0.5, 0.5, 0, 0, 0])
    assert of(coefficient=3.0)[0] == pytest.approx(4.5)
    loss, metrics, gradient = of(coefficient=0.0)
    assert (loss, metrics) == (0.0, {"a/value_mae": pytest.approx(1.5)})
    assert not np.any(gradient)


@pytest.mark.parametrize(
    ("head", "select", "message"),
    [
        ({"targets": [{"name": "a"}, {"name": "a"}]}, {}, r"targets \['a', 'a'\]"),
        ({"targets": []}, {}, r'targets=\[\{"name": "gap"\}\]'),
        ({"target": "a"}, {}, "config.head.target: unknown key .*Did you mean 'targets'"),
        (
            {"targets": [{"name": "a"}, {"name": "b"}]},
            {"select_by": "value_mae"},
            "select_property to one of a, b",
        ),
        (
            {"targets": [{"name": "a"}]},
            {"select_by": "value_mae", "select_property": "a"},
            'select_property="a" is for select_by="value_mae" or .* with several',
        ),
        ({"targets": [{"name": "a", "transform": "log", "extensive": True}]}, {}, "without ext"),
    ],
)
def test_contradictions_are_explained(path, head, select, message):
    config = config_of(path, {"kind": "scalar", **head})
    config["train"]["validation"] = select
    with pytest.raises(ConfigError, match=message):
        check_settings(RunSettings.from_config(config))


def test_weights_of_energies_are_no_weights_of_properties(path):
    config = config_of(path, {"kind": "scalar", "targets": [{"name": "a"}]})
    config["data"]["train"][0]["energy_coefficient"] = 2.0
    with pytest.raises(ConfigError, match=r'dataset "chains": energy_coefficient .* weigh what'):
        check_settings(RunSettings.from_config(config))


def test_a_study_of_several_properties_alone_is_refused(path):
    config = config_of(path, {"kind": "scalar", "targets": TARGETS})
    with pytest.raises(ConfigError, match=r"several \(carbon share, atoms, charge\)"):
        build(FinetuningSettings, {key: config[key] for key in ("data", "train", "head")})


def test_scales_of_a_store_are_fitted_where_the_labels_are(path, tmp_path):
    structures = read(path, energy_unit="eV")
    store = write_store(tmp_path / "store", structures)
    target = TargetSettings(name="charge", extensive=True)
    expected, found = (fit_target(target, source) for source in (structures, store))
    assert found.to_dict() == expected.to_dict()
    missing = TargetSettings(name="gap")
    with pytest.raises(ReferencesError, match=r"none of the 60 .* 'gap', .*atoms, carbon share"):
        fit_target(missing, store)


def test_a_target_that_nobody_has_is_an_error_that_lists_those_there_are(path, tmp_path):
    config = config_of(path, {"kind": "scalar", "targets": [{"name": "gap"}]})
    with pytest.raises(ConfigError, match=r"head\.targets: none .* target 'gap'.*atoms, carbon"):
        trained(config, tmp_path / "run")


def test_heads_and_configs_of_one_property_are_read_as_they_were_meant(path):
    fields = {"name": "a", "kind": "scalar", "forces": None, "pooling": "mean", "target": "gap"}
    (target,) = HeadConfig.from_dict({**fields, "num_layers": 5, "stress": False}).targets
    assert target == TargetConfig(name="gap", pooling="mean")
    energy = HeadConfig.from_dict({"name": "a", "kind": "energy", "target": None})
    assert (energy.targets, energy.pooling) == ((), "sum")
    head = {"kind": "scalar", "target": "gap", "unit": "eV", "pooling": "mean", "transform": "log"}
    stored = config_of(path, {**head, "extensive": False, "forces": "direct"})
    stored["train"]["loss"] = {"energy_coefficient": 3.0}
    (found,) = RunSettings.from_config(translated_config(stored)).head.targets
    assert (found.name, found.unit, found.pooling, found.transform) == ("gap", "eV", "mean", "log")
    assert (found.extensive, found.coefficient) == (False, 3.0)
    energies = {"kind": "energy", "target": None, "unit": "", "pooling": "sum"}
    settings = RunSettings.from_config(translated_config(config_of(path, energies)))
    assert (settings.head.kind, settings.head.targets) == ("energy", ())
