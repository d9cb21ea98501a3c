"""Adsorbates, and how they come to lie on surfaces and clusters."""

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.data import covalent_radii
from ase.geometry import get_distances

from atomjax.structures.generate.errors import LabelError
from atomjax.structures.generate.geometry import random_rotation
from atomjax.structures.generate.labels import Label, Labeler
from atomjax.structures.structure import TAG_ADSORBATE

# An atom nearer to another than this multiple of their covalent radii was placed inside it.
OVERLAP_REACH = 0.7
# Å per eV/Å and Å: a step down the forces, and the most an atom moves in it.
DESCENT, DESCENT_LIMIT = 0.02, 0.08


def adsorbate_atoms(name: str) -> Atoms:
    """A lone adsorbate: one atom for a chemical symbol, ASE's G2 geometry otherwise."""
    return Atoms(name, positions=[(0, 0, 0)]) if name in ("H", "C", "N", "O") else molecule(name)


def place_above(
    surface: Atoms, name: str, site: np.ndarray, normal: np.ndarray, rng: np.random.Generator
) -> Atoms:
    """`surface` with an adsorbate, turned at random, so high above `site` that it just touches.

    Args:
        surface: slab or cluster to adsorb on.
        name: name of the adsorbate.
        site: [3] Å, the point from which the adsorbate rises along `normal`.
        normal: [3], of unit length, out of the surface.
        rng: for its orientation and the gap that it leaves.

    Returns:
        New atoms, the adsorbate last and tagged.
    """
    guest = adsorbate_atoms(name)
    guest.positions = (guest.positions - guest.positions[0]) @ random_rotation(rng)
    touching = covalent_radii[guest.numbers][:, None] + covalent_radii[surface.numbers]
    gap = rng.uniform(0.85, 1.15)
    for height in np.arange(0.5, 6.0, 0.1):
        guest_positions = guest.positions + site + height * normal
        _, lengths = get_distances(
            guest_positions, surface.positions, cell=surface.cell, pbc=surface.pbc
        )
        if (lengths >= gap * touching).all():
            break
    guest.positions = guest_positions
    guest.set_tags(TAG_ADSORBATE)
    return surface + guest


def descend(labeler: Labeler, atoms: Atoms, free: np.ndarray, steps: int) -> Label:
    """Move free atoms [N] down their forces in place; the label where they end."""
    label = labeler.label(atoms.positions)
    for _ in range(steps):
        step = DESCENT * label.forces[free]
        longest = np.linalg.norm(step, axis=1).max(initial=1e-12)
        atoms.positions[free] += step * min(1.0, DESCENT_LIMIT / longest)
        label = labeler.label(atoms.positions)
    return label


def check_overlaps(atoms: Atoms) -> None:
    """Raise LabelError where atoms overlap, periodic images included."""
    _, lengths = get_distances(atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    radii = covalent_radii[atoms.numbers]
    np.fill_diagonal(lengths, np.inf)
    if (lengths < OVERLAP_REACH * (radii[:, None] + radii)).any():
        raise LabelError("atoms too close")
