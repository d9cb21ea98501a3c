"""Trains another program on the files of ``benchmarks.accuracy``; run by that program's Python.

    PYTHON -P benchmarks/accuracy_peers.py mace --sets DIR --out FILE --budget CPU_SECONDS

It imports nothing of this project. Settings are those that the program documents for small data:
of MACE, 64 channels, L = 1, 5 Å, batches of 5, and its command line's learning rate, AMSGrad and
averaging; everything else is its command line's default. Energies and forces are found by the keys
REF_energy and REF_forces.

How long an epoch takes is told by trainings of 2 and of 4 epochs; as many as fit the budget are
then trained. Reading, building the model and the tables of errors are not counted, for either.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Epochs of the two short trainings.
PILOTS = (2, 4)
# Frames that are timed in the calculator, after some that are not.
TIMED, UNTIMED = 20, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("--sets", type=Path, required=True, help="folder with train.xyz and so on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", type=float, required=True, help="CPU seconds of training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    result = PROGRAMS[options.program](options.sets.resolve(), options.budget, options.seed)
    options.out.write_text(json.dumps(result, indent=2) + "\n")


def run_mace(sets: Path, budget: float, seed: int) -> dict[str, Any]:
    """MACE, trained by its own command line in this process, and read back by its calculator."""
    # By name, since the peer is no dependency of this project.
    MACECalculator = importlib.import_module("mace.calculators").MACECalculator

    def train(epochs: int, folder: Path) -> float:
        began = time.process_time()
        mace_command(sets, folder, epochs, seed)
        return time.process_time() - began

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The first training in a process also compiles; the two after it are compared.
        train(1, folder / "first")
        short, longer = (train(epochs, folder / f"pilot_{epochs}") for epochs in PILOTS)
        epoch = (longer - short) / (PILOTS[1] - PILOTS[0])
        fixed = short - PILOTS[0] * epoch
        epochs = max(1, round(budget / epoch))
        seconds = train(epochs, folder / "run") - fixed
        model = folder / "run" / "peer.model"
        frames = read_frames(sets / "test.xyz")
        calculator = MACECalculator(model_paths=str(model), device="cpu", default_dtype="float64")
        result = measure(calculator, frames)
        parameters = sum(p.numel() for p in calculator.models[0].parameters())
    steps = epochs * -(-len(read_frames(sets / "train.xyz")) // 5)
    return {
        "version": f"mace-torch {importlib.metadata.version('mace-torch')}",
        "parameters": parameters,
        "steps": steps,
        "cpu_seconds": seconds,
        "steps_per_second": steps / seconds,
        **result,
    }


def mace_command(sets: Path, folder: Path, epochs: int, seed: int) -> None:
    """One run of MACE's command line, with its best model by validation in ``folder``."""
    run = importlib.import_module("mace.cli.run_train").run
    build_default_arg_parser = importlib.import_module("mace.tools").build_default_arg_parser
    folder.mkdir()
    arguments = {
        "name": "peer",
        "train_file": sets / "train.xyz",
        "valid_file": sets / "validation.xyz",
        "E0s": "average",
        "energy_key": "REF_energy",
        "forces_key": "REF_forces",
        "num_channels": 64,
        "max_L": 1,
        "r_max": 5.0,
        "batch_size": 5,
        "valid_batch_size": 10,
        "max_num_epochs": epochs,
        "ema_decay": 0.99,
        "seed": seed,
        "device": "cpu",
        "plot": False,
        "work_dir": folder,
    }
    words = [f"--{key}={value}" for key, value in arguments.items()]
    here = Path.cwd()
    os.chdir(folder)
    try:
        run(build_default_arg_parser().parse_args([*words, "--ema", "--amsgrad"]))
    finally:
        os.chdir(here)


def read_frames(path: Path) -> list[Any]:
    """The frames of a file as ASE's atoms."""
    from ase.io import read

    return list(read(path, ":"))


def measure(calculator: Any, frames: list[Any]) -> dict[str, float]:
    """Errors on labelled frames, and the CPU time of a frame in an ASE calculator."""
    import numpy as np

    energy, force, count, seconds = 0.0, 0.0, 0, []
    for atoms in frames:
        wanted = atoms.info["REF_energy"], atoms.arrays["REF_forces"]
        atoms.calc = calculator
        began = time.process_time()
        found = atoms.get_potential_energy(), atoms.get_forces()
        seconds.append(time.process_time() - began)
        energy += abs(found[0] - wanted[0]) / len(atoms)
        force += float(np.abs(found[1] - wanted[1]).sum())
        count += 3 * len(atoms)
    timed = seconds[UNTIMED : UNTIMED + TIMED]
    return {
        "force_mae_mev": 1e3 * force / count,
        "energy_mae_mev_per_atom": 1e3 * energy / len(frames),
        "calculator_seconds": float(np.median(timed)),
    }


PROGRAMS: dict[str, Callable[[Path, float, int], dict[str, Any]]] = {"mace": run_mace}


if __name__ == "__main__":
    main()
