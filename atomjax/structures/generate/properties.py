"""Relaxed small organics with scalar properties, in the image of QM9: GFN2-xTB.

Molecules are those of the library and what small groups in place of their hydrogens make of them.
Targets: dipole (D), homo, lumo, gap (eV), energy (eV, total) and atomization_energy (eV, positive
where the molecule is bound; against free atoms of the same method in their ground-state spin).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from atomjax.structures.generate.errors import GenerateError, LabelError
from atomjax.structures.generate.geometry import ThermalMotion, bonds, relax
from atomjax.structures.generate.labels import (
    XtbLabeler,
    check_force,
    electronic_properties,
    label_of,
)
from atomjax.structures.generate.molecules import embed, enumerate_smiles
from atomjax.structures.generate.pool.tasks import check_range, shuffled
from atomjax.structures.structure import Structure

PACKAGES = ("tblite", "rdkit")
LABELS = "{method}"
# Molecules in one task: each is cheap, so tasks are made of several.
MOLECULES_PER_TASK = 10
SPARE_PER_TASK = 5
TRIES_PER_MOLECULE = 3
UNPAIRED = {1: 1, 6: 2, 7: 3, 8: 2}


@dataclass(frozen=True)
class Options:
    """Options for relaxed molecules with scalar properties.

    Attributes:
        heavy_atoms: smallest and largest number of atoms other than hydrogen.
        temperature: K; thermal motion added to the relaxed geometry, 0 for none.
        max_force: eV/Å; a geometry with a larger force on an atom is dropped.
        method: "GFN2-xTB" or "GFN1-xTB".
    """

    heavy_atoms: tuple[int, ...] = (2, 9)
    temperature: float = 0.0
    max_force: float = 30.0
    method: str = "GFN2-xTB"

    def __post_init__(self) -> None:
        check_range("properties: heavy_atoms", self.heavy_atoms, 1)


def plan(options: Options, count: int, seed: int) -> list[tuple[str, int]]:
    """Groups of molecules with some to spare, all different as long as there are enough."""
    smallest, largest = options.heavy_atoms
    groups = -(-count // MOLECULES_PER_TASK)
    needed = groups * (MOLECULES_PER_TASK + SPARE_PER_TASK)
    molecules = enumerate_smiles(smallest, largest, needed)
    if not molecules:
        raise GenerateError(f"properties: no molecule has {smallest} to {largest} heavy atoms")
    # More structures than molecules: further conformers of each.
    chosen = list(islice(cycle(shuffled(molecules, seed)), needed))
    return [
        (" ".join(chosen[i::groups]), count // groups + (i < count % groups)) for i in range(groups)
    ]


def begin(subject: str, options: Options, rng: np.random.Generator) -> Callable[[], Structure]:
    """Draws one structure of each molecule in `subject`, SMILES between spaces.

    A molecule that fails a few times (some do not exist in this method) gives way to the next.
    """
    waiting = cycle(subject.split())
    atoms: dict[int, float] = {}
    current, failures = next(waiting), 0

    def draw() -> Structure:
        nonlocal current, failures
        try:
            structure = _describe(current, options, rng, atoms)
        except LabelError:
            failures += 1
            if failures == TRIES_PER_MOLECULE:
                current, failures = next(waiting), 0
            raise
        current, failures = next(waiting), 0
        return structure

    return draw


def _describe(
    smiles: str, options: Options, rng: np.random.Generator, atoms: dict[int, float]
) -> Structure:
    molecule = embed(smiles, rng)
    numbers = molecule.atomic_numbers
    labeler = XtbLabeler(options.method, numbers)
    positions, _ = relax(labeler, numbers, molecule.positions, max_force=0.03, steps=150)
    if bonds(numbers, positions) != bonds(numbers, molecule.positions):
        raise LabelError("the molecule reacted")
    if options.temperature > 0:
        motion = ThermalMotion(numbers, positions)
        positions = positions + motion.displacement(options.temperature, rng)
    result = labeler.solve(positions)
    label = check_force(label_of(result), options.max_force)
    free = sum(free_atom_energy(int(z), options.method, atoms) for z in numbers)
    return Structure(
        atomic_numbers=numbers,
        positions=positions,
        energy=label.energy,
        forces=label.forces,
        targets={
            **electronic_properties(result),
            "energy": label.energy,
            "atomization_energy": free - label.energy,
        },
        class_key=smiles,
    )


def free_atom_energy(atomic_number: int, method: str, known: dict[int, float]) -> float:
    """Energy of a lone atom in its ground-state spin, eV; remembered in `known`."""
    if atomic_number not in known:
        labeler = XtbLabeler(
            method, np.array([atomic_number]), unpaired=UNPAIRED.get(atomic_number, 0)
        )
        known[atomic_number] = labeler.label(np.zeros((1, 3))).energy
    return known[atomic_number]
