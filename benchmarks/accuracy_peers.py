"""Trains another program on the files of ``benchmarks.accuracy``; run by that program's Python.

    PYTHON -P benchmarks/accuracy_peers.py mace --sets DIR --out FILE --budget CPU_SECONDS

It imports nothing of this project. Settings are those that the program documents for small data.
Of MACE, 64 channels, L = 1, 5 Å, batches of 5, and its command line's learning rate, AMSGrad and
averaging, in float32 (its default is float64, which takes longer); everything else is its command
line's default. Of NequIP, its tutorial's: 4 layers of 32 features, L = 1, 5 Å, batches of 5, Adam
at 0.01 with reduction on a plateau, averaging with 0.999; only its early stopping is left out, as
the budget ends the training.

How long an epoch takes is told by trainings of 2 and of 4 epochs; as many as fit the budget are
then trained. Reading, building the model and the tables of errors are not counted, for either.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Epochs of the two short trainings.
PILOTS = (2, 4)
BATCH_SIZE = 5  # of both
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
        # The first training in a process also compiles.
        train(1, folder / "first")
        length = train_for(budget, train, folder, sets)
        model = folder / "run" / "peer.model"
        frames = read_frames(sets / "test.xyz")
        calculator = MACECalculator(model_paths=str(model), device="cpu", default_dtype="float32")
        result = measure(calculator, frames)
        parameters = sum(p.numel() for p in calculator.models[0].parameters())
    version = f"mace-torch {importlib.metadata.version('mace-torch')}"
    return {"version": version, "parameters": parameters, **length, **result}


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
        "default_dtype": "float32",
        "energy_key": "REF_energy",
        "forces_key": "REF_forces",
        "num_channels": 64,
        "max_L": 1,
        "r_max": 5.0,
        "batch_size": BATCH_SIZE,
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


def run_nequip(sets: Path, budget: float, seed: int) -> dict[str, Any]:
    """NequIP, trained by its own command, and read back by its calculator."""
    NequIPCalculator = importlib.import_module("nequip.integrations.ase").NequIPCalculator

    def train(epochs: int, folder: Path) -> float:
        folder.mkdir()
        config = nequip_config(sets, folder, epochs, seed)
        # JSON is YAML, too.
        (folder / "peer.yaml").write_text(json.dumps(config))
        words = ["nequip.scripts.train", "-cp", str(folder), "-cn", "peer"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-P", "-m", *words], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        length = train_for(budget, train, folder, sets)
        # Its compiler refuses molecules, whose stress is not a number.
        best = folder / "run" / "best.ckpt"
        calculator = NequIPCalculator._from_saved_model(str(best), device="cpu")
        result = measure(calculator, read_frames(sets / "test.xyz"))
        parameters = sum(p.numel() for p in calculator.model.parameters())
    version = f"nequip {importlib.metadata.version('nequip')}"
    return {"version": version, "parameters": parameters, **length, **result}


def nequip_config(sets: Path, folder: Path, epochs: int, seed: int) -> dict[str, Any]:
    """The config of NequIP's tutorial for the files of a set, without early stopping."""
    symbols, energies = fit_elements(read_frames(sets / "train.xyz"))
    cutoff = 5.0
    validated = "val0_epoch/weighted_sum"
    metrics = {
        "_target_": "nequip.train.EnergyForceMetrics",
        "coeffs": {"total_energy_mae": 1.0, "forces_mae": 1.0},
    }
    loader = {"_target_": "torch.utils.data.DataLoader", "num_workers": 0}
    transforms = "nequip.data.transforms"
    return {
        "run": ["train"],
        "hydra": {"run": {"dir": str(folder)}},
        "data": {
            "_target_": "nequip.data.datamodule.ASEDataModule",
            "seed": seed,
            "train_file_path": str(sets / "train.xyz"),
            "val_file_path": str(sets / "validation.xyz"),
            "transforms": [
                {
                    "_target_": f"{transforms}.ChemicalSpeciesToAtomTypeMapper",
                    "model_type_names": symbols,
                },
                {"_target_": f"{transforms}.NeighborListTransform", "r_max": cutoff},
            ],
            "train_dataloader": {**loader, "batch_size": BATCH_SIZE, "shuffle": True},
            "val_dataloader": {**loader, "batch_size": 10},
            "stats_manager": {
                "_target_": "nequip.data.CommonDataStatisticsManager",
                "dataloader_kwargs": {"batch_size": 10},
                "type_names": symbols,
            },
        },
        "trainer": {
            "_target_": "lightning.Trainer",
            "accelerator": "cpu",
            "max_epochs": epochs,
            "logger": False,
            "enable_progress_bar": False,
            "callbacks": [
                {
                    "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "monitor": validated,
                    "dirpath": str(folder),
                    "filename": "best",
                }
            ],
        },
        "training_module": {
            "_target_": "nequip.train.EMALightningModule",
            "ema_decay": 0.999,
            "loss": {
                "_target_": "nequip.train.EnergyForceLoss",
                "per_atom_energy": True,
                "coeffs": {"total_energy": 1.0, "forces": 1.0},
            },
            "val_metrics": metrics,
            "train_metrics": metrics,
            "test_metrics": metrics,
            "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
            "lr_scheduler": {
                "scheduler": {
                    "_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau",
                    "factor": 0.6,
                    "patience": 5,
                    "threshold": 0.2,
                    "min_lr": 1e-6,
                },
                "monitor": validated,
                "interval": "epoch",
                "frequency": 1,
            },
            "model": {
                "_target_": "nequip.model.NequIPGNNModel",
                "seed": seed,
                "model_dtype": "float32",
                "compile_mode": "eager",
                "type_names": symbols,
                "r_max": cutoff,
                "num_bessels": 8,
                "bessel_trainable": False,
                "polynomial_cutoff_p": 6,
                "num_layers": 4,
                "l_max": 1,
                "parity": True,
                "num_features": 32,
                "radial_mlp_depth": 2,
                "radial_mlp_width": 64,
                "avg_num_neighbors": "${training_data_stats:num_neighbors_mean}",
                "per_type_energy_scales": "${training_data_stats:per_type_forces_rms}",
                "per_type_energy_shifts": energies,
                "per_type_energy_scales_trainable": False,
                "per_type_energy_shifts_trainable": False,
                "pair_potential": {
                    "_target_": "nequip.nn.pair_potential.ZBL",
                    "units": "metal",
                    "chemical_species": symbols,
                },
            },
        },
    }


