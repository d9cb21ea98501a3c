"""Geometry: springs, relaxation, alignment, paths."""

import numpy as np
import pytest
from ase.build import molecule

from atomjax.structures.generate.errors import LabelError
from atomjax.structures.generate.geometry import (
    Restraint,
    ThermalMotion,
    align,
    bonds,
    check_clashes,
    distances,
    interpolate_pairs,
    random_rotation,
    relax,
    spring_hessian,
)
from atomjax.structures.generate.labels import XtbLabeler
from atomjax.structures.units import BOLTZMANN


@pytest.fixture
def ethanol():
    atoms = molecule("CH3CH2OH")
    return atoms.numbers, atoms.positions


def test_bonds_by_distance(ethanol):
    found = bonds(*ethanol)
    assert len(found) == 8
    assert all(i < j for i, j in found)


def test_springs_resist_everything_but_rigid_motion(ethanol):
    values = np.linalg.eigvalsh(spring_hessian(*ethanol))
    assert np.abs(values[:6]).max() < 1e-9
    assert values[6] > 1e-3


def test_thermal_motion_has_the_energy_of_its_temperature(ethanol):
    numbers, positions = ethanol
    motion = ThermalMotion(numbers, positions)
    rng = np.random.default_rng(0)
    frames = np.array([motion.displacement(600.0, rng).ravel() for _ in range(2000)])
    stiff = np.linalg.eigvalsh(spring_hessian(numbers, positions))[-8:]
    vectors = np.linalg.eigh(spring_hessian(numbers, positions))[1][:, -8:]
    energies = 0.5 * stiff * ((frames @ vectors) ** 2).mean(axis=0)
    np.testing.assert_allclose(energies, 0.5 * BOLTZMANN * 600.0, rtol=0.15)


@pytest.mark.parametrize(
    ("name", "across", "modes"), [("C6H6", (2,), 30), ("C2H2", (0, 1), 7), ("CO2", (0, 1), 4)]
)
def test_flat_and_linear_molecules_leave_their_plane_and_line(name, across, modes):
    atoms = molecule(name)
    positions = atoms.positions - atoms.positions.mean(axis=0)
    motion = ThermalMotion(atoms.numbers, positions)
    rng = np.random.default_rng(0)
    moves = np.array([motion.displacement(500.0, rng) for _ in range(200)])
    spread = moves.std(axis=(0, 1))
    assert (spread[list(across)] > 0.02).all()
    assert np.linalg.matrix_rank(moves.reshape(200, -1), tol=1e-6) == modes
    # Neither shifts nor turns.
    np.testing.assert_allclose(moves.sum(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(np.cross(positions, moves).sum(axis=1), 0, atol=1e-9)


def test_relaxation_finds_a_minimum(ethanol):
    numbers, positions = ethanol
    labeler = XtbLabeler("GFN2-xTB", numbers)
    shaken = positions + np.random.default_rng(1).normal(0, 0.1, positions.shape)
    relaxed, label = relax(labeler, numbers, shaken, max_force=0.02, steps=80)
    assert np.linalg.norm(label.forces, axis=1).max() < 0.02
    assert label.energy == pytest.approx(labeler.label(relaxed).energy, abs=1e-6)
    assert label.energy < labeler.label(shaken).energy - 0.5
    assert bonds(numbers, relaxed) == bonds(numbers, positions)
    with pytest.raises(LabelError, match="relaxation did not converge"):
        relax(labeler, numbers, shaken, max_force=0.02, steps=2)


def test_restraints_drive_a_distance(ethanol):
    numbers, positions = ethanol
    labeler = XtbLabeler("GFN2-xTB", numbers)
    pull = [Restraint(0, 1, 2.6)]
    driven, _ = relax(
        labeler, numbers, positions, max_force=0.1, steps=40, restraints=pull, must_converge=False
    )
    assert np.linalg.norm(driven[0] - driven[1]) == pytest.approx(2.6, abs=0.2)


def test_align_undoes_rotation_and_shift(ethanol):
    _, positions = ethanol
    rng = np.random.default_rng(5)
    rotation = random_rotation(rng)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    turned = positions @ rotation + [3.0, -1.0, 2.0]
    np.testing.assert_allclose(align(turned, positions), positions, atol=1e-10)


def test_align_does_not_mirror(ethanol):
    _, positions = ethanol
    positions = positions + np.random.default_rng(3).normal(0, 0.3, positions.shape)
    mirrored = positions * [1, 1, -1]
    aligned = align(mirrored, positions)
    np.testing.assert_allclose(distances(aligned), distances(positions), atol=1e-9)
    assert np.abs(aligned - positions).max() > 0.3


def test_pair_interpolation_keeps_ends_and_avoids_collisions():
    # A swap: on the straight line the two atoms meet.
    start = np.array([[0.0, 0, 0], [0, 0.3, 1.5], [0, -0.3, -1.5]])
    end = start[[0, 2, 1]]
    for share, goal in ((0.0, start), (1.0, end)):
        np.testing.assert_allclose(interpolate_pairs(start, end, share), goal, atol=1e-4)
    bent = end + np.array([[0, 0, 0], [0.4, 0, 0], [-0.1, 0, 0]])
    middle = interpolate_pairs(start, bent, 0.5)
    line = (start + bent) / 2
    assert distances(middle).min() > distances(line).min() + 0.5


def test_clashes_are_refused(ethanol):
    numbers, positions = ethanol
    check_clashes(numbers, positions)
    with pytest.raises(LabelError, match="atoms too close"):
        check_clashes(numbers, 0.5 * positions)
