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
    return [_slab((4, 4, 5), i, rng) for i in range(count)]


def spread_slabs(count: int) -> list[Structure]:
    """The same with 20 to 200 atoms, 90 on average."""
    rng = np.random.default_rng(0)
    sizes = [(x, y, z) for x in range(2, 6) for y in range(2, 9) for z in (4, 5, 6)]
    fitting = [size for size in sizes if 20 <= np.prod(size) <= 200]
    return [_slab(fitting[rng.integers(len(fitting))], i, rng) for i in range(count)]


def _slab(size: tuple[int, int, int], number: int, rng: np.random.Generator) -> Structure:
    atoms = ase.build.fcc111("Cu", size, vacuum=10.0, periodic=True)
    return Structure(
        atomic_numbers=atoms.numbers,
        positions=atoms.positions + rng.normal(0, 0.05, atoms.positions.shape),
        cell=atoms.cell.array,
        pbc=True,
        tags=np.where(atoms.get_tags() == 1, 1, 0),
        fixed=atoms.get_tags() > 3,
        energy=float(rng.normal()),
        forces=rng.normal(size=atoms.positions.shape),
        source="oc20",
        identifier=f"data.0000.lmdb:{number}:sid{number}:fid7",
    )
