"""A model in hand: predictions, features and a calculator, from whatever holds structures."""

import contextlib
import copy
import dataclasses
import json
import pickle
import shutil
import sys
import threading
import types
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import h5py
import jax
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.phonons import Phonons

import atomjax
from atomjax.data.given import dataset_entry, structures_of
from atomjax.inference.calculator import SLACK
from atomjax.inference.predict import load_predictor
from atomjax.inference.results import calibration
from atomjax.models import HeadConfig, TargetConfig
from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.structures import ReferencesError, Structure
from atomjax.structures.readers import ReadError, read
from atomjax.structures.store.writing import write_store
from atomjax.training.pretrain import pretrain
from atomjax.training.running.checkpoint import CheckpointError, load_checkpoint
from atomjax.training.running.predictions import Quantities
from atomjax.training.settings import RunSettings
from tests.training.workflow import make_config, write_structures


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write_structures(tmp_path_factory.mktemp("data") / "chains.xyz", count=24)


@pytest.fixture(scope="module")
def model(path) -> atomjax.Model:
    config = make_config(path, epochs=1)
    config["head"] = {"forces": "conservative"}
    # Without a limit of neighbours, energies are smooth.
    config["data"]["train"][0]["graph"] = {"cutoff": 4.0}
    settings = RunSettings.from_config(config)
    pretrain(settings, Run(path.parent / "run", settings))
    return atomjax.load(path.parent / "run")


def frames_of(path: Path, count: int) -> list[Atoms]:
    return list(ase.io.iread(path))[:count]


def test_predictions_are_the_predictors_and_keep_the_labels(model, path):
    structures = read(path, "extxyz", energy_unit="eV")
    results = model.predict(path)
    expected = load_predictor(model.name)(structures)
    energies = np.array([one.energy for one in expected])
    np.testing.assert_allclose(results.energies, energies, rtol=1e-6)
    np.testing.assert_array_equal(results.labels.energies, [one.energy for one in structures])
    for given, one, label in zip(results.forces, expected, structures, strict=True):
        assert given.shape == (len(label), 3)
        np.testing.assert_allclose(given, np.array(one.forces), atol=1e-5)
    assert results.values is None
    assert results.stresses is None
    assert list(results.identifiers) == [one.identifier for one in structures]


def test_every_source_gives_the_same(model, path, tmp_path):
    structures = read(path, "extxyz", energy_unit="eV")[:5]
    frames = frames_of(path, 5)
    ase.io.write(tmp_path / "five.extxyz", frames)
    write_store(tmp_path / "store", structures)
    expected = model.predict(structures)
    sources = (frames, tmp_path / "five.extxyz", str(tmp_path / "store"), iter(structures))
    for source in (*sources, [*frames[:2], *structures[2:]]):
        found = model.predict(source)
        np.testing.assert_allclose(found.energies, expected.energies, rtol=1e-6)
        np.testing.assert_array_equal(found.labels.energies, expected.labels.energies)
    assert model.predict(frames[0]).energies.shape == (1,)
    assert model.predict([path, path]).energies.shape == (48,)


def test_units_and_keys_are_those_of_configs(path):
    frames = frames_of(path, 2)
    for atoms in frames:
        atoms.info["REF"] = atoms.get_potential_energy()
        atoms.calc = None
    (one, two) = structures_of(frames, energy_key="REF", energy_unit="Ha", length_unit="bohr")
    assert one.energy == pytest.approx(frames[0].info["REF"] * units.Hartree, rel=1e-6)
    np.testing.assert_allclose(two.positions, frames[1].positions * units.Bohr, rtol=1e-6)
    with pytest.raises(ReadError, match=r"atoms:0: no energy under the key 'E'"):
        structures_of(frames, energy_key="E")
    with pytest.raises(ReadError, match="no option 'energy_kee'; did you mean 'energy_key'"):
        structures_of(frames, energy_kee="REF")
    with pytest.raises(ReadError, match="no option 'energy_kee'; did you mean 'energy_key'"):
        structures_of(path, energy_kee="REF")
    with pytest.raises(ConfigError, match=r"'nowhere\.xyz' is not a file"):
        structures_of("nowhere.xyz")
    with pytest.raises(TypeError, match="not as int"):
        structures_of(3)
    with pytest.raises(ValueError, match="the list is empty"):
        structures_of([])


