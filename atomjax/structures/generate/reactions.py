"""Paths between two geometries with different bonds, in the image of Transition-1x: GFN2-xTB.

A relaxed molecule is driven, by springs, through a move that breaks and forms bonds: a hydrogen
changes place, a bond dissociates, two neighbours leave as one piece (elimination), or a group
migrates. What the springs reach is relaxed without them (a dissociation keeps its spring: apart is
where it should stay). Frames lie between the two ends, on the straight line or on the path of
evenly changing pair distances, with a little noise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from atomjax.structures.elements import SYMBOLS
from atomjax.structures.generate.errors import GenerateError, LabelError
from atomjax.structures.generate.geometry import (
    Restraint,
    align,
    bonds,
    contact_lengths,
    interpolate_pairs,
    relax,
)
from atomjax.structures.generate.labels import XtbLabeler, check_force
from atomjax.structures.generate.molecules import embed, labelled_frame, library
from atomjax.structures.generate.pool.tasks import check_range, shuffled
from atomjax.structures.structure import Structure

PACKAGES = ("tblite", "rdkit")
LABELS = "{method}"
FRAMES_PER_REACTION = 20
MOVES = ("hydrogen shift", "dissociation", "elimination", "migration")
# Å; how far apart broken bonds are driven.
APART = 3.2


@dataclass(frozen=True)
class Options:
    """Options for reaction paths.

    Attributes:
        reactions: number of reactions; 0 makes one for every 20 structures.
        heavy_atoms: smallest and largest number of atoms other than hydrogen.
        interpolations: "linear" (straight lines), "pairs" (evenly changing pair distances), or
            both in equal shares.
        noise: Å, standard deviation, up to which frames are shaken.
        max_force: eV/Å; a frame with a larger force on an atom is dropped.
        method: "GFN2-xTB" or "GFN1-xTB".
    """

    reactions: int = 0
    heavy_atoms: tuple[int, ...] = (2, 7)
    interpolations: tuple[str, ...] = ("linear", "pairs")
    noise: float = 0.05
    max_force: float = 50.0
    method: str = "GFN2-xTB"

    def __post_init__(self) -> None:
        check_range("reactions: heavy_atoms", self.heavy_atoms, 1)
        unknown = set(self.interpolations) - {"linear", "pairs"}
        if unknown or not self.interpolations:
            raise GenerateError(
                f"reactions: interpolations {self.interpolations}; write 'linear', 'pairs' or both"
            )


def plan(options: Options, count: int, seed: int) -> list[tuple[str, int]]:
    """Reactions, over the molecules in turn, each with its share of the frames."""
    smallest, largest = options.heavy_atoms
    molecules = library(smallest, largest)
    if not molecules:
        raise GenerateError(f"reactions: no molecule has {smallest} to {largest} heavy atoms")
    molecules = shuffled(molecules, seed)
    reactions = min(options.reactions or -(-count // FRAMES_PER_REACTION), count)
    shares = [count // reactions + (i < count % reactions) for i in range(reactions)]
    return [(f"{molecules[i % len(molecules)]} {i}", share) for i, share in enumerate(shares)]


def begin(subject: str, options: Options, rng: np.random.Generator) -> Callable[[], Structure]:
    """Draws frames of one reaction; `subject` is a SMILES and the reaction's number."""
    smiles, number = subject.split()
    molecule = embed(smiles, rng)
    numbers = molecule.atomic_numbers
    labeler = XtbLabeler(options.method, numbers)
    start, _ = relax(labeler, numbers, molecule.positions, max_force=0.1, steps=120)
    before = bonds(numbers, start)
    move = MOVES[rng.integers(len(MOVES))]
    end = react(labeler, numbers, start, move, rng)
    key = f"{smiles}#{number}: {describe(numbers, before, bonds(numbers, end))}"

    def draw() -> Structure:
        share = rng.random()
        if rng.choice(options.interpolations) == "linear":
            positions = (1.0 - share) * start + share * end
        else:
            positions = interpolate_pairs(start, end, share)
        noise = rng.uniform(0.0, options.noise)
        positions = positions + noise * rng.normal(size=positions.shape)
        return labelled_frame(labeler, numbers, positions, options.max_force, key)

    return draw


def react(
    labeler: XtbLabeler,
    numbers: np.ndarray,
    start: np.ndarray,
    move: str,
    rng: np.random.Generator,
) -> np.ndarray:
    """A relaxed geometry with other bonds than `start` [N, 3] has, turned to lie on it.

    Raises:
        LabelError: the move does not apply, or leads back.
    """
    before = bonds(numbers, start)
    restraints = propose(move, numbers, before, rng)
    driven, _ = relax(
        labeler, numbers, start, max_force=0.3, steps=60, restraints=restraints,
        must_converge=False,
    )  # fmt: skip
    kept = restraints if move == "dissociation" else []
    end, label = relax(labeler, numbers, driven, max_force=0.2, steps=150, restraints=kept)
    check_force(label, max_force=15.0)
    if bonds(numbers, end) == before:
        raise LabelError("no reaction")
    return align(end, start)


def propose(
    move: str, numbers: np.ndarray, present: set[tuple[int, int]], rng: np.random.Generator
) -> list[Restraint]:
    """Springs that carry out one random move of the given sort.

    Raises:
        LabelError: the molecule has no place for it.
    """
    neighbors = _neighbors(len(numbers), present)
    heavy = [i for i in range(len(numbers)) if numbers[i] > 1]
    lengths = contact_lengths(numbers)

    def formed(i: int, j: int) -> Restraint:
        return Restraint(i, j, float(lengths[i, j]))

    def broken(i: int, j: int) -> Restraint:
        return Restraint(i, j, APART)

    if move == "dissociation":
        options = [[broken(i, j)] for i, j in sorted(present) if numbers[i] > 1 or numbers[j] > 1]
    elif move == "elimination":
        # H-a-b-X loses HX.
        options = [
            [broken(a, h), broken(b, x), formed(h, x)]
            for a in heavy
            for b in neighbors[a]
            if numbers[b] > 1
            for h in neighbors[a]
            if numbers[h] == 1
            for x in neighbors[b]
            if x != a
        ]
    else:
        # A hydrogen, or a heavy group, leaves a for an atom one or two bonds further on.
        options = [
            [broken(a, x), formed(x, c)]
            for a in heavy
            for x in neighbors[a]
            if (numbers[x] == 1) == (move == "hydrogen shift")
            for c in _within_two(neighbors, a)
            if numbers[c] > 1 and c not in (a, x) and c not in neighbors[x]
        ]
    if not options:
        raise LabelError("no such move")
    return options[rng.integers(len(options))]


def describe(numbers: np.ndarray, before: set[tuple[int, int]], after: set[tuple[int, int]]) -> str:
    """Bonds broken (-) and formed (+), such as ``-C0H4 +O2H4``."""

    def names(pairs: set[tuple[int, int]], sign: str) -> list[str]:
        return [f"{sign}{SYMBOLS[numbers[i]]}{i}{SYMBOLS[numbers[j]]}{j}" for i, j in sorted(pairs)]

    return " ".join(names(before - after, "-") + names(after - before, "+"))


def _neighbors(count: int, present: set[tuple[int, int]]) -> list[list[int]]:
    neighbors: list[list[int]] = [[] for _ in range(count)]
    for i, j in sorted(present):
        neighbors[i].append(j)
        neighbors[j].append(i)
    return neighbors


def _within_two(neighbors: list[list[int]], atom: int) -> list[int]:
    reached = {second for first in neighbors[atom] for second in (first, *neighbors[first])}
    return sorted(reached)
