"""Predictions from a checkpoint alone, in eV and eV/Å; the ASE calculator on top of it."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from atomjax.inference.calculator import AtomjaxCalculator
from atomjax.inference.predict import Predictor, load_predictor
from atomjax.runtime.run import Run
from atomjax.structures import ReferencesError, Structure
from atomjax.structures.readers import read
from atomjax.training.pretrain import pretrain
from atomjax.training.running.checkpoint import CheckpointError
from atomjax.training.settings import RunSettings
from tests.training.workflow import make_config, write_structures


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, list[Structure]]:
    """A run directory, and structures that were tested on in it."""
    folder = tmp_path_factory.mktemp("trained")
    path = write_structures(folder / "chains.xyz", count=24)
    config = make_config(path, epochs=1)
    config["head"] = {"forces": "conservative"}
    settings = RunSettings.from_config(config)
    pretrain(settings, Run(folder / "run", settings))
    return folder / "run", read(path, "extxyz", energy_unit="eV")


@pytest.fixture(scope="module")
def predictor(trained) -> Predictor:
    return load_predictor(trained[0], batch_size=5)


def test_predictions_are_those_of_the_run_in_physical_units(trained, predictor):
    run, structures = trained
    written = np.load(run / "predictions" / "chains.npz")
    names = [str(name).rpartition(":")[2] for name in written["identifier"]]
    own = {s.identifier.rpartition(":")[2]: s for s in structures}
    results = predictor([own[name] for name in names])
    energies = [result.energy for result in results]
    np.testing.assert_allclose(energies, written["energy_predicted"], rtol=1e-5)
    np.testing.assert_allclose(written["energy_true"], [own[n].energy for n in names])
    forces = np.concatenate([result.forces for result in results])
    np.testing.assert_allclose(forces, written["forces_predicted"], atol=1e-4)
    assert np.abs(forces).max() > 1e-3
    assert predictor.num_compilations == 1


def test_the_order_and_the_batch_do_not_matter(trained, predictor):
    _, structures = trained
    together = predictor(structures[:7])
    assert predictor([]) == []
    for structure, result in zip(structures[:7], together, strict=True):
        (alone,) = predictor([structure], "chains")
        assert result.forces.shape == (len(structure), 3)
        assert alone.energy == pytest.approx(result.energy, rel=1e-6)
        np.testing.assert_allclose(alone.forces, result.forces, atol=1e-5)


def test_what_it_cannot_predict_is_refused(predictor, tmp_path):
    gold = Structure(atomic_numbers=[79], positions=[[0.0, 0.0, 0.0]])
    with pytest.raises(ReferencesError, match="no reference for Au"):
        predictor([gold])
    with pytest.raises(ValueError, match="no head for data set 'oc20'; it has chains"):
        predictor([gold], "oc20")
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        load_predictor(tmp_path)


def test_calculator_compiles_once_while_atoms_move(trained):
    run, structures = trained
    start = structures[0]
    atoms = Atoms(start.atomic_numbers, start.positions)
    atoms.calc = AtomjaxCalculator(run)
    rng = np.random.default_rng(0)
    energies = []
    for _ in range(4):
        energies.append(atoms.get_potential_energy())
        assert atoms.get_forces().shape == (len(start), 3)
        atoms.positions += rng.normal(scale=0.01, size=(len(start), 3))
    assert len(set(energies)) == 4
    predictor = atoms.calc.predictor
    assert predictor.num_compilations == 1
    (expected,) = predictor([start])
    assert energies[0] == pytest.approx(expected.energy, rel=1e-6)


def test_calculator_forces_are_the_gradient_of_its_energy(trained):
    run, structures = trained
    atoms = Atoms(structures[3].atomic_numbers, structures[3].positions)
    atoms.calc = AtomjaxCalculator(run)
    forces, step = atoms.get_forces(), 1e-2
    for atom, axis in ((0, 2), (2, 0)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions[atom, axis] += sign * step
            energies.append(moved.get_potential_energy())
        slope = (energies[1] - energies[0]) / (2 * step)
        assert forces[atom, axis] == pytest.approx(slope, rel=0.02, abs=5e-5)
    assert np.abs(forces).max() > 1e-3
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