def test_units_that_a_file_states_need_not_be_said_again(tmp_path):
    atoms = Atoms("H2", [[0.0, 0, 0], [0, 0, 0.74]])
    atoms.calc = SinglePointCalculator(atoms, energy=-10.0)
    opened: Any = ase.db.connect(tmp_path / "a.db")
    with opened as database:
        database.write(atoms)
        database.metadata = {"_property_unit_dict": {"energy": "kcal/mol"}}
    atoms.info["energy_unit"] = "kcal/mol"
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    for name in ("a.db", "a.xyz"):
        expected = -10.0 * units.kcal / units.mol
        assert structures_of(tmp_path / name)[0].energy == pytest.approx(expected, rel=1e-6)
        with pytest.raises(ReadError, match="states energy_unit='kcal/mol', but"):
            structures_of(tmp_path / name, energy_unit="Ha")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["m/species"] = np.array([b"H", b"H"])
        file["m/coordinates"] = np.stack([atoms.positions, 1.1 * atoms.positions])
        file["m/energies"] = np.array([-1.1, -1.0])
    # The reader of such files takes Hartree where they do not say.
    (first, _) = structures_of(tmp_path / "a.h5")
    assert first.energy == read(tmp_path / "a.h5")[0].energy == pytest.approx(-1.1 * units.Hartree)


def test_outdated_labels_are_no_labels(path):
    (atoms,) = frames_of(path, 1)
    assert structures_of(atoms)[0].energy is not None
    atoms.rattle(0.01)
    with pytest.raises(ReadError, match="results are those of other positions"):
        structures_of(atoms)
    (moved,) = structures_of(atoms, outdated="drop")
    assert (moved.energy, moved.forces) == (None, None)
    np.testing.assert_array_equal(moved.positions, atoms.positions)


def test_errors_are_those_of_the_labels():
    numbers = [np.array([1, 1]), np.array([6])]
    labels = Quantities(
        energies=np.array([1.0, np.nan]),
        forces=[np.array([[0.0, 0, 1], [0, 0, -1]]), np.array([[3.0, 4, 0]])],
        stresses=None,
    )
    results = atomjax.Predictions(
        energies=np.array([1.01, 7.0]),
        forces=[np.array([[0.0, 0, 1.02], [0, 0, -1]]), np.array([[-4.0, 3, 0]])],
        stresses=None,
        identifiers=np.array(["a", "b"]),
        atomic_numbers=numbers,
        fixed=[np.zeros(2, bool), np.zeros(1, bool)],
        classes=["H2", "C"],
        marks=[frozenset()] * 2,
        labels=labels,
    )
    errors = results.errors()
    assert errors["energy_mae_mev"] == pytest.approx(10)
    assert errors["energy_rmse_mev_per_atom"] == pytest.approx(5)
    assert errors["force_mae_mev_per_angstrom"] == pytest.approx(1e3 * (0.02 + 7 + 1) / 9)
    assert errors["force_cosine"] == pytest.approx((1 + 1 + 0) / 3)
    # The second structure has no energy to judge.
    assert errors["within_threshold"] == 1.0
    by_element = results.errors_by_element()
    assert list(by_element) == ["H", "C"]
    assert by_element["H"]["force_mae_mev_per_angstrom"] == pytest.approx(1e3 * 0.02 / 6)
    assert by_element["C"]["force_rmse_mev_per_angstrom"] == pytest.approx(1e3 * np.sqrt(50 / 3))
    assert [one["atoms"] for one in by_element.values()] == [2, 1]
    by_class = results.errors_by_class()
    assert by_class["H2"]["energy_mae_mev"] == pytest.approx(10)
    assert "energy_mae_mev" not in by_class["C"]
    assert by_class["C"]["force_mae_mev_per_angstrom"] == pytest.approx(1e3 * 8 / 3)
    by_formula = results.errors_by_formula({"atoms": {"C", "H"}})["atoms"]
    assert by_formula["seen"] == {**by_class["C"], "structures": 1}
    assert by_formula["unseen"] == by_class["H2"]
    several = results.errors_by_formula({"atoms": {"C"}, "molecules": "H2", "none": []})
    assert several["none"]["seen"] == several["any of them"]["unseen"] == {"structures": 0}
    assert several["any of them"]["seen"] == {**errors, "structures": 2}
    assert results.take([1]).identifiers.tolist() == ["b"]
    fixed = [np.zeros(2, bool), np.ones(1, bool)]
    held = dataclasses.replace(results, fixed=fixed, energies=np.array([1.03, 7.0])).errors()
    assert held["force_rmse_mev_per_angstrom"] == pytest.approx(1e3 * 0.02 / np.sqrt(6))
    assert held["within_threshold"] == 0.0


