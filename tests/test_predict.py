"""Predictions from a checkpoint alone, in eV and eV/Å; the ASE calculator on top of it."""

import copy
import csv
import json
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import write
from rich.console import Console

from atomjax.inference.calculator import AtomjaxCalculator, OutsideTrainingWarning
from atomjax.inference.difficulty import errors_of
from atomjax.inference.ensemble import EnsemblePredictor
from atomjax.inference.predict import (
    OUTSIDE_SPAN,
    PERIODICITY,
    RELATIVE_ENERGY,
    Predictor,
    load_predictor,
    make_predictor,
)
from atomjax.launch import main
from atomjax.runtime.run import Run
from atomjax.structures import ReferencesError, Structure
from atomjax.structures.readers import read
from atomjax.structures.store import Store
from atomjax.training.pretrain import pretrain
from atomjax.training.running.checkpoint import CheckpointError, load_checkpoint
from atomjax.training.settings import RunSettings
from tests.structures.readers.checks import forces_of
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


def test_a_head_is_predicted_alone(trained, predictor):
    """Of two conservative heads one is differentiated, and members of an ensemble compile once."""
    run, structures = trained
    variables, metadata = load_checkpoint(run)
    (name,) = predictor.heads
    (head,), (facts,) = metadata["heads"], metadata["datasets"].values()
    two = {**metadata, "heads": [head, {**head, "name": "other"}]}
    two["datasets"] = {name: facts, "other": facts}
    two["graphs"] = dict.fromkeys(two["datasets"], metadata["graphs"][name])
    both = {**variables["params"], "head_other": variables["params"][f"head_{name}"]}
    # Those of a head that nobody asks for do not matter.
    both["head_other"] = jax.tree.map(lambda x: np.full_like(x, np.nan), both["head_other"])
    made = [make_predictor({**variables, "params": both}, two, "two") for _ in range(2)]
    expected = predictor(structures[:3])
    for found, wanted in zip(made[0](structures[:3], name), expected, strict=True):
        assert found.forces is not None
        assert wanted.forces is not None
        np.testing.assert_allclose(found.forces, wanted.forces, atol=1e-5)
    ensemble = EnsemblePredictor(made)
    before = made[0].num_compilations
    ensemble(structures[:3], name)
    assert made[1].num_compilations == before == 1


def test_the_order_and_the_batch_do_not_matter(trained, predictor):
    _, structures = trained
    together = predictor(structures[:7])
    assert predictor([]) == []
    for structure, result in zip(structures[:7], together, strict=True):
        (alone,) = predictor([structure], "chains")
        assert result.forces.shape == (len(structure), 3)
        assert alone.energy == pytest.approx(result.energy, rel=1e-6)
        np.testing.assert_allclose(alone.forces, result.forces, atol=1e-5)


def test_what_it_cannot_predict_is_refused(predictor, tmp_path, monkeypatch):
    gold = Structure(atomic_numbers=[79], positions=[[0.0, 0.0, 0.0]])
    with pytest.raises(ReferencesError, match="no reference for Au"):
        predictor([gold])
    # Whatever the references say, as those of converted checkpoints, which have all elements.
    monkeypatch.setattr(predictor, "_last_element", 78)
    with pytest.raises(ReferencesError, match=r"has Au, and the elements .* end with Pt, Z = 78"):
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
    assert isinstance(predictor, Predictor)
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


def test_what_was_trained_is_in_the_checkpoint(predictor):
    known = predictor.heads["chains"].trained_on
    counts = {name: known[name] for name in ("structures", "energy", "forces", "stress")}
    assert counts == {"structures": 8, "energy": 8, "forces": 8, "stress": 0}
    assert (known["periodic"], known["elements"]) == (0, ["H", "C", "O"])


def test_a_head_predicts_only_what_it_was_trained_on(trained, predictor, monkeypatch):
    structure, head = trained[1][0], predictor.heads["chains"]
    assert predictor([structure])[0].marks == frozenset()
    forces_alone = replace(head, trained_on={**head.trained_on, "energy": 0})
    monkeypatch.setitem(predictor.heads, "chains", forces_alone)
    (result,) = predictor([structure])
    assert result.marks == {RELATIVE_ENERGY}
    assert result.energy is not None
    direct = replace(forces_alone, config=replace(head.config, forces="direct"))
    monkeypatch.setitem(predictor.heads, "chains", direct)
    (result,) = predictor([structure])
    assert (result.energy, result.marks) == (None, frozenset())
    assert result.forces is not None
    atoms = Atoms(structure.atomic_numbers, structure.positions, calculator=None)
    atoms.calc = AtomjaxCalculator(predictor)
    with pytest.raises(PropertyNotImplementedError, match="predicts no energy"):
        atoms.get_potential_energy()


