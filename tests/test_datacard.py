"""The data card, word for word."""

from dataclasses import replace

import numpy as np
import pytest

from atomjax.batching import BatchLoader, GraphDataset
from atomjax.data.card import Spread, data_card, describe_dataset, render
from atomjax.data.load import DataSplits
from atomjax.structures import PropertyScale, References, ReferencesWarning, Structure


def molecule(numbers, energy, force=None, **fields):
    """Atoms on a line about 1 Å apart, each pulled along x by ``force``."""
    count = len(numbers)
    positions = np.zeros((count, 3))
    positions[:, 0] = np.arange(count) * (1 + 0.01 * abs(energy or 0))
    forces = None if force is None else np.tile([force, 0.0, 0.0], (count, 1))
    return Structure(
        atomic_numbers=numbers, positions=positions, energy=energy, forces=forces, **fields
    )


def water_and_methane():
    train = [
        molecule([8, 1, 1], -10.0, 1.0),
        molecule([8, 1, 1], -12.0, 2.0),
        molecule([6, 1, 1, 1, 1], -20.0, 0.0, fixed=np.array([1, 0, 0, 0, 0], bool)),
        molecule([6, 1, 1, 1, 1], -24.0, 3.0),
    ]
    return {"train": train, "validation": train[:1], "test": []}


def test_the_card_word_for_word():
    splits = water_and_methane()
    references = References.fit(splits["train"])
    card = describe_dataset(
        "molecules", "GFN2-xTB, generated (conformers); energies total", splits, references
    )
    slab = molecule([29, 29], -1.0, 1.0, cell=10 * np.eye(3), pbc=True, targets={"gap": 2.0})
    scale = PropertyScale.fit([slab, slab], "gap")
    slabs = describe_dataset(
        "slabs", "slabs.xyz; no energies", {"train": [slab, slab]}, None, [scale]
    )
    text = render(
        [card, slabs],
        ["4 structures a step over 1 device, 1 static shape", "real: 93 % of atoms"],
        "C = 5 epochs × 4 unique structures = 20, in 5 steps",
    )
    assert text == (
        "data card\n"
        "molecules\n"
        "    structures  4 train, 1 validation, 0 test; 2 classes\n"
        "    atoms       3 to 5, mean 4.0; none periodic\n"
        "    elements    H C O\n"
        "    labels      GFN2-xTB, generated (conformers); energies total\n"
        "    labelled    energies of all, forces of all\n"
        "    twice       validation: 1 duplicates of structures in train\n"
        "    references  H, C, O cannot be told apart\n"
        "    energy      -16.5 ± 5.723 eV; 0 ± 1.581 eV after referencing\n"
        "    forces      rms 1.155 eV/Å, largest 3 eV/Å; 6% of atoms fixed\n"
        "    model unit  1.581 eV, 1.155 eV/Å\n"
        "slabs\n"
        "    structures  2 train; 1 class\n"
        "    atoms       2 to 2, mean 2.0; all periodic\n"
        "    elements    Cu\n"
        "    labels      slabs.xyz; no energies\n"
        "    labelled    energies of all, forces of all, gap of all\n"
        "    twice       train: 1 duplicates of earlier ones in it\n"
        "    forces      rms 0.5774 eV/Å, largest 1 eV/Å\n"
        "    gap         2 ± 0\n"
        "batches\n"
        "    4 structures a step over 1 device, 1 static shape\n"
        "    real: 93 % of atoms\n"
        "budget\n"
        "    C = 5 epochs × 4 unique structures = 20, in 5 steps"
    )


def test_charges_that_differ_are_named():
    train = water_and_methane()["train"]
    same = [replace(one, targets={"charge": 0.0, "spin": 1.0}) for one in train]
    other = [replace(same[0], targets={"charge": -1.0, "spin": 1.0}), *train[1:2], *same[2:]]
    references = References.fit(train)
    for part in (train, same):
        assert describe_dataset("x", "y", {"train": part}, references).doubts == []
    lines = describe_dataset("x", "y", {"train": other}, references).lines()
    assert "    charge      -1 of 1, 0 of 2, not given of 1; the model reads none of them" in lines
    assert "    spin        1 of 3, not given of 1; the model reads none of them" in lines
    scale = PropertyScale.fit(same[:1] + other[:1], "charge")
    assert describe_dataset("x", "y", {"train": same[:1] + other[:1]}, None, [scale]).doubts == []