def test_an_ensemble_gives_means_and_standard_deviations(model, path, tmp_path):
    weights, metadata = load_checkpoint(model.name, "best")
    weights = jax.tree.map(lambda x: 1.05 * np.asarray(x), weights)
    other = atomjax.Model(weights, metadata, "other")
    both = [one.predict(path) for one in (model, other)]
    ensemble = atomjax.Ensemble([model, other])
    results = ensemble.predict(path)
    assert results.deviations is not None
    assert results.deviations.energies is not None
    assert results.energies is not None
    energies = np.array([one.energies for one in both])
    np.testing.assert_allclose(results.energies, energies.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(results.deviations.energies, energies.std(axis=0, ddof=1), rtol=1e-4)
    forces = np.array([one.forces[3] for one in both])
    np.testing.assert_allclose(results.forces[3], forces.mean(axis=0), atol=1e-6)
    expected = forces.std(axis=0, ddof=1)
    np.testing.assert_allclose(results.deviations.forces[3], expected, atol=1e-5)
    columns = results.columns()
    longest = np.linalg.norm(results.deviations.forces[3], axis=1).max()
    assert columns["force_deviation_max"][3] == pytest.approx(longest)
    assert columns["energy_deviation"].shape == (24,)
    assert results.arrays()["forces_deviation"].shape == results.arrays()["forces_true"].shape
    assert len(results.plot_calibration(tmp_path / "calibration.png").axes) == 2
    with pytest.raises(ValueError, match="needs an ensemble"):
        both[0].plot_calibration()
    (atoms,) = frames_of(path, 1)
    atoms.calc = copy.deepcopy(ensemble.calculator())
    assert atoms.get_potential_energy() == pytest.approx(results.energies[0], rel=1e-6)
    found = atoms.calc.results["forces_deviation"]
    np.testing.assert_allclose(found, results.deviations.forces[0], atol=1e-5)
    same = atomjax.load([model.name, model.name]).predict(path)
    np.testing.assert_array_equal(same.deviations.energies, 0)
    with pytest.raises(ValueError, match="at least two models; got 1"):
        atomjax.load([model.name])


def test_models_of_an_ensemble_predict_the_same(model):
    head = HeadConfig(name=model.datasets[0], kind="scalar", targets=(TargetConfig(name="gap"),))
    metadata = {**model.metadata, "heads": [dataclasses.asdict(head)]}
    other = atomjax.Model(model._variables, metadata, "other")
    with pytest.raises(ValueError, match=r"energy_forces and scalar gap"):
        atomjax.Ensemble([model, other]).calculator()


def test_calibration_compares_root_mean_squares():
    rng = np.random.default_rng(0)
    deviations = rng.uniform(0.1, 1, 20_000)
    errors = rng.normal(size=deviations.shape) * deviations
    errors[::100] = np.nan
    predicted, found = calibration(errors, deviations)
    assert predicted.shape == (10,)
    assert (np.diff(predicted) > 0).all()
    np.testing.assert_allclose(found, predicted, rtol=0.1)
    np.testing.assert_allclose(calibration(2 * errors, deviations)[1], 2 * found)
    assert [len(x) for x in calibration(errors[1:4], deviations[1:4])] == [3, 3]


def test_tables_and_figures(model, path, tmp_path, monkeypatch):
    results = model.predict(path)
    columns = results.columns()
    assert {"identifier", "formula", "energy", "energy_true", "force_mae"} <= set(columns)
    assert {len(column) for column in columns.values()} == {24}
    error = np.abs(results.forces[3] - results.labels.forces[3]).mean()
    assert columns["force_mae"][3] == pytest.approx(error)
    atoms = results.columns("atom")
    assert {len(column) for column in atoms.values()} == {int(results.n_atoms.sum())}
    with pytest.raises(ValueError, match="write 'structure' or 'atom'"):
        results.columns("bond")
    figure = results.plot(tmp_path / "parity.png")
    assert [ax.get_title().partition(":")[0] for ax in figure.axes] == [
        "energy per atom",
        "force component",
    ]
    assert (tmp_path / "parity.png").stat().st_size > 1000
    unlabelled = model.predict([Atoms("CO", [[0, 0, 0], [0, 0, 1.1]])])
    assert unlabelled.labels.energies is None
    assert len(unlabelled.plot().axes) == 2
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        results.to_dataframe()
    pandas = types.SimpleNamespace(DataFrame=lambda columns: columns)
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    assert results.to_dataframe().keys() == columns.keys()
    assert model.features(path).to_dataframe()["feature_0"].shape == (24,)


def test_features_are_inputs_of_the_heads(model, path, tmp_path):
    features = model.features(path)
    same = atomjax.features(path, model.name)
    np.testing.assert_allclose(features.structures, same.structures, atol=1e-5)
    assert [len(rows) for rows in features.atoms] == model.predict(path).n_atoms.tolist()
    assert features.plot(tmp_path / "map.png").axes[0].get_xlabel().startswith("first principal")
    with pytest.raises(ValueError, match="at least three"):
        model.features(frames_of(path, 2)).plot()


def test_a_backbone_alone_has_features_and_no_predictions(model, path):
    metadata = {**model.metadata, "datasets": {}}
    alone = atomjax.Model(model._variables, metadata, "converted")
    assert alone.features(path).structures.shape[0] == 24
    with pytest.raises(CheckpointError, match="converted: the checkpoint does not say"):
        alone.predict(path)
    headless = atomjax.Model(model._variables, {**metadata, "heads": []}, "backbone")
    with pytest.raises(CheckpointError, match="backbone: the checkpoint has no head"):
        headless.calculator()
    assert "heads none" in repr(headless)


def test_of_several_seeds_the_best_is_loaded(model, tmp_path):
    for seed, value in enumerate((2.0, 1.0, 3.0)):
        run = tmp_path / f"seed_{seed}"
        shutil.copytree(model.name, run)
        (step,) = (run / "checkpoints" / "best").glob("[0-9]*")
        (step / "checksums.json").unlink()
        file = step / "metadata" / "metadata"
        metadata = json.loads(file.read_text())
        metadata |= {"seed": seed, "record": metadata["record"] | {"best_value": value}}
        file.write_text(json.dumps(metadata))
    assert atomjax.load(tmp_path).metadata["seed"] == 1
    with pytest.raises(CheckpointError, match="several seeds; give one of them"):
        atomjax.load(tmp_path, "latest")
    with pytest.raises(CheckpointError, match="no subdirectory 'best'"):
        atomjax.load(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="Did you mean 'atomjax-molecules'"):
        atomjax.load("atomjax-molecule")


def test_it_says_what_it_is(model):
    assert model.datasets == ("chains",)
    assert model.elements == ("H", "C", "O")
    assert "gemnet_oc_tiny" in repr(model)
    assert "chains: energy_forces" in repr(model)


def test_energy_is_conserved_in_dynamics_and_falls_in_relaxation(model, path):
    atoms = frames_of(path, 4)[3]
    atoms.calc = model.calculator()
    start = atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(fmax=1e-6, steps=5)
    assert atoms.get_potential_energy() < start - 1e-3
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))

    def errors(timestep: float, steps: int) -> tuple[float, float]:
        """Largest deviation of the total energy, and range of the potential energy, eV."""
        moving = atoms.copy()
        moving.calc = atoms.calc
        dynamics = VelocityVerlet(moving, timestep=timestep * units.fs)
        total, potential = [moving.get_total_energy()], [moving.get_potential_energy()]
        for _ in range(steps):
            dynamics.run(1)
            total.append(moving.get_total_energy())
            potential.append(moving.get_potential_energy())
        return float(np.abs(np.array(total) - total[0]).max()), float(np.ptp(potential))

    (coarse, _), (fine, exchanged) = errors(1.0, 30), errors(0.25, 120)
    # The integrator errs by the square of the step, down to rounding in float32.
    assert fine < max(coarse / 8, 3e-5)
    assert exchanged > 50 * fine
    assert model.predictor(batch_size=1, slack=SLACK).num_compilations <= 2


