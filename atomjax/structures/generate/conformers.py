"""Off-equilibrium conformers of many small organics, in the image of ANI-1x: GFN2-xTB.

Each molecule is embedded at random and relaxed. A frame turns its rotors to random angles (or
leaves them) and adds the thermal motion of a random temperature.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from atomjax.structures.generate.errors import GenerateError
from atomjax.structures.generate.geometry import ThermalMotion, check_clashes, relax
from atomjax.structures.generate.labels import XtbLabeler
from atomjax.structures.generate.molecules import (
    embed,
    enumerate_smiles,
    labelled_frame,
    library,
    turn_rotors,
)
from atomjax.structures.generate.pool.tasks import check_range, shuffled, spread
from atomjax.structures.structure import Structure

PACKAGES = ("tblite", "rdkit")
LABELS = "{method}"
# Frames made of one embedding; more frames of a molecule start from another conformer.
CHUNK = 25


@dataclass(frozen=True)
class Options:
    """Options for conformers of molecules.

    Attributes:
        molecules: number of molecules, drawn from the library; 0 takes all of it, and more than
            it holds adds those with small groups in place of hydrogens.
        smiles: these molecules instead of the library.
        heavy_atoms: smallest and largest number of atoms other than hydrogen.
        temperatures: K, smallest and largest, of the thermal motion.
        turned: fraction of frames whose rotors are turned.
        max_force: eV/Å; a frame with a larger force on an atom is dropped.
        method: "GFN2-xTB" or "GFN1-xTB".
    """

    molecules: int = 0
    smiles: tuple[str, ...] = ()
    heavy_atoms: tuple[int, ...] = (2, 10)
    temperatures: tuple[float, ...] = (100.0, 1500.0)
    turned: float = 0.5
    max_force: float = 30.0
    method: str = "GFN2-xTB"

    def __post_init__(self) -> None:
        check_range("conformers: heavy_atoms", self.heavy_atoms, 1)
        check_range("conformers: temperatures", self.temperatures)


def plan(options: Options, count: int, seed: int) -> list[tuple[str, int]]:
    """Molecules, each with its share of the frames."""
    smallest, largest = options.heavy_atoms
    subjects = list(options.smiles) or library(smallest, largest)
    if not options.smiles and options.molecules > len(subjects):
        subjects = enumerate_smiles(smallest, largest, options.molecules)
    if not subjects:
        raise GenerateError(f"conformers: no molecule has {smallest} to {largest} heavy atoms")
    subjects = shuffled(subjects, seed)
    return spread(subjects[: options.molecules or None], count, CHUNK)


def begin(subject: str, options: Options, rng: np.random.Generator) -> Callable[[], Structure]:
    """Draws frames of the molecule with SMILES `subject`."""
    molecule = embed(subject, rng)
    numbers = molecule.atomic_numbers
    labeler = XtbLabeler(options.method, numbers)
    rest, _ = relax(
        labeler, numbers, molecule.positions, max_force=0.1, steps=80, must_converge=False
    )

    lowest, highest = options.temperatures

    def draw() -> Structure:
        positions = rest
        if molecule.rotors and rng.random() < options.turned:
            positions = turn_rotors(rest, molecule.rotors, rng)
            check_clashes(numbers, positions)
        motion = ThermalMotion(numbers, positions)
        positions = positions + motion.displacement(rng.uniform(lowest, highest), rng)
        return labelled_frame(labeler, numbers, positions, options.max_force, subject)

    return draw