def test_unlabelled_halves_are_left_out():
    splits = {"train": [molecule([1, 1], -1.0), molecule([1, 1], -2.0)]}
    card = describe_dataset("h2", "x", splits, References.fit(splits["train"]))
    assert card.force_rms is None
    assert not any(line.startswith("    forces") for line in card.lines())
    assert "    labelled    energies of all, forces of none" in card.lines()


def test_labels_that_only_some_have_are_counted() -> None:
    whole, bare = molecule([1, 1], -1.0, 1.0), molecule([1, 1, 1], None, 2.0)
    splits = {"train": [whole, bare, bare], "validation": [whole, bare], "test": [whole]}
    lines = describe_dataset("h", "x", splits, References.fit(splits["train"])).lines()
    assert "    labelled    energies of 1 of 3, forces of all" in lines
    assert "                validation: only energies of 1 of 2" in lines
    assert not any("test: only" in line for line in lines)


def test_what_the_references_do_not_tell_is_on_the_card() -> None:
    water, hydroxyl = molecule([8, 1, 1], -10.0), molecule([8, 1], -5.0)
    splits = {"train": [water], "test": [hydroxyl, water]}
    with pytest.warns(ReferencesWarning):
        references = References.fit(splits["train"])
    lines = describe_dataset("h", "x", splits, references).lines()
    expected = "    references  H, O cannot be told apart; outside what was fitted: 1 of test"
    assert expected in lines
    named = {n: [replace(s, targets={"u": 1.0}) for s in part] for n, part in splits.items()}
    with pytest.warns(ReferencesWarning):
        scale = PropertyScale.fit(named["train"], "u", extensive=True)
    assert expected in describe_dataset("h", "x", named, None, [scale]).lines()


def test_duplicates_are_not_unique_structures() -> None:
    twice = [molecule([1, 1], -1.0, 1.0)] * 2
    dataset = GraphDataset("h2", twice, references=References.fit(twice), index=0)
    splits = DataSplits(train=[dataset], origins=["x"])
    text = data_card(splits, BatchLoader([dataset], batch_size=2, epochs=3))
    assert "C = 3 epochs × 2 samples of 2 structures, 1 of them unique = 6 samples" in text


def test_the_card_names_what_two_data_sets_share() -> None:
    parts = [[molecule([1, 1], -1.0, 1.0)], [molecule([1, 1], -2.0, 1.5)]]
    train = [GraphDataset(name, parts[i], index=i) for i, name in enumerate("ab")]
    test = [GraphDataset("b", parts[0], index=1)]
    splits = DataSplits(train=train, test=test, origins=["x", "y"])
    text = data_card(splits, BatchLoader(train, batch_size=2))
    assert "twice\n    test of b: 1 duplicates of structures in train of a\n" in text


def test_spread_shows_rounding_as_zero():
    assert str(Spread(mean=1e-9, std=0.5)) == "0 ± 0.5"
    assert str(Spread(mean=-1.25, std=0.5)) == "-1.25 ± 0.5"


def test_the_card_of_a_run_word_for_word():
    parts = water_and_methane()
    references = References.fit(parts["train"])

    def dataset(split):
        return GraphDataset("molecules", parts[split], references=references, index=0)

    splits = DataSplits(
        train=[dataset("train")], validation=[dataset("validation")], origins=["made by hand"]
    )
    text = data_card(splits, BatchLoader(splits.train, batch_size=2, epochs=3))
    assert text == (
        "data card\n"
        "molecules\n"
        "    structures  4 train, 1 validation, 0 test; 2 classes\n"
        "    atoms       3 to 5, mean 4.0; none periodic\n"
        "    elements    H C O\n"
        "    labels      made by hand\n"
        "    labelled    energies of all, forces of all\n"
        "    twice       validation: 1 duplicates of structures in train\n"
        "    references  H, C, O cannot be told apart\n"
        "    energy      -16.5 ± 5.723 eV; 0 ± 1.581 eV after referencing\n"
        "    forces      rms 1.155 eV/Å, largest 3 eV/Å; 6% of atoms fixed\n"
        "    model unit  1.581 eV, 1.155 eV/Å\n"
        "batches\n"
        "    size        2 structures a step over 1 device, 2 steps an epoch\n"
        "    shapes      1 of a device's share: 9 atoms × 26 main edges\n"
        "    real        89% of atoms, 100% of main edges, the rest is padding\n"
        "budget\n"
        "    C = 3 epochs × 4 unique structures = 12 samples in 6 steps"
    )
