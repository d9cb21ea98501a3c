"""Duplicates within and between the parts of a data set."""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from atomjax.data import duplicates
from atomjax.data.duplicates import count_duplicates, describe_shared, surroundings
from atomjax.structures import Structure
from atomjax.structures.readers import read
from atomjax.structures.store import write_store


def molecules(count: int, seed: int = 0) -> list[Structure]:
    rng = np.random.default_rng(seed)
    rigid = np.array([[0, 0, 0], [1.1, 0, 0], [0, 1.2, 0], [0, 0, 1.3], [1.2, 1.1, 1.0]])
    return [
        Structure(
            atomic_numbers=[6, 8, 1, 1, 7],
            positions=rigid + rng.normal(scale=0.1, size=(5, 3)),
            energy=float(i),
        )
        for i in range(count)
    ]


def changed(structure: Structure, **fields) -> Structure:
    names = ("atomic_numbers", "positions", "cell", "pbc", "energy")
    return Structure(**{**{name: getattr(structure, name) for name in names}, **fields})


def test_exact_duplicates_within_and_between_parts() -> None:
    some = molecules(6)
    found = count_duplicates({"train": [*some, some[0]], "validation": [], "test": some[4:]})
    assert found.within == {"train": 1, "test": 0}
    assert found.shared == {("test", "train"): 2}
    assert (found.near, found.near_shared) == ({"train": 0, "test": 0}, {("test", "train"): 0})
    assert found.lines() == [
        "train: 1 duplicates of earlier ones in it",
        "test: 2 duplicates of structures in train",
    ]


def test_what_is_moved_turned_or_reordered_is_nearly_the_same() -> None:
    (first, *_) = some = molecules(3)
    turned = changed(first, positions=first.positions @ Rotation.random(rng=0).as_matrix() + 3.0)
    order = [4, 3, 1, 0, 2]
    listed = changed(
        first, positions=first.positions[order], atomic_numbers=first.atomic_numbers[order]
    )
    noise = np.random.default_rng(1).normal(scale=1e-3, size=(5, 3))
    shaken = changed(first, positions=first.positions + noise)
    other = changed(first, positions=first.positions + 30 * noise)
    found = count_duplicates({"train": some, "test": [turned, listed, shaken, other]})
    assert found.near_shared == {("test", "train"): 3}
    assert found.shared == {("test", "train"): 0}
    assert "test: 3 near duplicates of structures in train" in found.lines()


def test_periodic_images_are_counted(cases: Path) -> None:
    frames = read(cases / "nan_info.xyz")
    assert count_duplicates({"train": frames}).lines() == []
    first = frames[0]
    wrapped = np.array(first.positions)
    wrapped[0] += first.cell[1] - first.cell[2]
    moved = changed(first, positions=wrapped + np.array([0.7, 0.0, 0.0]))
    np.testing.assert_allclose(surroundings(moved), surroundings(first), atol=1e-6)
    found = count_duplicates({"train": [*frames, moved]})
    assert (found.within, found.near) == ({"train": 0}, {"train": 1})


def test_atoms_that_change_places_are_another_structure() -> None:
    places = 2.9 * np.stack(np.meshgrid(*[np.arange(2)] * 3), -1).reshape(-1, 3)
    cell = 5.8 * np.eye(3)
    layered, chequered = [29, 29, 29, 29, 79, 79, 79, 79], [29, 79, 79, 29, 79, 29, 29, 79]
    alloys = [
        Structure(atomic_numbers=numbers, positions=places, cell=cell, pbc=True)
        for numbers in (layered, chequered)
    ]
    assert count_duplicates({"train": alloys}).lines() == []


def test_structures_of_stores_that_are_not_compared_are_counted(tmp_path, monkeypatch) -> None:
    """Without energies nothing but reading tells them apart."""
    monkeypatch.setattr(duplicates, "MOST_READ", 3)
    bare = [Structure(atomic_numbers=[1], positions=[[0.1 * i, 0, 0]]) for i in range(5)]
    found = count_duplicates({"train": write_store(tmp_path / "s", bare)})
    assert found.unread == 2
    assert "not searched among 2 structures" in found.lines()[-1]


def test_a_store_is_read_only_where_energies_return(tmp_path: Path) -> None:
    some = molecules(6)
    listed = {"train": [*some, some[0]], "test": some[4:]}
    store = write_store(tmp_path / "store", [*listed["train"], *listed["test"]])
    stored = {"train": store.subset(np.arange(7)), "test": store.subset(np.arange(7, 9))}
    assert count_duplicates(stored) == count_duplicates(listed)
    # A part may be in a file of its own.
    mixed = {"train": stored["train"], "test": [store[i] for i in (7, 8)]}
    assert count_duplicates(mixed).shared == {("test", "train"): 2}


def test_what_one_data_set_tests_on_and_another_trains_on_is_named() -> None:
    some, others = molecules(6), molecules(6, seed=1)
    near = changed(some[3], positions=some[3].positions + 1.0)
    sets = {
        "a": {"train": some[:4], "test": [others[0], some[5]]},
        "b": {"train": others[:4], "validation": [some[0], near], "test": [others[5]]},
    }
    assert describe_shared(sets) == [
        "validation of b: 1 duplicates and 1 near duplicates of structures in train of a",
        "test of a: 1 duplicates of structures in train of b",
    ]