def test_simulations_together_are_those_of_each_alone(model, path):
    frames = frames_of(path, 6)
    frames[1].set_velocities(np.full((len(frames[1]), 3), 0.01))

    def relax(atoms: Atoms) -> None:
        BFGS(atoms, logfile=None).run(fmax=1e-6, steps=int(atoms.info["steps"]))

    for index, atoms in enumerate(frames):
        # Some end earlier, and others begin.
        atoms.info["steps"] = 2 + index % 3
    batches = model.predictor(batch_size=4, slack=SLACK)
    together = model.simulate(frames, relax, at_once=4)
    assert batches.num_compilations == 1
    for given, found in zip(frames, together, strict=True):
        alone = given.copy()
        alone.calc = model.calculator()
        relax(alone)
        np.testing.assert_allclose(found.positions, alone.positions, atol=1e-5)
        assert np.abs(found.positions - given.positions).max() > 1e-3
        assert found.get_potential_energy() == pytest.approx(alone.get_potential_energy(), abs=1e-4)
        np.testing.assert_allclose(found.get_forces(), alone.get_forces(), atol=1e-3)
        np.testing.assert_array_equal(found.get_velocities(), given.get_velocities())
    # From a file, and from what holds the same atoms.
    assert len(model.simulate(path, lambda atoms: atoms.get_forces(), at_once=4)) == 24
    for source in (iter(frames[:2]), tuple(frames[:2])):
        _, kept = model.simulate(source, lambda atoms: atoms.get_forces(), at_once=4)
        np.testing.assert_array_equal(kept.get_velocities(), frames[1].get_velocities())
        assert kept.info["steps"] == 3
    # Copies of a calculator ask as it does, and deviations of an ensemble stay.
    both = atomjax.Ensemble([model, model])
    (kept,) = both.simulate(frames[0], lambda atoms: copy.deepcopy(atoms).get_forces())
    assert kept.calc is None
    (kept,) = both.simulate(frames[0], lambda atoms: atoms.get_forces())
    np.testing.assert_array_equal(kept.calc.results["forces_deviation"], 0)