def test_a_composition_outside_the_span_is_refused_or_marked(trained, predictor, monkeypatch):
    structure, head = trained[1][0], predictor.heads["chains"]
    assert head.references is not None
    open_direction = np.zeros((1, 119))
    open_direction[0, [1, 6, 8]] = 1.0
    references = replace(head.references, undetermined=open_direction)
    monkeypatch.setitem(predictor.heads, "chains", replace(head, references=references))
    with pytest.raises(ReferencesError, match=r'do not tell H, C and O apart.*outside_span="mark"'):
        predictor([structure])
    monkeypatch.setattr(predictor, "_outside_span", "mark")
    assert predictor([structure])[0].marks == {OUTSIDE_SPAN}


def test_the_calculator_says_what_is_unlike_its_training(trained, predictor):
    structure = trained[1][0]
    atoms = Atoms(structure.atomic_numbers, structure.positions, cell=[20] * 3, pbc=True)
    assert predictor([replace_pbc(structure)])[0].marks == {PERIODICITY}
    atoms.info["total_charge"] = 1
    atoms.set_initial_magnetic_moments(np.ones(len(atoms)))
    atoms.calc = AtomjaxCalculator(predictor)
    with pytest.warns(OutsideTrainingWarning) as caught:
        atoms.get_potential_energy()
    texts = sorted(str(warning.message) for warning in caught)
    assert [text.partition(",")[0] for text in texts] == [
        "the atoms have a charge",
        "the atoms have a spin",
        "the model was trained on periodic structures alone",
    ]
    atoms.rattle(0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.get_potential_energy()


def replace_pbc(structure: Structure) -> Structure:
    return Structure(
        atomic_numbers=structure.atomic_numbers,
        positions=structure.positions,
        cell=20 * np.eye(3),
        pbc=True,
    )


def test_whatever_the_calculator_reads_invalidates_its_results(trained, predictor):
    structure = trained[1][0]
    atoms = Atoms(structure.atomic_numbers, structure.positions)
    atoms.set_tags(2)
    calculator = atoms.calc = AtomjaxCalculator(predictor, use_tags=True)
    atoms.get_potential_energy()
    assert not calculator.calculation_required(atoms, ["energy"])
    atoms.set_tags([0] + [2] * (len(atoms) - 1))
    assert calculator.calculation_required(atoms, ["energy"])
    atoms.get_potential_energy()
    assert not calculator.calculation_required(atoms, ["energy"])
    calculator.use_tags = False
    assert calculator.calculation_required(atoms, ["energy"])
    atoms.get_potential_energy()
    atoms.set_tags(1)
    assert not calculator.calculation_required(atoms, ["energy"])
    calculator.dataset = "chains"
    assert calculator.calculation_required(atoms, ["energy"])


def test_calculators_are_pickled_and_copied(trained, predictor):
    structure = trained[1][0]
    atoms = Atoms(structure.atomic_numbers, structure.positions)
    calculator = AtomjaxCalculator(predictor, "chains", use_tags=False)
    expected = calculator.get_potential_energy(atoms)
    sent = pickle.loads(pickle.dumps(calculator))  # noqa: S301 - our own bytes
    assert sent.dataset == "chains"
    assert sent.results["energy"] == expected
    atoms.positions[0, 0] += 0.1
    moved = sent.get_potential_energy(atoms)
    assert moved == pytest.approx(calculator.get_potential_energy(atoms), rel=1e-6)
    copied = copy.deepcopy(calculator).predictor
    assert isinstance(copied, Predictor)
    assert copied.heads.keys() == predictor.heads.keys()


def test_errors_behind_a_choice_are_those_of_the_predictions(trained, tmp_path):
    run, structures = trained
    predictor = load_predictor(run, outside_span="mark")
    quiet = Run(tmp_path, console=Console(quiet=True))
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


def test_choice_by_difficulty_is_a_store(trained, tmp_path, capfd):
    run, file = trained[0], trained[0].parent / "chains.xyz"
    own = Path(__file__).parents[1] / "configs/csi/difficulty.py"
    path = f"{own}:{file},checkpoint={run},size=6,choose=high"
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
    bare = [Atoms(s.atomic_numbers, s.positions) for s in trained[1]]
    write(tmp_path / "bare.xyz", bare)
    path = f"{own}:{tmp_path / 'bare.xyz'},checkpoint={run},size=6,choose=variance"
    assert main([f"--config={path}", f"--workdir={tmp_path / 'least'}"]) == 0
    assert len(Store(tmp_path / "least" / "selected")) == 6
    assert main([f"--config={path}", "--validate", "--config.head=other"]) == 2
    assert "chains" in capfd.readouterr().err
    assert main([f"--config={own}:{file}", "--validate"]) == 2
    assert "takes one file, a checkpoint" in capfd.readouterr().err