def fit_elements(frames: list[Any]) -> tuple[list[str], dict[str, float]]:
    """The elements of the frames and their energies in eV by least squares, as MACE takes them."""
    import numpy as np

    symbols = sorted({symbol for atoms in frames for symbol in atoms.get_chemical_symbols()})
    counts = [[atoms.get_chemical_symbols().count(s) for s in symbols] for atoms in frames]
    energies = [atoms.info["REF_energy"] for atoms in frames]
    fit = np.linalg.lstsq(np.array(counts, float), np.array(energies), rcond=None)[0]
    return symbols, dict(zip(symbols, map(float, fit), strict=True))


def train_for(
    budget: float, train: Callable[[int, Path], float], folder: Path, sets: Path
) -> dict[str, float]:
    """Train for as many epochs as fit a budget, in the folder "run"; steps and CPU seconds.

    Args:
        budget: CPU seconds.
        train: function of (epochs, folder to make) that returns the CPU seconds that it took.
        folder: takes the folders of this training and of two short ones that are compared.
        sets: folder with train.xyz.
    """
    short, longer = (train(epochs, folder / f"pilot_{epochs}") for epochs in PILOTS)
    epoch = (longer - short) / (PILOTS[1] - PILOTS[0])
    fixed = short - PILOTS[0] * epoch
    epochs = max(1, round(budget / epoch))
    seconds = train(epochs, folder / "run") - fixed
    steps = epochs * -(-len(read_frames(sets / "train.xyz")) // BATCH_SIZE)
    return {"steps": steps, "cpu_seconds": seconds, "steps_per_second": steps / seconds}


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


PROGRAMS: dict[str, Callable[[Path, float, int], dict[str, Any]]] = {
    "mace": run_mace,
    "nequip": run_nequip,
}


if __name__ == "__main__":
    main()