def test_a_failing_simulation_ends_the_others(model, path):
    frames = frames_of(path, 6)
    after: list[int] = []

    def run(atoms: Atoms) -> None:
        for step in range(1000):
            if atoms.info["index"] == 2 and step == 1:
                raise ZeroDivisionError("no more")
            # One that goes on after errors is ended, too.
            with contextlib.suppress(Exception):
                atoms.get_forces()
                atoms.positions[0] += 1e-3
        after.append(1)

    for index, atoms in enumerate(frames):
        atoms.info["index"] = index
    with pytest.raises(ZeroDivisionError, match="no more") as caught:
        model.simulate(frames, run, at_once=4)
    assert "structure 2, " in caught.value.__notes__[0]
    assert after == []
    unknown = Atoms("Xe")
    with pytest.raises(ReferencesError, match="Xe"):
        model.simulate([*frames, unknown], lambda atoms: atoms.get_forces(), at_once=4)
    for wrong in (0, 2.5, "4"):
        with pytest.raises(ValueError, match=f"at_once={wrong!r}"):
            model.simulate(frames, run, at_once=wrong)
    with pytest.raises(ValueError, match="the list is empty"):
        model.simulate([], run)
    with pytest.raises(ValueError, match="length_unit is for files"):
        model.simulate(frames, run, length_unit="bohr")
    with pytest.raises(ValueError, match="asked for no energies"):
        model.simulate(frames, lambda atoms: None)
    with pytest.raises(TypeError, match="generator"):
        model.simulate(frames, lambda atoms: (atoms.get_forces() for _ in range(3)))
    with pytest.raises(TypeError, match="cannot be pickled"):
        model.simulate(frames, lambda atoms: pickle.dumps(atoms.calc))


