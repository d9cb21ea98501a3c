"""Predictions as a file: ``python -m tests.kills.predict RUN STRUCTURES FOLDER``."""

import sys
from pathlib import Path

import numpy as np

from atomjax.inference.predict import load_predictor
from atomjax.runtime.files import write_npz
from atomjax.structures.readers import read


def main(run: str, structures: str, folder: str) -> None:
    """Predicts energies and forces, structure by structure."""
    predictor = load_predictor(run, batch_size=1, slack=2.0)
    results = [predictor([one])[0] for one in read(structures, "extxyz", energy_unit="eV")]
    arrays = {
        "energy": np.array([result.energy for result in results]),
        "forces": np.concatenate(
            [result.forces for result in results if result.forces is not None]
        ),
    }
    write_npz(Path(folder) / "predictions.npz", arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
