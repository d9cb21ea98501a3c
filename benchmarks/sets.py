"""Sets of structures for benchmarks, in the image of ANI-1x and of OC20."""

import ase.build
import numpy as np

from atomjax.structures import Structure


def molecules(count: int) -> list[Structure]:
    """Shaken organic molecules of 9 to 21 atoms, 15 on average; carbon, hydrogen, oxygen."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(3) * 1.4] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    made = []
    for i in range(count):
        n = int(rng.integers(9, 22))
        made.append(
            Structure(
                atomic_numbers=rng.choice([1, 6, 8], n, p=[0.5, 0.4, 0.1]),
                positions=rng.permutation(grid)[:n] + rng.normal(0, 0.1, (n, 3)),
                energy=-1000.0 * n + float(rng.normal()),
                forces=rng.normal(size=(n, 3)),
                class_key=f"class {i % 50}",
                source="ani1x",
                identifier=f"ani1x-release.h5:class {i % 50}:{i}",
            )
        )
    return made


def slabs(count: int) -> list[Structure]:
    """Shaken copper slabs of 80 atoms, periodic in three directions, half of the atoms fixed."""
    rng = np.random.default_rng(0)
    atoms = ase.build.fcc111("Cu", (4, 4, 5), vacuum=10.0, periodic=True)
    tags = np.where(atoms.get_tags() == 1, 1, 0)
    return [
        Structure(
            atomic_numbers=atoms.numbers,
            positions=atoms.positions + rng.normal(0, 0.05, atoms.positions.shape),
            cell=atoms.cell.array,
            pbc=True,
            tags=tags,
            fixed=atoms.get_tags() > 3,
            energy=float(rng.normal()),
            forces=rng.normal(size=atoms.positions.shape),
            source="oc20",
            identifier=f"data.0000.lmdb:{i}:sid{i}:fid7",
        )
        for i in range(count)
    ]
