"""Structures for the graph tests."""

from collections.abc import Callable

import numpy as np
import pytest

from atomjax.structures import Structure

Molecule = Callable[..., Structure]


@pytest.fixture
def molecule() -> Molecule:
    """Makes labelled molecules of n atoms, no two nearer than about 0.9 Å."""

    def make(n: int, seed: int = 0, identifier: str | None = None, **fields) -> Structure:
        rng = np.random.default_rng([seed, n])
        side = int(np.ceil(n ** (1 / 3)))
        grid = 1.5 * np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)
        positions = rng.permutation(grid)[:n] + rng.uniform(-0.3, 0.3, (n, 3))
        labels = {"energy": rng.normal(), "forces": rng.normal(size=(n, 3))}
        return Structure(
            atomic_numbers=rng.choice([1, 6, 7, 8], n),
            positions=positions,
            identifier=identifier or f"molecule {n}/{seed}",
            **{**labels, **fields},
        )

    return make


@pytest.fixture
def slab() -> Callable[..., Structure]:
    """Makes rattled fcc slabs with tags, periodic in all three directions."""

    def make(size: tuple[int, int, int] = (2, 2, 3), seed: int = 0, rattle=0.1) -> Structure:
        from ase.build import fcc111

        atoms = fcc111("Cu", size, vacuum=7.0)
        rng = np.random.default_rng(seed)
        return Structure(
            atomic_numbers=atoms.numbers,
            positions=atoms.positions + rng.normal(0, rattle, (len(atoms), 3)),
            cell=np.asarray(atoms.cell),
            pbc=True,
            tags=(atoms.get_tags() == 1).astype(int),
            fixed=atoms.get_tags() == size[2],
            energy=-1.0,
            forces=rng.normal(size=(len(atoms), 3)),
            identifier=f"slab {size}/{seed}",
        )

    return make