def test_simulations_that_cannot_begin_do_not_wait_for_ever(model, path, monkeypatch):
    started, start = [], threading.Thread.start

    def start_three(thread: threading.Thread) -> None:
        if thread.name.startswith("simulation"):
            started.append(thread)
            if len(started) > 3:
                raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_three)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        model.simulate(frames_of(path, 6), lambda atoms: atoms.get_forces(), at_once=6)
    assert not any(thread.is_alive() for thread in started)


@pytest.mark.slow
def test_phonons_of_copper(tmp_path):
    calculator = atomjax.load("atomjax-crystals").calculator()
    copper = bulk("Cu", a=3.48)
    phonons = Phonons(copper, calculator, supercell=(3, 3, 3), name=str(tmp_path / "phonons"))
    phonons.run()
    phonons.read(acoustic=True)
    points = [[0, 0, 0], [0.5, 0, 0.5]]
    frequencies = np.asarray(phonons.band_structure(points)) / units.invcm * 0.0299792458  # THz
    at_rest, at_the_edge = frequencies
    np.testing.assert_allclose(at_rest, 0, atol=1e-3)
    assert 3 < at_the_edge.min() < at_the_edge.max() < 9


def test_structures_with_other_names_are_kept_in_another_file(tmp_path):
    one = Structure(atomic_numbers=[1], positions=np.zeros((1, 3)), targets={"gap": 1.0})
    others = [
        dataclasses.replace(one, targets={"lumo": 1.0}),
        dataclasses.replace(one, class_key="a"),
    ]
    paths = {dataset_entry("set", [given], tmp_path)["path"] for given in (one, *others)}
    assert len(paths) == 3
    assert dataset_entry("set", [one], tmp_path)["path"] in paths


def test_a_store_knows_its_classes(tmp_path):
    held = Structure(atomic_numbers=[1], positions=np.zeros((1, 3)), targets={"phase": "gas"})
    write_store(tmp_path / "store", [held])
    (found,) = structures_of([tmp_path / "store"], classes=["phase"])
    assert found.targets == {"phase": "gas"}


def test_options_of_files_atoms_and_data_sets_are_told_apart(path):
    first, second = frames_of(path, 2)
    mixed = structures_of([first, str(path), second], format="extxyz")
    names = [one.identifier for one in mixed]
    assert (names[0], names[-1]) == ("atoms:0", "atoms:1")
    assert len(set(names)) == 26
    for option in ({"max_structures": 3}, {"split": {"test": 3}}, {"graph": {"cutoff": 3.0}}):
        with pytest.raises(ConfigError, match="data sets to train on"):
            structures_of(path, **option)
    entry = dataset_entry("one", path, path.parent, split="test")
    assert entry["arguments"] == {"split": "test"}


def test_places_are_chosen_as_numpy_does(model, path):
    found = model.predict(path)
    even = np.arange(len(found)) % 2 == 0
    for places in (even, slice(None, None, 2), np.flatnonzero(even).tolist()):
        taken = found.take(places)
        assert list(taken.identifiers) == list(found.identifiers)[::2]
        assert len(taken.forces) == len(taken.marks) == len(taken)
    nothing = found.take([])
    assert len(nothing) == 0
    assert len(nothing._of_atoms()["atom"]) == 0


def test_structures_are_taken_as_they_are():
    atom = Structure(atomic_numbers=[1], positions=np.zeros((1, 3)), identifier="H")
    assert structures_of(atom) == [atom]
