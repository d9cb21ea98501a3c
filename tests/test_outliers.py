"""Outliers on the data card: what a flipped digit leaves in a file without checksums."""

import dataclasses

import numpy as np
import pytest

from atomjax.data.card import describe_dataset
from atomjax.structures import References, Structure

DISTANCE = 1.1  # Å


def frames(count: int) -> list[Structure]:
    rng = np.random.default_rng(0)
    return [
        Structure(
            atomic_numbers=[7, 7, 8],
            positions=[[0, 0, 0], [0, 0, DISTANCE + rng.normal(0, 0.02)], [0, 2, 0]],
            energy=-30.0 + rng.normal(0, 0.1),
            forces=rng.normal(0, 1, (3, 3)),
            identifier=f"file.xyz:{i}",
        )
        for i in range(count)
    ]


def test_sound_structures_are_none() -> None:
    structures = frames(20)
    card = describe_dataset("n2", "x", {"train": structures}, References.fit(structures))
    assert not any("outliers" in line for line in card.lines())


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"positions": [[0, 0, 0], [0, 0, 0.11], [0, 2, 0]]}, "atoms closer than 0.4 Å"),
        ({"energy": 30.0}, "energies far from all others"),
        ({"forces": [[0, 0, 100.0], [0, 0, 0], [0, 0, 0]]}, "forces above 50 eV/Å"),
    ],
)
def test_flipped_digits_are_named(change, kind) -> None:
    train, validation = frames(20), frames(3)
    validation[1] = dataclasses.replace(validation[1], **change)
    splits = {"train": train, "validation": validation}
    lines = describe_dataset("n2", "x", splits, References.fit(train)).lines()
    assert [line.strip() for line in lines if "outliers" in line] == [
        f"outliers    {kind}: validation: file.xyz:1"
    ]


def test_two_levels_of_theory_in_equal_parts_are_named() -> None:
    train = frames(20)
    for place in range(0, 20, 2):
        train[place] = dataclasses.replace(train[place], energy=-4000.0)
    card = describe_dataset("n2", "x", {"train": train}, References.fit(train))
    assert len(card.outliers["energies far from all others"]) == 10


def test_a_fixed_atom_bears_any_force() -> None:
    train = frames(20)
    forces = np.array([[0, 0, 100.0], [0, 0, 0], [0, 0, 0]])
    train[0] = dataclasses.replace(train[0], forces=forces, fixed=[True, False, False])
    card = describe_dataset("n2", "x", {"train": train}, References.fit(train))
    assert card.outliers == {}


def springs(force_factor: float) -> list[Structure]:
    """Molecules of one spring, whose forces are in another unit by a factor."""
    rng = np.random.default_rng(1)
    found = []
    for stretch in rng.normal(0, 0.05, 30):
        force = -50.0 * stretch * force_factor
        found.append(
            Structure(
                atomic_numbers=[7, 7],
                positions=[[0, 0, 0], [0, 0, DISTANCE + stretch]],
                energy=-30.0 + 25.0 * stretch**2,
                forces=[[0, 0, -force], [0, 0, force]],
            )
        )
    return found


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (1.0, ""),
        (1.8897, "0.529 times the work"),
        (-1.0, "-1 times the work"),
        (0.0434, "23 times"),
    ],
)
def test_forces_have_to_go_with_the_energies(factor: float, said: str) -> None:
    lines = describe_dataset("n2", "x", {"train": springs(factor)}, None).lines()
    doubts = [line for line in lines if "doubtful" in line]
    assert len(doubts) == bool(said)
    assert all(said in line for line in doubts)
