"""Splits: disjoint, seeded, and honest about what does not fit."""

import numpy as np
import pytest

from atomjax.structures import Structure
from atomjax.structures.splits import SplitError, split_indices


@pytest.fixture
def structures() -> list[Structure]:
    return [
        Structure(atomic_numbers=[1], positions=[[float(i), 0, 0]], class_key=f"k{i % 13}")
        for i in range(100)
    ]


def test_parts_are_disjoint_and_of_the_asked_size(structures):
    parts = split_indices(structures, {"train": None, "validation": 0.1, "test": 25}, seed=4)
    assert {k: len(v) for k, v in parts.items()} == {"train": 65, "validation": 10, "test": 25}
    assert list(parts) == ["train", "validation", "test"]
    assert np.array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(100))
    assert all(np.all(np.diff(v) > 0) for v in parts.values())


@pytest.mark.parametrize("count", [3, 15, 16, 25, 35, 100])
def test_fractions_of_the_whole_leave_nothing(structures, count):
    parts = split_indices(structures[:count], {"train": 0.8, "validation": 0.1, "test": 0.1})
    assert sum(map(len, parts.values())) == count
    assert min(map(len, parts.values())) > 0


def test_seeded(structures):
    sizes = {"train": 50, "test": 20}
    first = split_indices(structures, sizes, seed=1)
    again = split_indices(structures, sizes, seed=1)
    other = split_indices(structures, sizes, seed=2)
    assert np.array_equal(first["test"], again["test"])
    assert not np.array_equal(first["test"], other["test"])


def test_a_larger_train_keeps_the_test_set(structures):
    few = split_indices(structures, {"test": 30, "train": 10}, seed=0)
    many = split_indices(structures, {"test": 30, "train": 60}, seed=0)
    assert np.array_equal(few["test"], many["test"])
    assert set(few["train"]) < set(many["train"])


def test_classes_stay_whole(structures):
    parts = split_indices(
        structures, {"train": None, "validation": 10, "test": 0.2}, by="class_key", seed=3
    )
    keys = {k: {structures[i].class_key for i in v} for k, v in parts.items()}
    assert not keys["train"] & keys["test"]
    assert not keys["train"] & keys["validation"]
    assert not keys["validation"] & keys["test"]
    assert sum(map(len, parts.values())) == 100
    assert 10 <= len(parts["validation"]) < 18
    assert 20 <= len(parts["test"]) < 28


def test_class_split_does_not_depend_on_the_files_order(structures):
    parts = split_indices(structures, {"test": 20}, by="class_key", seed=5)
    turned = structures[::-1]
    again = split_indices(turned, {"test": 20}, by="class_key", seed=5)
    assert {structures[i].class_key for i in parts["test"]} == {
        turned[i].class_key for i in again["test"]
    }


@pytest.mark.parametrize(
    ("sizes", "by", "message"),
    [
        ({"train": 80, "test": 30}, "structure", "ask for 110 structures of a data set of 100"),
        ({"train": None, "test": 100}, "structure", "'train' takes what the others leave"),
        ({"train": None, "test": None}, "structure", "only one part can be None"),
        ({"train": 1.5}, "structure", "between 0 and 1"),
        ({"train": -3}, "structure", "cannot be negative"),
        ({"train": 99, "test": 1}, "class_key", "whole classes"),
        ({"train": 9}, "formula", "class_key"),
    ],
)
def test_what_cannot_be_is_an_error(structures, sizes, by, message):
    with pytest.raises(SplitError, match=message):
        split_indices(structures, sizes, by=by)
