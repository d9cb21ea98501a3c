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
# # Which data set should I pretrain on?
#
# You have a task: forces of one molecule, say, with few labels. Somebody offers four large data
# sets to pretrain on. Which of them helps? atomjax answers before anything is trained: it looks
# at all sets through a network that has seen many structures, and measures how far the task is
# from each. The distance is the *chemical similarity index*, the Fréchet distance between the
# sets' atomic features.
#
# Everything here is labelled on the spot, with GFN2-xTB and EMT, so nothing is downloaded.

# %%
import ase.visualize.plot
import matplotlib.pyplot as plt
import numpy as np

import atomjax
from atomjax.similarity.workflow.figures import map_plot
from atomjax.structures.generate import generate
from atomjax.structures.readers import to_atoms

FAST = os.environ.get("ATOMJAX_FAST") == "1"
COUNT = 24 if FAST else 120

# %% [markdown]
# ## Four candidates and a task
#
# Small molecules shaken and turned; reaction paths between them; metal slabs with adsorbates;
# oxide clusters. The task is a molecular dynamics of aspirin.

# %%
candidates = {
    "conformers": generate({"kind": "conformers", "count": COUNT, "heavy_atoms": (2, 7)}),
    "reactions": generate({"kind": "reactions", "count": COUNT}),
    "slabs": generate({"kind": "slabs", "count": COUNT, "size": (2, 2, 2), "fixed_layers": 1}),
    "oxides": generate({"kind": "oxides", "count": COUNT // 2, "relaxation_steps": 2}),
}
aspirin = generate({"kind": "dynamics", "molecule": "aspirin", "count": COUNT})

figure, axes = plt.subplots(1, 5, figsize=(15, 3))
for ax, (name, frames) in zip(axes, [*candidates.items(), ("aspirin", aspirin)], strict=True):
    ase.visualize.plot.plot_atoms(to_atoms(frames[0]), ax, rotation="60x,30y")
    ax.set(title=f"{name}: {frames[0].formula}")
    ax.axis("off")

# %% [markdown]
# ## The distances
#
# Two sets of the same distribution are never at distance zero, since both are finite: the
# *noise floor* is what they reach by chance. Only a distance above it is one.

# %%
# The same number from each set, so that none looks near for being small.
# runs/csi/report.html shows all of it on one page.
table = atomjax.csi(candidates, {"aspirin": aspirin}, size=COUNT // 2, workdir="runs/csi")
print(table)

distances, floors = table.values[:, 0], table.noise_floor[:, 0]
low, high = distances - table.lower[:, 0], table.upper[:, 0] - distances
figure, ax = plt.subplots(figsize=(6, 3.5))
ax.bar(table.candidates, distances, yerr=np.maximum([low, high], 0), capsize=4, color="#0072B2")
ax.plot(table.candidates, floors, "_", color="#D55E00", markersize=40, label="noise floor")
ax.set(ylabel=f"{table.measure} to aspirin")
ax.legend(frameon=False)
figure.tight_layout()

# %% [markdown]
# ## The map of the sets
#
# Each dot is an atom, in the plane in which the features vary most. Aspirin lies among the
# molecules; the metals are somewhere else altogether.

# %%
sets = {**candidates, "aspirin": aspirin}
found = iter(atomjax.features([one for frames in sets.values() for one in frames]).atoms)
atoms = {name: np.concatenate([next(found) for _ in frames]) for name, frames in sets.items()}
map_plot(atoms, ("aspirin",)).draw()

# %% [markdown]
# ## The recommendation

# %%
nearest = table.nearest["aspirin"]
print(table.advice["aspirin"])

# %% [markdown]
# It is right only if it is what a chemist would say: molecules for a molecule. And half of the
# aspirin must be nearer to the other half than any candidate is. (Notebook 2 trains on the near
# and on the far set, and looks which gives the lower error.)

# %%
own = atomjax.csi({"aspirin": aspirin[::2]}, {"rest": aspirin[1::2]}, size=COUNT // 2)
print(f"aspirin to itself: {own.values[0, 0]:.3g}, to {nearest}: {distances.min():.3g}")

assert nearest in ("conformers", "reactions"), table
assert distances[table.candidates.index("slabs")] > 2 * distances.min(), table
assert own.values[0, 0] < distances.min(), (own, table)
