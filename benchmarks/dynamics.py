"""Energy conservation of dynamics with a trained model of conservative forces.

    python -m benchmarks.dynamics CHECKPOINT FILE [--format archive] [--out dynamics.json]

ASE's velocity Verlet moves the first structure of a file, from 300 K at several time steps, each
with the same start. Written are the largest deviation of the total energy, its drift (slope of a
line through it), and for comparison the range of the potential energy; beside the file a figure.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet

import atomjax
from atomjax.data.given import structures_of
from atomjax.inference.calculator import AtomjaxCalculator
from atomjax.reporting.drawing import make_figure, save_figure
from atomjax.structures import Structure
from atomjax.structures.readers import to_atoms
from benchmarks.measure import machine
from benchmarks.rows import write_result

TIMESTEPS = (1.0, 0.5, 0.25)  # fs
TEMPERATURE = 300.0  # K; half of it is soon potential energy


def trajectory(
    calculator: AtomjaxCalculator, structure: Structure, timestep: float, length: float
) -> dict[str, Any]:
    """Energies of one trajectory, eV, at times in fs."""
    atoms = to_atoms(structure)
    atoms.calc = calculator
    rng = np.random.default_rng(0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE, rng=rng)
    Stationary(atoms)
    dynamics = VelocityVerlet(atoms, timestep=timestep * units.fs)
    total, potential = [atoms.get_total_energy()], [atoms.get_potential_energy()]
    for _ in range(round(length / timestep)):
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
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("checkpoint", help="run or checkpoint of a model with conservative forces")
    add("file", help="file whose first structure moves")
    add("--format", help="its format, where the name does not tell")
    add("--femtoseconds", type=float, default=250.0, help="length (default: %(default)g)")
    add("--out", type=Path, help="results as JSON, and the figure beside it")
    options = parser.parse_args()
    model = atomjax.load(options.checkpoint)
    given = {} if options.format is None else {"format": options.format}
    structure = structures_of(options.file, **given)[0]
    calculator, length = model.calculator(), options.femtoseconds
    found = {step: trajectory(calculator, structure, step, length) for step in TIMESTEPS}
    results = {
        "command": "python -m benchmarks.dynamics CHECKPOINT FILE",
        "machine": machine(),
        "model": model.metadata["model"]["name"],
        "trained_on": model.metadata["structures"],
        "structure": structure.formula,
        "temperature_kelvin": TEMPERATURE,
        "femtoseconds": length,
        "timesteps": {f"{timestep:g}": summarise(one) for timestep, one in found.items()},
    }
    print(json.dumps(results, indent=2))
    if options.out is not None:
        write_result(options.out, results)
        figure, (ax,) = make_figure(1, 6.5)
        for timestep, one in found.items():
            ax.plot(one["times"], 1e3 * one["deviation"], linewidth=0.8, label=f"{timestep:g} fs")
        ax.set(xlabel="time (fs)", ylabel="total energy - start (meV)")
        ax.legend(frameon=False, title="time step")
        save_figure(figure, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
