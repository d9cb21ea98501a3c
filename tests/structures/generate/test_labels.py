"""Labels: forces are the negative gradient, properties are right, failures are refused."""

import importlib

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from atomjax.structures.generate import oxides, slabs
from atomjax.structures.generate.errors import GenerateError, LabelError
from atomjax.structures.generate.labels import (
    EmtLabeler,
    Label,
    Labeler,
    XtbLabeler,
    check_finite,
    check_force,
    electronic_properties,
)
from atomjax.structures.generate.surfaces import place_above

UP = np.array([0.0, 0.0, 1.0])


def assert_forces_match_energies(
    labeler: Labeler, positions: np.ndarray, entries: list[tuple[int, int]], step: float
) -> None:
    """Central differences of the energy against the forces, eV/Å."""
    forces = labeler.label(positions).forces
    for atom, axis in entries:
        energies = []
        for sign in (1, -1):
            moved = positions.copy()
            moved[atom, axis] += sign * step
            energies.append(labeler.label(moved).energy)
        slope = -(energies[0] - energies[1]) / (2 * step)
        assert slope == pytest.approx(forces[atom, axis], abs=2e-3, rel=1e-3), (atom, axis)
    assert np.abs(forces).max() > 0.1


def test_gfn2_forces_of_a_shaken_molecule():
    ethanol = molecule("CH3CH2OH")
    positions = ethanol.positions + np.random.default_rng(0).normal(0, 0.08, (9, 3))
    labeler = XtbLabeler("GFN2-xTB", ethanol.numbers)
    entries = [(atom, axis) for atom in range(9) for axis in range(3)]
    assert_forces_match_energies(labeler, positions, entries, 2e-3)


@pytest.mark.parametrize("periodic_normal", [True, False])
def test_emt_forces_of_a_slab_with_an_adsorbate(periodic_normal):
    rng = np.random.default_rng(1)
    options = slabs.Options(size=(2, 2, 3), fixed_layers=1, periodic_normal=periodic_normal)
    clean = slabs.make_slab("Cu", "Au", "111", options, rng)
    atoms = place_above(clean, "CO", clean.positions[-1], UP, rng)
    atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    entries = [(0, 0), (5, 2), (11, 1), (12, 2), (13, 0), (13, 2)]
    assert_forces_match_energies(EmtLabeler(atoms), atoms.positions, entries, 1e-3)


def test_gfn1_forces_of_an_oxide_cluster():
    rng = np.random.default_rng(4)
    atoms = place_above(oxides.cut_cluster("MgO", 3, rng), "H2O", np.zeros(3), UP, rng)
    positions = atoms.positions + rng.normal(0, 0.08, atoms.positions.shape)
    labeler = XtbLabeler("GFN1-xTB", atoms.numbers)
    assert_forces_match_energies(labeler, positions, [(0, 0), (3, 1), (6, 2), (8, 0)], 2e-3)


def test_gfn1_forces_of_a_periodic_oxide():
    atoms = oxides.make_slab("ZnO", 1)
    positions = atoms.positions + np.random.default_rng(3).normal(0, 0.08, (len(atoms), 3))
    labeler = XtbLabeler("GFN1-xTB", atoms.numbers, atoms.cell.array)
    assert_forces_match_energies(labeler, positions, [(0, 0), (3, 2)], 2e-3)
    across = positions + 0.25 * atoms.cell.array[0]
    assert labeler.label(across).energy == pytest.approx(labeler.label(positions).energy, abs=1e-4)


def test_slab_labels_ignore_constraints():
    options = slabs.Options(size=(2, 2, 2), fixed_layers=1)
    atoms = slabs.make_slab("Ni", "", "100", options, np.random.default_rng(0))
    atoms.rattle(0.1, seed=1)
    assert np.linalg.norm(EmtLabeler(atoms).label(atoms.positions).forces, axis=1).min() > 0.01


def test_electronic_properties():
    water = XtbLabeler("GFN2-xTB", np.array([8, 1, 1]))
    found = electronic_properties(water.solve(molecule("H2O").positions))
    # GFN2-xTB gives water 2.2 to 2.3 D, and a gap above 14 eV.
    assert found["dipole"] == pytest.approx(2.25, abs=0.15)
    assert found["gap"] == pytest.approx(found["lumo"] - found["homo"])
    assert 13.0 < found["gap"] < 16.0
    benzene = XtbLabeler("GFN2-xTB", molecule("C6H6").numbers)
    flat = electronic_properties(benzene.solve(molecule("C6H6").positions))
    assert flat["dipole"] == pytest.approx(0.0, abs=0.05)
    assert flat["gap"] < found["gap"]


def test_dipole_is_the_response_to_a_shift_of_nothing():
    """A neutral molecule's dipole moment does not depend on the origin."""
    atoms = molecule("CH3OH")
    labeler = XtbLabeler("GFN2-xTB", atoms.numbers)
    here = electronic_properties(labeler.solve(atoms.positions))["dipole"]
    there = electronic_properties(labeler.solve(atoms.positions + np.array([5.0, -2.0, 1.0])))[
        "dipole"
    ]
    assert here == pytest.approx(there, abs=1e-3)


def test_a_field_that_does_not_converge_is_refused_and_forgotten():
    atoms = molecule("CH3CH2OH")
    labeler = XtbLabeler("GFN2-xTB", atoms.numbers)
    good = labeler.label(atoms.positions)
    labeler._calculator.set("max-iter", 1)
    with pytest.raises(LabelError, match="did not converge"):
        labeler.label(atoms.positions + 0.1)
    assert labeler.label(atoms.positions).energy == pytest.approx(good.energy, abs=1e-4)


def test_limits():
    with pytest.raises(LabelError, match="not finite"):
        check_finite(Label(1.0, np.array([[0.0, np.nan, 0.0]])))
    with pytest.raises(LabelError, match="not finite"):
        check_finite(Label(float("inf"), np.zeros((1, 3))))
    label = Label(0.0, np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]]))
    assert check_force(label, 5.1) is label
    with pytest.raises(LabelError, match="force above the limit"):
        check_force(label, 4.9)


def test_a_missing_package_names_the_extra(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(GenerateError, match=r"tblite.*pip install 'atomjax\[demo\]'"):
        XtbLabeler("GFN2-xTB", np.array([1]))


def test_place_above_touches_but_does_not_overlap():
    rng = np.random.default_rng(2)
    surface = Atoms("Cu", positions=[[0, 0, 0]], cell=[2.5, 2.5, 12], pbc=True)
    atoms = place_above(surface, "H2O", np.zeros(3), UP, rng)
    assert atoms.get_tags().tolist() == [0, 2, 2, 2]
    lengths = atoms.get_distances(0, [1, 2, 3], mic=True)
    assert 1.3 < lengths.min() < 3.0
