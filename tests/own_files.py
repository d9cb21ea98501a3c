"""Files of labelled molecules, and settings with which a model of them is trained in seconds."""

from pathlib import Path
from typing import Any

import ase.build
import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from tests.smallest import NO_LAYERS

# Changes to the settings that are chosen for small data.
SMALL: dict[str, Any] = {
    **{f"model.overrides.{name}": value for name, value in NO_LAYERS.items()},
    "model.overrides.num_blocks": 1,
    "model.overrides.emb_size_edge": 16,
    "train.epochs": 6,
    "train.batching.scale_factor_batches": 1,
}
# The shortest finetuning that the warm-up leaves steps of.
SHORT: dict[str, Any] = {"train.epochs": 30}


def labelled(count: int, seed: int, molecule: str = "CH3CH2OH") -> list[Atoms]:
    """Shaken molecules with energies and forces of EMT."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        atoms = ase.build.molecule(molecule)
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    return frames


def write_files(folder: Path) -> None:
    """train.xyz, validation.xyz, test.xyz, frames.xyz and frames16.xyz."""
    counts = {"train": 20, "validation": 6, "test": 8, "frames": 3, "frames16": 16}
    for seed, (name, count) in enumerate(counts.items()):
        write(folder / f"{name}.xyz", labelled(count, seed), format="extxyz")
