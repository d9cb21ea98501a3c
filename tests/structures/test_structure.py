"""Structure: what it stores, and what it refuses."""

import dataclasses
import pickle

import numpy as np
import pytest

from atomjax.structures import Structure, StructureError

WATER = {
    "atomic_numbers": [8, 1, 1],
    "positions": [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]],
    "identifier": "water.xyz:3",
}


def test_defaults():
    water = Structure(**WATER)
    assert len(water) == 3
    assert water.formula == water.class_key == "H2O"
    assert not water.is_periodic
    assert water.cell.shape == (3, 3)
    assert not water.cell.any()
    assert water.tags.tolist() == [2, 2, 2]
    assert not water.fixed.any()
    assert water.energy is None
    assert water.forces is None
    assert water.targets == {}
    assert water.atomic_numbers.dtype == np.int32
    assert water.positions.dtype == np.float64


def test_arrays_are_private_and_read_only():
    positions = np.array(WATER["positions"])
    water = Structure(**{**WATER, "positions": positions})
    positions[0] = 7.0
    assert water.positions[0].tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="read-only"):
        water.positions[0] = 1.0


def test_one_bool_stands_for_all_directions():
    crystal = Structure(atomic_numbers=[29], positions=[[0, 0, 0]], cell=np.eye(3) * 2.5, pbc=True)
    assert crystal.pbc.tolist() == [True, True, True]
    assert crystal.is_periodic


def test_replace_and_pickle_keep_everything():
    water = Structure(**WATER, energy=-1.5, targets={"gap": 2}, class_key="w")
    again = pickle.loads(pickle.dumps(dataclasses.replace(water, energy=3.0)))  # noqa: S301
    assert again.energy == 3.0
    assert again.targets == {"gap": 2.0}
    assert again.class_key == "w"
    np.testing.assert_array_equal(again.positions, water.positions)


@pytest.mark.parametrize(
    ("atomic_numbers", "formula"),
    [([1, 6, 1, 8, 6], "C2H2O"), ([8, 1, 1], "H2O"), ([17, 11], "ClNa"), ([118], "Og")],
)
def test_hill_formula(atomic_numbers, formula):
    positions = np.arange(3 * len(atomic_numbers)).reshape(-1, 3)
    assert Structure(atomic_numbers=atomic_numbers, positions=positions).formula == formula


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"atomic_numbers": []}, "atomic_numbers", "no atoms"),
        ({"atomic_numbers": [8, 1, 119]}, "atomic_numbers", "atom 2 has 119"),
        ({"atomic_numbers": [8, 0, 1]}, "atomic_numbers", "atom 1 has 0"),
        ({"atomic_numbers": [8.5, 1, 1]}, "atomic_numbers", "int32"),
        ({"atomic_numbers": ["O", "H", "H"]}, "atomic_numbers", "int32"),
        ({"positions": np.zeros((3, 2))}, "positions", "expected \\[3, 3\\]"),
        ({"positions": [[0, 0, np.nan], [1, 0, 0], [2, 0, 0]]}, "positions", "not finite"),
        ({"positions": np.zeros((3, 3))}, "positions", "atoms 0 and 1 are at the same place"),
        ({"cell": np.eye(2)}, "cell", "expected \\[3, 3\\]"),
        ({"pbc": True}, "cell", "zero lattice vector"),
        ({"pbc": True, "cell": [[5, 0, 0], [0, 5, 0], [5, 5, 0]]}, "cell", "singular"),
        ({"pbc": [True, False]}, "pbc", "expected \\[3\\]"),
        ({"tags": [1, 2, 3]}, "tags", "layers"),
        ({"fixed": [True]}, "fixed", "expected \\[3\\]"),
        ({"energy": float("inf")}, "energy", "inf"),
        ({"energy": "low"}, "energy", "one number"),
        ({"forces": np.zeros((2, 3))}, "forces", "expected \\[3, 3\\]"),
        ({"forces": np.full((3, 3), np.inf)}, "forces", "9 entries are not finite"),
        ({"targets": {"gap": np.nan}}, "targets\\['gap'\\]", "nan"),
    ],
)
def test_refuses_and_names_structure_and_field(changes, field, problem):
    with pytest.raises(StructureError, match=f"^water.xyz:3: {field}: .*{problem}"):
        Structure(**{**WATER, **changes})


@pytest.mark.parametrize("pbc", [[True, True, True], [True, True, False], [True, False, False]])
def test_coincidence_counts_periodic_images(pbc):
    cell = np.array([[4.0, 0.0, 0.0], [3.9, 1.0, 0.0], [0.0, 0.0, 9.0]])
    first = np.array([0.1, 0.2, 0.3])
    same = first + cell[0] + 1e-5
    with pytest.raises(StructureError, match="same place"):
        Structure(atomic_numbers=[1, 1], positions=[first, same], cell=cell, pbc=pbc)
    apart = first + cell[2] / 2
    Structure(atomic_numbers=[1, 1], positions=[first, apart], cell=cell, pbc=pbc)


def test_an_image_in_a_direction_that_does_not_repeat_is_another_place():
    cell = np.diag([4.0, 4.0, 0.0])
    positions = [[0, 0, 0], [0, 0, 4.0]]
    slab = Structure(atomic_numbers=[1, 1], positions=positions, cell=cell, pbc=[True, True, False])
    assert slab.is_periodic


def test_a_coordinate_just_below_zero_wraps():
    positions = [[-1e-20, 0, 0], [1.0, 0, 0]]
    Structure(atomic_numbers=[1, 1], positions=positions, cell=np.eye(3) * 2, pbc=True)


def test_a_stress_is_symmetric_and_needs_three_periodic_directions() -> None:
    fields = {"atomic_numbers": [29], "positions": [[0, 0, 0]], "cell": 2.5 * np.eye(3)}
    stress = np.diag([0.1, 0.2, 0.3])
    np.testing.assert_array_equal(Structure(**fields, pbc=True, stress=stress).stress, stress)
    with pytest.raises(StructureError, match=r"stress: pbc is \[True, True, False\]"):
        Structure(**fields, pbc=(True, True, False), stress=stress)
    stress[0, 1] = 0.2
    with pytest.raises(StructureError, match="stress: is not symmetric"):
        Structure(**fields, pbc=True, stress=stress)
