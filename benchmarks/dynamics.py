"""Energy conservation of dynamics with a model of conservative forces.

    python -m benchmarks.dynamics --cache DIR [--out docs/results/dynamics.json]

`atomjax.finetune` trains a model from random weights, with the settings that it chooses but fewer
steps, on 50 frames of a dynamics of ethanol that is labelled here (GFN2-xTB). ASE's velocity Verlet
then moves ethanol for half a picosecond from 300 K at several time steps, each from the same start.
Written are the largest deviation of the total energy, its drift (slope of a line through it), and
for comparison the range of the potential energy; beside the file a figure, dynamics.png.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import ase.build
import numpy as np
from ase import units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

import atomjax
from atomjax.reporting.plots import make_figure, save_figure
from atomjax.structures.generate import generate
from benchmarks.measure import machine

TIMESTEPS = (1.0, 0.5, 0.25)  # fs
LENGTH = 500.0  # fs
TEMPERATURE = 300.0  # K; half of it is soon potential energy
SETTINGS = {"train.epochs": 60}  # a third of what is chosen
FRAMES = {"count": 120, "molecule": "ethanol", "seed": 0}


def train(cache: Path, workdir: Path) -> atomjax.Model:
    """The model, with its training data in a cache."""
    frames = generate({"kind": "dynamics", **FRAMES}, cache)
    parts = {"train": frames[:50], "validation": frames[50:70], "test": frames[70:]}
    return atomjax.finetune(None, **parts, workdir=workdir, settings=SETTINGS)


def trajectory(model: atomjax.Model, timestep: float) -> dict[str, Any]:
    """Energies of one trajectory, eV, at times in fs."""
    atoms = ase.build.molecule("CH3CH2OH")
    atoms.calc = model.calculator()
    BFGS(atoms, logfile=None).run(fmax=0.02, steps=200)
    rng = np.random.default_rng(0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE, rng=rng)
    Stationary(atoms)
    dynamics = VelocityVerlet(atoms, timestep=timestep * units.fs)
    total, potential = [atoms.get_total_energy()], [atoms.get_potential_energy()]
    for _ in range(round(LENGTH / timestep)):
        dynamics.run(1)
        total.append(atoms.get_total_energy())
        potential.append(atoms.get_potential_energy())
    times = timestep * np.arange(len(total))
    deviation = np.array(total) - total[0]
    return {"times": times, "deviation": deviation, "potential": np.array(potential)}


def summarise(found: dict[str, Any]) -> dict[str, float]:
    """The figures of one trajectory, meV."""
    slope = np.polyfit(found["times"], found["deviation"], 1)[0]
    return {
        "largest_deviation_mev": 1e3 * float(np.abs(found["deviation"]).max()),
        "drift_mev_per_picosecond": 1e6 * float(slope),
        "range_of_potential_mev": 1e3 * float(np.ptp(found["potential"])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="takes data and the training")
    parser.add_argument("--out", type=Path, help="results as JSON, and the figure beside it")
    options = parser.parse_args()
    model = train(options.cache, options.cache / "run")
    errors = json.loads((options.cache / "run" / "results.json").read_text())["test"]["own"]
    found = {timestep: trajectory(model, timestep) for timestep in TIMESTEPS}
    results = {
        "command": "python -m benchmarks.dynamics",
        "machine": machine(),
        "molecule": "ethanol",
        "frames": 50,
        "force_mae_mev_per_angstrom": errors["force_mae_mev_per_angstrom"],
        "temperature_kelvin": TEMPERATURE,
        "femtoseconds": LENGTH,
        "timesteps": {f"{timestep:g}": summarise(one) for timestep, one in found.items()},
    }
    print(json.dumps(results, indent=2))
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=2) + "\n")
        figure, (ax,) = make_figure(1, 6.5)
        for timestep, one in found.items():
            ax.plot(one["times"], 1e3 * one["deviation"], linewidth=0.8, label=f"{timestep:g} fs")
        ax.set(xlabel="time (fs)", ylabel="total energy - start (meV)")
        ax.legend(frameon=False, title="time step")
        save_figure(figure, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
