"""Pairs of small organic molecules, bound and apart, in the image of S66x8: GFN2-xTB.

Both molecules are embedded at random, put together and relaxed. A frame adds the thermal motion of
a random temperature to each, then shifts them apart, or turns both to a random contact.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data.vdw_alvarez import vdw_radii

from atomjax.structures.generate.errors import GenerateError
from atomjax.structures.generate.geometry import ThermalMotion, random_rotation, relax
from atomjax.structures.generate.labels import XtbLabeler
from atomjax.structures.generate.molecules import embed, heavy_atoms, labelled_frame, library
from atomjax.structures.generate.pool.tasks import check_range, shuffled, spread
from atomjax.structures.structure import Structure

PACKAGES = ("tblite", "rdkit")
LABELS = "{method}"
# Frames made of one bound pair; more frames of a pair start from another.
CHUNK = 25
# Molecules of one atom other than hydrogen, which the library leaves out.
SMALLEST = ("C", "N", "O")


@dataclass(frozen=True)
class Options:
    """Options for pairs of molecules.

    Attributes:
        pairs: number of different pairs; 0 takes one for every 25 frames.
        smiles: pairs of these molecules instead of the library's.
        heavy_atoms: smallest and largest number of atoms other than hydrogen of each molecule.
        temperatures: K, smallest and largest, of the thermal motion.
        shifts: Å, smallest and largest, by which a bound pair is shifted apart.
        turned: fraction of frames whose molecules are turned to a random contact instead.
        contacts: smallest and largest distance of a random contact, in sums of van der Waals
            radii.
        max_force: eV/Å; a frame with a larger force on an atom is dropped.
        method: "GFN2-xTB" or "GFN1-xTB".
    """

    pairs: int = 0
    smiles: tuple[str, ...] = ()
    heavy_atoms: tuple[int, ...] = (1, 6)
    temperatures: tuple[float, ...] = (50.0, 600.0)
    shifts: tuple[float, ...] = (-0.3, 2.5)
    turned: float = 0.4
    contacts: tuple[float, ...] = (0.65, 1.3)
    max_force: float = 30.0
    method: str = "GFN2-xTB"

    def __post_init__(self) -> None:
        check_range("dimers: heavy_atoms", self.heavy_atoms, 1)
        check_range("dimers: temperatures", self.temperatures)
        check_range("dimers: shifts", self.shifts, -1.0)
        check_range("dimers: contacts", self.contacts, 0.5)


def plan(options: Options, count: int, seed: int) -> list[tuple[str, int]]:
    """Pairs of molecules, each with its share of the frames."""
    smallest, largest = options.heavy_atoms
    tiny = [smiles for smiles in SMALLEST if smallest <= heavy_atoms(smiles) <= largest]
    molecules = list(options.smiles) or [*tiny, *library(smallest, largest)]
    if not molecules:
        raise GenerateError(f"dimers: no molecule has {smallest} to {largest} heavy atoms")
    first, second = shuffled(molecules, seed), shuffled(molecules, seed + 1)
    n = len(molecules)
    wanted = options.pairs or -(-count // CHUNK)
    # Every molecule takes part once before one does twice.
    pairs = [(first[i % n], second[(i + i // n) % n]) for i in range(min(wanted, n * n))]
    return spread([".".join(pair) for pair in pairs], count, CHUNK)


def begin(subject: str, options: Options, rng: np.random.Generator) -> Callable[[], Structure]:
    """Draws frames of the pair with SMILES `subject`."""
    first, second = (embed(smiles, rng) for smiles in subject.split("."))
    numbers = np.concatenate([first.atomic_numbers, second.atomic_numbers])
    parts = slice(len(first.atomic_numbers)), slice(len(first.atomic_numbers), None)
    labeler = XtbLabeler(options.method, numbers)
    placed = _in_contact(numbers, (first.positions, second.positions), 0.9, rng)
    bound, _ = relax(labeler, numbers, placed, max_force=0.1, steps=40, must_converge=False)
    motions = [ThermalMotion(numbers[part], bound[part]) for part in parts]
    axis = bound[parts[1]].mean(axis=0) - bound[parts[0]].mean(axis=0)
    axis /= np.linalg.norm(axis)

    def draw() -> Structure:
        temperature = _between(options.temperatures, rng)
        moved = [
            bound[part] + motion.displacement(temperature, rng)
            for part, motion in zip(parts, motions, strict=True)
        ]
        if rng.random() < options.turned:
            positions = _in_contact(numbers, moved, _between(options.contacts, rng), rng)
        else:
            moved[1] = moved[1] + _between(options.shifts, rng) * axis
            positions = np.concatenate(moved)
        return labelled_frame(labeler, numbers, positions, options.max_force, subject)

    return draw


def _between(limits: tuple[float, ...], rng: np.random.Generator) -> float:
    smallest, largest = limits
    return rng.uniform(smallest, largest)


def _in_contact(
    numbers: np.ndarray,
    molecules: Sequence[np.ndarray],
    contact: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """[N, 3] Å: both molecules turned at random, the nearest pair of atoms in contact.

    The second comes along the x axis from far away until two atoms are `contact` times the sum of
    their van der Waals radii apart, and no two nearer.
    """
    first, second = ((x - x.mean(axis=0)) @ random_rotation(rng) for x in molecules)
    radii = vdw_radii[numbers]
    reach = contact * (radii[: len(first), None] + radii[None, len(first) :])
    gap = second[None] - first[:, None]
    # With a shift t, (gap_x + t)² + gap_y² + gap_z² = reach²; pairs that pass by have no root.
    rest = reach**2 - (gap[..., 1:] ** 2).sum(axis=-1)
    shifts = np.sqrt(np.maximum(rest, 0)) - gap[..., 0]
    touching = rest >= 0
    shift = shifts[touching].max() if touching.any() else shifts.max()
    return np.concatenate([first, second + np.array([shift, 0.0, 0.0])])
