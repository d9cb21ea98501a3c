"""Molecules: what the library holds and how it grows."""

import numpy as np
import pytest

from atomjax.structures.generate.errors import GenerateError
from atomjax.structures.generate.geometry import bonds, distances
from atomjax.structures.generate.molecules import (
    NAMED,
    SMILES,
    embed,
    enumerate_smiles,
    heavy_atoms,
    library,
    turn_rotors,
)


def test_the_library_is_large_and_varied():
    molecules = library(2, 10)
    assert len(molecules) == len(set(molecules)) == len(SMILES) > 150
    assert {heavy_atoms(s) for s in molecules} == set(range(2, 11))
    assert library(3, 3)
    assert all(heavy_atoms(s) == 3 for s in library(3, 3))


def test_enumeration_grows_without_repeats():
    small = enumerate_smiles(2, 4, 50)
    more = enumerate_smiles(2, 4, 150)
    assert len(set(more)) == len(more) >= 150
    assert more[: len(small)] == small
    assert all(2 <= heavy_atoms(s) <= 4 for s in more)


def test_embedding_is_seeded_and_chemical():
    first = embed(NAMED["aspirin"], np.random.default_rng(0))
    again = embed(NAMED["aspirin"], np.random.default_rng(0))
    other = embed(NAMED["aspirin"], np.random.default_rng(1))
    np.testing.assert_array_equal(first.positions, again.positions)
    assert np.abs(first.positions - other.positions).max() > 0.01
    assert np.bincount(first.atomic_numbers)[[1, 6, 8]].tolist() == [8, 9, 4]
    assert len(bonds(first.atomic_numbers, first.positions)) == 21


def test_rotors_turn_without_bending_bonds():
    rng = np.random.default_rng(2)
    molecule = embed("OCCO", rng)
    assert len(molecule.rotors) == 3
    turned = turn_rotors(molecule.positions, molecule.rotors, rng)
    assert np.abs(turned - molecule.positions).max() > 0.2
    before, after = distances(molecule.positions), distances(turned)
    for i, j in bonds(molecule.atomic_numbers, molecule.positions):
        assert after[i, j] == pytest.approx(before[i, j], abs=1e-9)


def test_rings_have_no_rotors():
    assert embed("c1ccccc1", np.random.default_rng(0)).rotors == ()


def test_a_wrong_smiles_is_refused():
    with pytest.raises(GenerateError, match="'C1CC' is no SMILES"):
        embed("C1CC", np.random.default_rng(0))
