"""Small files in the native layouts of Transition-1x, OC20 and OC22."""

import json
import pickle
import shutil
import zlib
from pathlib import Path
from typing import Any

import ase.build
import h5py
import numpy as np

from tests.recipes.native_files import chains, labels, write_ani1x
from tests.structures.readers.test_lmdb import ase_row, write_graphs, write_lmdb

LEVEL = "wB97x_6-31G(d)"


def write_transition1x(root: Path) -> None:
    """Eight reactions of eight structures: six to train on, one for each other part."""
    path = root / "transition1x" / "Transition1x.h5"
    path.parent.mkdir(parents=True)
    formulas = {"C2H2O": [6, 6, 8, 1, 1], "CH3N": [6, 7, 1, 1, 1]}
    with h5py.File(path, "w") as file:
        for i, part in enumerate(["train"] * 6 + ["val", "test"]):
            formula, numbers = list(formulas.items())[i % 2]
            positions = chains(8, len(numbers), seed=i)
            energy, forces = labels(positions)
            group = file.create_group(f"data/{formula}/rxn{i:04}")
            group["atomic_numbers"] = numbers
            group["positions"] = positions
            group[f"{LEVEL}.energy"] = energy - 10.0 * sum(numbers)
            group[f"{LEVEL}.forces"] = forces
            file.require_group(f"{part}/{formula}")[f"rxn{i:04}"] = group


def slabs(count: int, oxide: bool, seed: int) -> list[dict[str, Any]]:
    """Graphs of four surface atoms, the lower two fixed, and a bent molecule of two above."""
    rng = np.random.default_rng(seed)
    surface = np.array([[0, 0, 0], [1.4, 1.4, 0], [0, 1.4, 1.8], [1.4, 0, 1.8]])
    graphs = []
    for i in range(count):
        above = np.array([[0.7, 0.7, 3.4], [1.3, 0.9, 4.4]]) + rng.normal(scale=0.1, size=(2, 3))
        positions = np.concatenate([surface, above])
        energy, forces = labels(positions[None])
        fixed = np.array([1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
        numbers = [22, 8, 22, 8, 8, 1] if oxide else [29, 29, 29, 29, 6, 8]
        graphs.append(
            {
                "pos": positions,
                "atomic_numbers": np.array(numbers, float),
                "cell": np.diag([6.0, 6.0, 15.0])[None],
                "tags": np.array([0.0, 0.0, 1.0, 1.0, 2.0, 2.0]),
                "fixed": fixed,
                "force": forces[0] * (1 - fixed[:, None]),
                "y": float(energy[0]) - (500.0 if oxide else 0.0),
                "natoms": len(numbers),
                "sid": 100 * seed + i // 4,
                "fid": i % 4,
                **({"nads": 1, "oc22": 1} if oxide else {}),
            }
        )
    return graphs


def write_oc20(root: Path) -> None:
    """Forty-eight frames to train on and eight to validate on, and the energies of reference."""
    graphs = {"train": slabs(48, False, seed=1), "val_id": slabs(8, False, seed=2)}
    for part, own in graphs.items():
        write_graphs(root / "oc20" / "s2ef" / "all" / part / "data.0000.lmdb", own)
    systems = {f"random{g['sid']}": -300.0 for own in graphs.values() for g in own}
    (root / "oc20" / "oc20_ref.pkl").write_bytes(pickle.dumps(systems))


def write_oc22(root: Path) -> None:
    """Thirty-two frames to train on and eight to validate on."""
    for part, count, seed in (("train", 32, 3), ("val_id", 8, 4)):
        path = root / "oc22" / "s2ef_total" / part / "data.0000.lmdb"
        write_graphs(path, slabs(count, True, seed), version=1)


def write_omat24(root: Path) -> None:
    """Thirty-two rattled crystals to train on and eight to validate on."""
    for part, count in (("train", 32), ("val", 8)):
        rng, rows = np.random.default_rng(count), {}
        for i in range(1, count + 1):
            atoms = ase.build.bulk("Cu", cubic=True)
            atoms.rattle(0.1, rng=rng)
            atoms.numbers = rng.choice([29, 79], len(atoms))
            energy, forces = labels(atoms.positions[None])
            rows[str(i)] = ase_row(atoms, float(energy[0]) - 100.0, True, forces[0])
        folder = root / "omat24" / part / "rattled-300-subsampled"
        following = zlib.compress(json.dumps(count + 1).encode())
        write_lmdb(folder / "data.0000.aselmdb", {**rows, "nextid": following})


def write_upstream(root: Path) -> None:
    """All sets of the pretrainings."""
    write_ani1x(root)
    write_transition1x(root)
    write_oc20(root)
    write_oc22(root)
    write_omat24(root)
    shutil.copytree(root / "oc20/s2ef/all/train", root / "oc20/s2ef/2M/train")
