"""The choice of structures by the errors of a trained model."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from atomjax.inference.difficulty import Errors, choice, errors_of
from atomjax.inference.predict import load_predictor
from atomjax.launch import main
from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.structures.readers import read
from atomjax.structures.store import Store
from tests.structures.readers.checks import forces_of
from tests.training.workflow import run_here, write_structures


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run_here(folder / "run", write_structures(folder / "chains.xyz", count=24), epochs=1)
    return folder


def test_errors_are_those_of_the_predictions(trained):
    structures = read(trained / "chains.xyz", "extxyz", energy_unit="eV")
    predictor = load_predictor(trained / "run", outside_span="mark")
    quiet = Run(trained / "quiet", console=Console(quiet=True))
    found = errors_of(structures, predictor, None, quiet)
    for place, result in enumerate(predictor(structures)):
        difference = forces_of(structures[place]) - result.forces
        expected = np.linalg.norm(difference, axis=1).mean()
        assert found.force[place] == pytest.approx(expected, rel=1e-5)
    # A method whose atoms have other energies says nothing of the structures.
    shifts = {1: 3.0, 6: -40.0, 8: 11.0}
    shifted = [
        replace(s, energy=(s.energy or 0) + sum(shifts[int(z)] for z in s.atomic_numbers))
        for s in structures
    ]
    again = errors_of(shifted, predictor, None, quiet)
    np.testing.assert_allclose(again.energy, found.energy, atol=1e-4)
    assert found.energy.max() > 1e-3


def test_difficulty_is_the_mean_of_relative_errors():
    energy = np.array([1.0, 3.0, np.nan])
    force = np.array([0.2, 0.2, 0.5])
    found = Errors(energy, force).difficulty()
    np.testing.assert_allclose(found, [(0.5 + 2 / 3) / 2, (1.5 + 2 / 3) / 2, 5 / 3])
    nothing = np.full(3, np.nan)
    np.testing.assert_allclose(Errors(nothing, force).difficulty(), force / 0.3)
    with pytest.raises(ValueError, match="1 of 3 structures have neither"):
        Errors(energy, np.array([1.0, 1.0, np.nan])).difficulty()


def test_thirds():
    difficulty = np.random.default_rng(0).permutation(30).astype(float)
    assert difficulty[choice(difficulty, 4, "low", 0)].tolist() == [0, 1, 2, 3]
    assert difficulty[choice(difficulty, 3, "high", 0)].tolist() == [27, 28, 29]
    middle = difficulty[choice(difficulty, 6, "mid", 0)]
    assert len(set(middle)) == 6
    assert set(middle) <= set(range(10, 20))
    mixed = difficulty[choice(difficulty, 8, "mixed", 1)]
    assert [((mixed >= 10 * i) & (mixed < 10 * (i + 1))).sum() for i in range(3)] == [3, 3, 2]
    assert sorted(mixed) == list(mixed)
    with pytest.raises(ConfigError, match="more than the 10 structures"):
        choice(difficulty, 11, "mid", 0)
    with pytest.raises(ConfigError, match="more than the 30 structures"):
        choice(difficulty, 31, "low", 0)


def test_workflow_writes_a_store(trained, tmp_path, capfd):
    own = Path(__file__).parents[1] / "configs/csi/difficulty.py"
    path = f"{own}:{trained / 'chains.xyz'},checkpoint={trained / 'run'},size=6,choose=high"
    assert main([f"--config={path}", f"--workdir={tmp_path / 'run'}"]) == 0
    summary = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (summary["available"], summary["size"]) == (24, 6)
    errors = summary["errors"]
    assert errors["low"]["difficulty"] < errors["mid"]["difficulty"] < errors["high"]["difficulty"]
    assert errors["chosen"]["difficulty"] >= errors["high"]["difficulty"]
    rows = list(csv.DictReader((tmp_path / "run" / "difficulty.csv").read_text().splitlines()))
    taken = [row["identifier"] for row in rows if row["chosen"] == "1"]
    store = Store(tmp_path / "run" / "selected")
    assert sorted(s.identifier for s in store) == sorted(taken)
    assert "| chosen |" in (tmp_path / "run" / "report.md").read_text()
    capfd.readouterr()
    assert main([f"--config={path}", "--validate", "--config.head=other"]) == 2
    assert "chains" in capfd.readouterr().err
    assert main([f"--config={own}:{trained / 'chains.xyz'}", "--validate"]) == 2
    assert "takes one file, a checkpoint" in capfd.readouterr().err
