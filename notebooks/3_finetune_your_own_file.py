# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% cellView="form"
# @title In Colab this installs atomjax beside the JAX that is there; elsewhere it does nothing.
import glob
import os
import shutil
import subprocess
import sys

REPOSITORY, TAG = "https://github.com/atomjax/atomjax", "v0.1.0"
LOOK = "import jax, jaxlib; print(jax.__version__, jaxlib.__version__, jax.devices()[0].platform)"

if "COLAB_RELEASE_TAG" in os.environ:
    chips = glob.glob("/dev/accel*") + glob.glob("/dev/vfio/[0-9]*")
    platform = "tpu" if chips else "gpu" if shutil.which("nvidia-smi") else "cpu"
    # In a process of its own: this one must not hold a JAX that is about to be exchanged.
    seen = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True)
    version, library, found = seen.stdout.split() or ("0", "0", "none")
    slow = platform == "gpu" and version in ("0.10.2", "0.11.0")
    if found == platform and tuple(map(int, version.split(".")[:2])) >= (0, 10) and not slow:
        needs = [f"jax=={version}", f"jaxlib=={library}"]
    elif platform == "tpu":
        needs = ["jax[tpu]==0.12.0.1" if sys.version_info >= (3, 12) else "jax[tpu]==0.10.2"]
    else:
        needs = ["jax[cuda12]>=0.10,!=0.10.2,!=0.11.0" if platform == "gpu" else "jax>=0.10"]
    package = f"atomjax[demo] @ git+{REPOSITORY}@{TAG}"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *needs, package], check=True)
    subprocess.run([sys.executable, "-c", LOOK], check=True)

# %% [markdown]
# # Finetune on your own file
#
# From an extended XYZ file (or any file that ASE reads) to a model in ASE: look at the data,
# train, see how well it predicts, relax a molecule with it, and let it move.

# %%
import json
from importlib.resources import files
from pathlib import Path

import ase.visualize.plot
import matplotlib.pyplot as plt
import numpy as np
from ase import units
from ase.io import read
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

import atomjax
from atomjax.command.__main__ import main as command
from atomjax.reporting.live import LiveCurves

FAST = os.environ.get("ATOMJAX_FAST") == "1"

# %% [markdown]
# ## Your file
#
# Set `FILE` to a file of yours (in Colab: drop it into the folder at the left), or take the one
# that comes along: 120 frames of ethanol at 500 K, labelled with GFN2-xTB. Energies are in eV,
# forces in eV/Å, under ASE's names; other units and names are options
# (`energy_unit="kcal/mol"`, `energy_key="E"`).

# %%
FILE = None

path = Path(FILE) if FILE else Path(str(files("atomjax") / "recipes" / "examples" / "ethanol.xyz"))
frames: list = list(read(path, ":40" if FAST and not FILE else ":"))
figure, axes = plt.subplots(1, 4, figsize=(12, 3))
for ax, atoms in zip(axes, frames[:4], strict=True):
    ase.visualize.plot.plot_atoms(atoms, ax, rotation="60x,30y")
    ax.axis("off")

# %% [markdown]
# ## What is in it, and what would be trained
#
# The data card shows what was understood of the file, and the settings that were chosen for it,
# with the reasons.

# %%
command(["data-card", str(path)])

# %% [markdown]
# ## Training
#
# A quarter of the frames is kept for the test, and some choose the best weights. To finetune a
# pretrained model, set `CHECKPOINT` to its folder. A published one has to be converted once:
# `atomjax convert download:jmp-s --to checkpoints/jmp-s`.

# %%
CHECKPOINT = None

# A third of the steps that the card names, for a first look; leave it out for the best model.
settings = {"train.epochs": 15 if FAST else 50}
model = atomjax.finetune(
    CHECKPOINT,
    train=frames,
    workdir="runs/own",
    settings=settings,
    progress=LiveCurves("runs/own"),
)
test = json.loads(Path("runs/own/results.json").read_text())["test"]
print(test)

# %% [markdown]
# ## Predictions against labels

# %%
results = model.predict(frames)
results.plot()

# %% [markdown]
# ## Relaxation
#
# The model is a calculator of ASE, so everything that ASE can do works with it.

# %%
atoms = frames[0].copy()
atoms.calc = model.calculator()
start = atoms.get_potential_energy()
relaxed = BFGS(atoms, logfile=None).run(fmax=0.05, steps=300)
gained = start - atoms.get_potential_energy()
print(f"{gained:.3f} eV lower after the relaxation")
figure, axes = plt.subplots(1, 2, figsize=(6, 3))
for ax, shown, title in zip(axes, (frames[0], atoms), ("before", "relaxed"), strict=True):
    ase.visualize.plot.plot_atoms(shown, ax, rotation="60x,30y")
    ax.set(title=title)
    ax.axis("off")

# %% [markdown]
# ## Dynamics, and whether energy is conserved
#
# Forces are the gradient of one energy, so without a thermostat the sum of potential and
# kinetic energy stays what it was.

# %%
rng = np.random.default_rng(0)
MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=rng)
Stationary(atoms)
dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)
energies = []
for _ in range(50 if FAST else 200):
    dynamics.run(1)
    energies.append((atoms.get_total_energy(), atoms.get_potential_energy()))
total, potential = np.array(energies).T
figure, ax = plt.subplots(figsize=(6, 3.5))
ax.plot(0.5 * np.arange(len(total)), potential - potential[0], label="potential")
ax.plot(0.5 * np.arange(len(total)), total - total[0], label="total")
ax.set(xlabel="time (fs)", ylabel="energy (eV)")
ax.legend(frameon=False)
print(f"total {1e3 * np.ptp(total):.2f} meV, potential {1e3 * np.ptp(potential):.0f} meV")

# %%
errors = results.errors()
spread = 1e3 * np.abs(np.concatenate([atoms.get_forces() for atoms in frames])).mean()
assert relaxed, "the relaxation converges"
assert gained > 0, "a relaxed molecule has less energy"
assert errors["force_mae_mev_per_angstrom"] < spread / 3, "forces are learnt"
assert np.ptp(total) < 0.05 * np.ptp(potential), "energy is conserved"
