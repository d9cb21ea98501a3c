"""Stresses from the file to the loss, the metrics, the predictions and the calculator."""

import dataclasses

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from rich.console import Console

from atomjax.inference.calculator import AtomjaxCalculator
from atomjax.runtime.config import ConfigError, build
from atomjax.runtime.run import Run
from atomjax.structures.readers import ReadError, read
from atomjax.training.finetune import finetune
from atomjax.training.running.metrics import error_sums, physical_metrics
from atomjax.training.settings import HeadSettings, RunSettings
from atomjax.training.update.losses import Errors, label_counts, loss_sums, mean_terms
from atomjax.training.update.tasks import Task
from tests.training.standin import Labelled, make_batch
from tests.training.workflow import make_config

GPA = 160.21766340
KEY = "stress_mae_ev_per_cubic_angstrom"


def spring_crystals(count: int, seed: int = 0) -> list[Atoms]:
    """CsCl cells, strained, with energy and stress of E = V ((tr ε)² + 0.3 ε:ε) / 2 about rest."""
    rng = np.random.default_rng(seed)
    crystals = []
    for _ in range(count):
        strain = 0.05 * rng.normal(size=(3, 3))
        strain = (strain + strain.T) / 2
        cell = 3.2 * (np.eye(3) + strain)
        atoms = Atoms("OC", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=cell, pbc=True)
        stress = np.trace(strain) * np.eye(3) + 0.3 * strain
        voigt = stress[(0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]
        energy = 3.2**3 * (np.trace(strain) ** 2 + 0.3 * np.sum(strain**2)) / 2
        atoms.calc = SinglePointCalculator(
            atoms, energy=energy, forces=np.zeros((2, 3)), stress=voigt
        )
        crystals.append(atoms)
    return crystals


@pytest.fixture(scope="module")
def crystals(tmp_path_factory):
    path = tmp_path_factory.mktemp("crystals") / "crystals.xyz"
    write(path, spring_crystals(36), format="extxyz")
    return path


def test_stresses_are_read_with_their_unit(crystals, tmp_path):
    (first, *_), (atoms, *_) = read(crystals), spring_crystals(1)
    assert first.stress is not None
    expected = atoms.get_stress(voigt=False)
    np.testing.assert_allclose(first.stress, expected, atol=1e-7)
    (gigapascal, *_) = read(crystals, stress_unit="GPa")
    assert gigapascal.stress is not None
    np.testing.assert_allclose(gigapascal.stress, first.stress / GPA, rtol=1e-8)
    assert read(crystals, stress_key="")[0].stress is None
    with pytest.raises(ReadError, match="no stress under the key 'tension'"):
        read(crystals, stress_key="tension")
    with pytest.raises(ReadError, match="virial_key='virials'"):
        read(crystals, stress_key="virials")
    molecule = spring_crystals(1)[0]
    molecule.pbc = (True, True, False)
    write(tmp_path / "slab.xyz", molecule, format="extxyz")
    assert read(tmp_path / "slab.xyz")[0].stress is None


def test_real_stresses_are_read(shared):
    structures = read(shared / "data" / "Li_electrode_val.xyz")
    stresses = [s.stress for s in structures if s.stress is not None]
    assert len(stresses) == len(structures)
    assert np.abs(stresses).max() < 1.0


def test_loss_and_metric_of_stresses():
    cubes = [Labelled(np.array([6]), np.zeros((1, 3)), energy=0.0, index=i) for i in range(2)]
    batch = make_batch(cubes, graphs=3, nodes=4)
    targets = dataclasses.replace(
        batch.targets,
        stress=np.zeros((3, 3, 3), np.float32),
        stress_mask=np.array([True, False, False]),
    )
    batch = dataclasses.replace(batch, targets=targets)
    tasks = (Task(name="a", stress=True, stress_coefficient=5.0, energy_scale=2.0),)
    error = np.zeros((3, 3, 3), np.float32)
    error[0, 0, 0] = -0.9
    zero = np.zeros(3, np.float32)
    errors = Errors(
        energy=zero,
        energy_mask=targets.energy_mask,
        forces=np.zeros((4, 3), np.float32),
        force_mask=targets.force_mask,
        values={},
        dataset=targets.dataset,
        node_dataset=np.zeros(4, np.int32),
        stress=error,
        stress_mask=targets.stress_mask,
    )
    counts = label_counts(batch, tasks, "structure")
    terms = mean_terms(loss_sums(errors, batch, tasks, "structure"), counts)
    assert int(counts.stress) == 1
    assert float(terms.stress) == pytest.approx(5.0 * 0.9 / 9)
    metrics = physical_metrics(error_sums(errors, batch, tasks), tasks)
    assert metrics[f"a/{KEY}"] == pytest.approx(2.0 * 0.9 / 9)


def test_stress_is_learnt_and_reported(crystals, tmp_path):
    config = make_config(
        crystals,
        epochs=40,
        batch_size=5,
        learning_rate=5e-3,
        force_coefficient=1.0,
        stress_coefficient=100.0,
        eval_every=30,
        select_by="stress_mae",
    )
    head = {"kind": "energy_forces", "forces": "conservative", "stress": True}
    config |= {"workflow": "finetune", "head": head}
    config["data"]["train"][0]["graph"] |= {"cutoff": 5.0, "max_neighbors": 14}
    settings = RunSettings.from_config(config)
    results = finetune(settings, Run(tmp_path / "run", settings, console=Console(quiet=True)))
    with np.load(tmp_path / "run" / "predictions" / "chains.npz") as arrays:
        true, predicted = arrays["stress_true"], arrays["stress_predicted"]
    error = np.abs(true - predicted).mean()
    assert results["test"]["chains"][KEY] == pytest.approx(error, rel=1e-3)
    assert error < 0.8 * np.abs(true - true.mean(axis=0)).mean()
    atoms = spring_crystals(1)[0]
    atoms.calc = AtomjaxCalculator(tmp_path / "run")
    stress, step = atoms.get_stress(voigt=False), 2e-3
    energies = []
    for sign in (1, -1):
        bent = atoms.copy()
        bent.calc = atoms.calc
        bent.set_cell(atoms.cell.array @ (np.eye(3) + sign * step * np.eye(3)), scale_atoms=True)
        energies.append(bent.get_potential_energy())
    slope = (energies[0] - energies[1]) / (2 * step)
    assert np.trace(stress) * atoms.get_volume() == pytest.approx(slope, rel=0.03, abs=1e-2)


def test_stress_needs_labels_and_conservative_forces(tmp_path):
    with pytest.raises(ConfigError, match=r"stress=True is the energy's derivative; it needs"):
        build(HeadSettings, {"stress": True})
    crystal = spring_crystals(1)[0]
    crystal.calc = SinglePointCalculator(crystal, energy=0.0, forces=np.zeros((2, 3)))
    write(tmp_path / "none.xyz", [crystal] * 30, format="extxyz")
    config = make_config(tmp_path / "none.xyz")
    head = {"kind": "energy_forces", "forces": "conservative", "stress": True}
    config |= {"workflow": "finetune", "head": head}
    settings = RunSettings.from_config(config)
    with pytest.raises(ConfigError, match=r'14 training structures of dataset "chains" has a str'):
        finetune(settings, Run(tmp_path / "run", settings, console=Console(quiet=True)))
