"""Linear probes: heads of one layer in closed form, and checkpoints of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

import atomjax
from atomjax.inference.probe import check_probe, fit_ridge, log_evidence, probe
from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.structures.readers import read, to_atoms
from atomjax.training.settings import RunSettings
from tests.training.workflow import make_config, run_here, write_structures

HEAD = {"kind": "energy_forces", "forces": "conservative", "targets": [{"name": "gap"}]}


@pytest.fixture(scope="module")
def structures(tmp_path_factory) -> Path:
    return write_structures(tmp_path_factory.mktemp("data") / "chains.xyz")


@pytest.fixture(scope="module")
def source(structures, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("source") / "run"
    run_here(workdir, structures, epochs=1)
    return workdir


def probe_config(structures: Path, source: Path | None, **changes: Any) -> dict[str, Any]:
    config = make_config(structures)
    start = {"checkpoint": source and str(source)}
    return {**config, "workflow": "probe", "finetune": start, "head": HEAD, **changes}


def test_ridge_finds_the_weights_and_the_strength() -> None:
    rng = np.random.default_rng(0)
    weights, sizes = rng.normal(size=8), 10.0 ** np.arange(-4, 4)
    rows = rng.normal(size=(60, 8)) * sizes
    labels = rows @ (weights / sizes)
    found, chosen = fit_ridge(rows[:40], labels[:40], rows[40:], labels[40:])
    np.testing.assert_allclose(found * sizes, weights, rtol=1e-6)
    assert chosen["validation_mae"] < 1e-6
    assert chosen["strength"] <= 1e-8
    noisy = labels + 10 * rng.normal(size=60)
    few, chosen = fit_ridge(rows[:9], noisy[:9], rows[40:], labels[40:])
    assert chosen["strength"] > 1e-3
    unbound = rows[40:] @ np.linalg.pinv(rows[:9]) @ noisy[:9]
    assert chosen["validation_mae"] < np.abs(unbound - labels[40:]).mean()
    # As it is written: (XᵀX + λI)⁻¹ Xᵀy for columns of one size.
    x = rows[:9] / np.sqrt(np.mean(rows[:9] ** 2, axis=0))
    ridge = chosen["strength"] * np.linalg.svd(x, compute_uv=False).__pow__(2).mean()
    direct = np.linalg.solve(x.T @ x + ridge * np.eye(8), x.T @ noisy[:9])
    np.testing.assert_allclose(few * np.sqrt(np.mean(rows[:9] ** 2, axis=0)), direct, rtol=1e-6)


def test_evidence_is_that_of_a_gaussian() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(30, 50)) * np.linspace(0.1, 3, 50)
    labels = rows @ rng.normal(size=50) + rng.normal(size=30)
    left, singular, _ = np.linalg.svd(rows, full_matrices=False)

    def evidence(logs: np.ndarray) -> float:
        noise, weights = np.exp(logs)
        covariance = noise * np.eye(30) + weights * rows @ rows.T
        return multivariate_normal(np.zeros(30), covariance).logpdf(labels)

    best = minimize(lambda logs: -evidence(logs), np.zeros(2), method="Nelder-Mead")
    strengths = np.exp(np.linspace(-10, 10, 2001))
    found = log_evidence(singular**2, left.T @ labels, labels, strengths)
    assert found == pytest.approx(-best.fun / 30, abs=1e-5)
    # Labels that the rows do not explain have less of it.
    other = rng.permutation(labels)
    assert log_evidence(singular**2, left.T @ other, other, strengths) < found


def test_a_probe_is_a_model_whose_energies_are_linear(structures, source, tmp_path) -> None:
    run = Run(tmp_path / "run")
    results = probe(probe_config(structures, source), run)
    assert json.loads((tmp_path / "run" / "results.json").read_text())["test"] == results["test"]
    assert set(results["probe"]) == {"energy", "value"}
    errors = results["test"]["chains"]
    known = {"energy_mae_mev", "force_mae_mev_per_angstrom", "value_mae", "value_rmse"}
    assert known <= errors.keys()
    # Predictions are those of a plain regression on the features that are written.
    labelled = read(structures, energy_unit="eV")
    model, features = atomjax.load(tmp_path / "run"), atomjax.features(labelled, str(source))
    predicted, sums = model.predict(labelled), np.stack([x.sum(axis=0) for x in features.atoms])
    (dataset,) = model.metadata["datasets"].values()
    elements = dataset["references"]["element_energies"]
    base = [sum(elements[symbol] for symbol in to_atoms(one).symbols) for one in labelled]
    rest = predicted.energies - np.array(base)
    weights = np.linalg.lstsq(sums, rest, rcond=None)[0]
    np.testing.assert_allclose(sums @ weights, rest, atol=1e-3 * np.abs(rest).max())
    forces = np.concatenate(predicted.forces)
    assert np.isfinite(forces).all()
    assert np.abs(forces).max() > 0
    # Kept features are read again.
    before = (tmp_path / "run" / "features" / "train" / "atoms.npy").stat().st_mtime_ns
    again = probe(probe_config(structures, source), Run(tmp_path / "run"))
    assert again["test"] == results["test"]
    assert (tmp_path / "run" / "features" / "train" / "atoms.npy").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finetune": {}}, "give finetune.checkpoint"),
        ({"head": {}}, "not direct forces"),
        ({"head": {"kind": "scalar", "targets": [{"name": "gap", "pooling": "max"}]}}, "linear"),
        ({"model": {"name": "equiformer_v2_tiny"}}, "have a fixed depth"),
    ],
)
def test_what_a_line_cannot_be_is_refused(structures, changes, message) -> None:
    config = probe_config(structures, Path("anywhere"), **changes)
    with pytest.raises(ConfigError, match=message):
        check_probe(RunSettings.from_config(config))
