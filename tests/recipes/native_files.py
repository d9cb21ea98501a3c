"""Small files in the native layouts of ANI-1x and of the six downstream benchmarks.

Labels come from a pair potential, so that there is something to learn.
"""

import csv
import functools
import gzip
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from ase.io import write

HARTREE, BOHR, KCAL = 27.211386245981, 0.529177210544, 0.0433641042
CHAIN = np.array([6, 8, 1, 6, 1])


def chains(count: int, atoms: int, seed: int = 0) -> np.ndarray:
    """[count, atoms, 3] Å positions of bent chains."""
    rng = np.random.default_rng(seed)
    steps = np.array([0.9, 0.3, 0.2]) + 0.25 * rng.normal(size=(count, atoms, 3))
    return np.cumsum(steps, axis=1)


def labels(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies [count] eV and forces [count, N, 3] eV/Å of Σ exp(-r)."""
    vectors = positions[:, :, None] - positions[:, None]
    distances = np.linalg.norm(vectors, axis=-1) + np.eye(positions.shape[1])
    pair = np.exp(-distances) * (1 - np.eye(positions.shape[1]))
    forces = (pair / distances)[..., None] * vectors
    return 0.5 * pair.sum(axis=(1, 2)), forces.sum(axis=2)


def write_ani1x(root: Path) -> Path:
    """Twelve formulas, six conformations each."""
    path = root / "ani1x" / "ani1x-release.h5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        for i in range(12):
            numbers = [6] * (1 + i % 4) + [8] * (1 + i // 4) + [1] * 3
            positions = chains(6, len(numbers), seed=i)
            energy, forces = labels(positions)
            group = file.create_group(f"formula{i}")
            group["atomic_numbers"] = np.array(numbers, np.uint8)
            group["coordinates"] = positions
            group["wb97x_dz.energy"] = (energy - 10.0 * len(numbers)) / HARTREE
            group["wb97x_dz.forces"] = forces / HARTREE
    return path


def write_rmd17(root: Path) -> Path:
    """1,100 frames and the first official division."""
    folder = root / "rmd17" / "npz_data"
    folder.mkdir(parents=True)
    positions = chains(1100, len(CHAIN))
    energy, forces = labels(positions)
    arrays = {"nuclear_charges": CHAIN, "coords": positions}
    path = folder / "rmd17_aspirin.npz"
    np.savez(path, energies=energy / KCAL, forces=forces / KCAL, **arrays)
    splits = root / "rmd17" / "splits"
    splits.mkdir()
    np.savetxt(splits / "index_train_01.csv", np.arange(1000), fmt="%d")
    np.savetxt(splits / "index_test_01.csv", np.arange(1000, 1100), fmt="%d")
    return path


def write_md22(root: Path) -> Path:
    """6,200 frames, of which the benchmark trains and validates on 6,000."""
    path = root / "md22" / "md22_Ac-Ala3-NHMe.npz"
    path.parent.mkdir(parents=True)
    positions = chains(6200, len(CHAIN))
    energy, forces = labels(positions)
    np.savez(path, z=CHAIN, R=positions, E=energy[:, None] / KCAL, F=forces / KCAL)
    return path


def write_spice(root: Path) -> Path:
    """Two molecules of each subset."""
    path = root / "spice" / "SPICE-1.1.4.hdf5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        for i, subset in enumerate(["Dipeptides", "Solvated Amino Acids"] * 2):
            positions = chains(25, len(CHAIN), seed=i)
            energy, forces = labels(positions)
            group = file.create_group(f"molecule-{i}")
            name = f"SPICE {subset} Single Points Dataset v1.{i // 2}"
            group["subset"] = np.array([name.encode()], dtype=object)
            group["atomic_numbers"] = CHAIN.astype(np.int16)
            group["conformations"] = (positions / BOHR).astype(np.float32)
            group["dft_total_energy"] = energy / HARTREE - 76.0
            group["formation_energy"] = energy / HARTREE
            group["dft_total_gradient"] = -forces / HARTREE * BOHR
    return path


def write_qm9(root: Path) -> Path:
    """130 molecules as published: one file each."""
    folder = root / "qm9"
    folder.mkdir(parents=True)
    symbols = {1: "H", 6: "C", 8: "O"}
    for i, positions in enumerate(chains(130, len(CHAIN)), start=1):
        energy = labels(positions[None])[0][0]
        # gdb, A, B, C, mu, alpha, homo, lumo, gap, r2, zpve, U0, U, H, G, Cv
        numbers = [1.0] * 3 + [1.0, 13.0, -0.3, 0.1, energy / 10, 35.0, 0.04]
        numbers += [energy / 27 - 40 + shift for shift in (0.0, 0.01, 0.02, -0.03)] + [6.4]
        atoms = [
            f"{symbols[int(z)]} {x:.8f} {y:.8f} {w:.8f} 0.0"
            for z, (x, y, w) in zip(CHAIN, positions, strict=True)
        ]
        body = [str(len(CHAIN)), f"gdb {i} " + " ".join(f"{n:.8f}" for n in numbers), *atoms]
        text = "\n".join([*body, "1000.0", "CO CO", "InChI InChI", ""])
        (folder / f"dsgdb9nsd_{i:06d}.xyz").write_text(text)
    (folder / "uncharacterized.txt").write_text("fell apart\n====\n  2  C  0.5\n====\n")
    return folder


def write_qmof(root: Path) -> Path:
    """Thirty rock-salt-like crystals and their band gaps."""
    folder = root / "qmof" / "qmof_database"
    (folder / "relaxed_structures").mkdir(parents=True)
    with (folder / "qmof.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["qmof_id", "outputs.pbe.energy_total", "outputs.pbe.bandgap"])
        for i in range(30):
            length = 7.0 + i / 20
            cell = np.diag([length, length, length + 1])
            fractions = [[0, 0, 0], [0.25, 0.25, 0.2]]
            atoms = Atoms("ZnO", scaled_positions=fractions, cell=cell, pbc=True)
            write(folder / "relaxed_structures" / f"qmof-{i:07x}.cif", atoms)
            writer.writerow([f"qmof-{i:07x}", -500.0, length - 6.5])
    return folder


def write_matbench(root: Path, task: str = "phonons") -> Path:
    """Forty crystals and the frequency of their last phonon peak, or whether they are metals."""

    def crystal(length: float) -> dict[str, Any]:
        sites = [
            {"species": [{"element": element, "occu": 1}], "abc": place, "label": element}
            for element, place in (("Na", [0.0, 0.0, 0.0]), ("Cl", [0.5, 0.5, 0.45]))
        ]
        return {"@class": "Structure", "lattice": {"matrix": np.diag([length] * 3).tolist()},
                "sites": sites}  # fmt: skip

    path = root / "matbench" / f"matbench_{task}.json.gz"
    path.parent.mkdir(parents=True)
    column = {"phonons": "last phdos peak", "mp_is_metal": "is_metal"}[task]
    values = [900.0 - 10 * i if task == "phonons" else i % 2 == 0 for i in range(40)]
    rows = [[crystal(4.0 + i / 20), value] for i, value in enumerate(values)]
    table = {"index": list(range(40)), "columns": ["structure", column], "data": rows}
    path.write_bytes(gzip.compress(json.dumps(table).encode()))
    return path


WRITERS = {
    "rmd17.py:aspirin": write_rmd17,
    "md22.py:Ac-Ala3-NHMe": write_md22,
    "spice.py:solvated_amino_acids": write_spice,
    "qm9.py:gap": write_qm9,
    "qmof.py:small": write_qmof,
    "matbench.py:phonons": write_matbench,
    "matbench.py:mp_is_metal": functools.partial(write_matbench, task="mp_is_metal"),
    "qm9.py:all": write_qm9,
}
