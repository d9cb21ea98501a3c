"""A workflow small enough for tests: random molecules, a GemNet-OC of a few thousand parameters.

As a program (``python -m tests.training.workflow WORKDIR STRUCTURES [key=value ...]``) it
pretrains, so that tests can kill it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from tests.smallest import NO_LAYERS
from tests.training.sections import train_section

MODEL = {
    "name": "gemnet_oc_tiny",
    "overrides": {
        "num_blocks": 1,
        "num_radial": 8,
        "emb_size_atom": 8,
        "emb_size_edge": 8,
        **NO_LAYERS,
        "quad_interaction": False,
        "atom_edge_interaction": False,
        "edge_atom_interaction": False,
        "atom_interaction": False,
    },
}


def write_structures(path: Path, count: int = 40, seed: int = 0) -> Path:
    """Chains of 4 to 7 atoms as extended XYZ, with labels from a simple pair potential."""
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(count):
        n = 4 + i % 4
        positions = np.cumsum(rng.normal(0.8, 0.15, (n, 3)), axis=0)
        atoms = Atoms(rng.choice([1, 6, 8], n), positions)
        vectors = positions[:, None] - positions[None]
        distances = np.linalg.norm(vectors, axis=-1) + np.eye(n)
        pair = np.exp(-distances) * (1 - np.eye(n))
        energy = 0.5 * pair.sum() + float(atoms.numbers.sum())
        forces = (pair / distances)[..., None] * vectors
        atoms.info["gap"] = float(distances.max())
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces.sum(axis=1))
        frames.append(atoms)
    write(path, frames, format="extxyz")
    return path


def make_config(structures: Path, **changes: Any) -> dict[str, Any]:
    """A config; ``changes`` are fields of its section "train" or of the sections in it."""
    config: dict[str, Any] = {
        "workflow": "pretrain",
        "seed": 3,
        "model": MODEL,
        "data": {
            "train": [
                {
                    "name": "chains",
                    "kind": "read",
                    "path": str(structures),
                    "energy_unit": "eV",
                    "length_unit": "Å",
                    "energy_kind": "total",
                    "split": {"validation": 8, "test": 8},
                    "graph": {"cutoff_molecule": 5.0, "max_neighbors": 6},
                }
            ]
        },
    }
    train: dict[str, Any] = {"batch_size": 6, "epochs": 2, "learning_rate": 3e-3}
    train |= {"scale_factor_batches": 2, "log_every": 1, **changes}
    return {**config, "train": train_section(**train)}


def run_here(workdir: Path, structures: Path, **changes: Any) -> dict[str, Any]:
    """Results of a pretraining in this process, to its end; ``changes`` as for a config."""
    from rich.console import Console

    from atomjax.runtime.run import Run
    from atomjax.training.pretrain import pretrain
    from atomjax.training.settings import RunSettings

    settings = RunSettings.from_config(make_config(structures, **changes))
    run = Run(workdir, settings, console=Console(quiet=True))
    results = pretrain(settings, run)
    run.close()
    return results


def main() -> None:
    workdir, structures, *changes = sys.argv[1:]
    from atomjax.runtime.run import Run
    from atomjax.training.pretrain import pretrain
    from atomjax.training.settings import RunSettings

    values = {key: json.loads(value) for key, _, value in (c.partition("=") for c in changes)}
    settings = RunSettings.from_config(make_config(Path(structures), **values))
    results = pretrain(settings, Run(workdir, settings))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
