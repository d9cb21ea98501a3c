"""The sets of ``benchmarks.accuracy``, as the same extended XYZ files for all programs.

A molecule (aspirin, GFN2-xTB, 50 labels), a metal (copper, strained and rattled cells, EMT, 100
labels) and two of density functional theory: a Li-Mn-O cathode (100 labels) and dimers of small
organic molecules (S66x8, 80 labels, dimers of the test unseen in training). The last two are read
from ``$ATOMJAX_SHARED/data``. Labels are written under ASE's names and, for programs that want
their own, as REF_energy and REF_forces.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ase.build
import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import write

from atomjax.runtime.files import replacing_folder
from atomjax.runtime.progress import Display
from atomjax.structures import Structure
from atomjax.structures.generate import GenerateSpec, generate_with_report
from atomjax.structures.readers import read, to_atoms
from atomjax.structures.splits import split_indices

PARTS = ("train", "validation", "test")
LATTICE_CONSTANT = 3.59  # Å, of copper in ASE's EMT


def aspirin(cache: Path) -> tuple[Sequence[Structure], dict[str, Any]]:
    """250 frames of a molecular dynamics at 500 K."""
    spec = GenerateSpec("dynamics", 250, 0, {"molecule": "aspirin"})
    frames, _ = generate_with_report(spec, cache, 1, Display(None))
    return frames, {"train": 50, "validation": 50, "test": 150}


def copper(cache: Path) -> tuple[Sequence[Structure], dict[str, Any]]:
    """300 cells of 32 atoms: strained by 2 % in each component, rattled by 0.03 to 0.15 Å."""
    del cache
    rng = np.random.default_rng(0)
    frames = []
    for i in range(300):
        atoms = ase.build.bulk("Cu", "fcc", a=LATTICE_CONSTANT, cubic=True) * (2, 2, 2)
        strain = np.eye(3) + rng.normal(0, 0.02, (3, 3))
        atoms.set_cell(atoms.cell.array @ (strain + strain.T) / 2, scale_atoms=True)
        atoms.positions += rng.normal(0, rng.uniform(0.03, 0.15), atoms.positions.shape)
        atoms.calc = EMT()
        frames.append(
            Structure(
                atomic_numbers=atoms.numbers,
                positions=atoms.positions,
                cell=atoms.cell.array,
                pbc=True,
                energy=atoms.get_potential_energy(),
                forces=atoms.get_forces(),
                identifier=f"copper:{i}",
            )
        )
    return frames, {"train": 100, "validation": 50, "test": 150}


def li_mn_o(cache: Path) -> tuple[Sequence[Structure], dict[str, Any]]:
    """300 periodic frames of 8 to 126 atoms, of 20 compositions."""
    del cache
    frames = read(_shared("Li_electrode_finetune.xyz"), "extxyz")
    return frames, {"train": 100, "validation": 50, "test": 150}


def s66x8(cache: Path) -> tuple[Sequence[Structure], dict[str, Any]]:
    """66 dimers at 8 distances, ωB97x."""
    del cache
    frames = read(_shared("s66x8_wb97x6-31gd.h5"), "comp6", energy_unit="Ha")
    return frames, {"train": 80, "validation": 80, "test": 160, "by": "class_key"}


SETS: dict[str, Callable[[Path], tuple[Sequence[Structure], dict[str, Any]]]] = {
    "aspirin": aspirin,
    "copper": copper,
    "li_mn_o": li_mn_o,
    "s66x8": s66x8,
}


def write_set(name: str, folder: Path) -> Path:
    """The folder with the files of a set, made where they are not there yet."""
    place = folder / name
    if all((place / f"{part}.xyz").exists() for part in PARTS):
        return place
    frames, sizes = SETS[name](folder / "cache")
    by = sizes.pop("by", "structure")
    # The held-out parts come first, as in a config's split.
    order = {part: sizes[part] for part in ("test", "validation", "train")}
    with replacing_folder(place) as made:
        made.mkdir(parents=True)
        for part, indices in split_indices(frames, order, by=by).items():
            chosen = [with_both_names(frames[i]) for i in indices]
            write(made / f"{part}.xyz", chosen, format="extxyz")
    return place


def with_both_names(structure: Structure) -> Atoms:
    """ASE's atoms with their labels, under both sorts of names."""
    atoms = to_atoms(structure)
    atoms.info["REF_energy"] = structure.energy
    atoms.arrays["REF_forces"] = np.array(structure.forces)
    return atoms


def _shared(name: str) -> Path:
    path = Path(os.environ.get("ATOMJAX_SHARED", "shared")) / "data" / name
    if not path.is_file():
        raise SystemExit(f"{path} is not there; set ATOMJAX_SHARED, or leave the set out (--sets)")
    return path
