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
# # Features and similarity by hand
#
# What notebook 1 does in one call, step by step: from `ase.Atoms` to features of atoms, from
# features to statistics and distances, and from distances to a choice of single structures.

# %%
import ase.build
import matplotlib.pyplot as plt
import numpy as np
from ase.lattice.cubic import FaceCenteredCubic

import atomjax
from atomjax.similarity import (
    StatisticsStream,
    StructureSumsBuilder,
    frechet_table,
    random_projection,
    select_greedily,
)
from atomjax.structures.generate import generate

FAST = os.environ.get("ATOMJAX_FAST") == "1"
COUNT = 40 if FAST else 150

# %% [markdown]
# ## Features of atoms
#
# The extractor that comes with the package, a small EquiformerV2, gives each atom a row of
# numbers. Atoms in like surroundings have like rows. Part of a row turns with the structure;
# `invariant_only=True` keeps what does not.

# %%
names = ["CH3CH2OH", "CH3OH", "CH4", "C2H6", "CH3COOH", "H2O", "NH3"]
molecules = [ase.build.molecule(name) for name in names]
turned = [atoms.copy() for atoms in molecules]
for atoms in turned:
    atoms.rotate(40, (1, 2, 3))
means, again = np.split(atomjax.features(molecules + turned, invariant_only=True).structures, 2)
full, full_again = np.split(atomjax.features(molecules + turned).structures, 2)

unit = means - means.mean(axis=0)
unit /= np.linalg.norm(unit, axis=1, keepdims=True)

figure, ax = plt.subplots(figsize=(4.5, 4))
image = ax.imshow(unit @ unit.T, cmap="RdBu_r", vmin=-1, vmax=1)
ax.set_xticks(range(len(names)), names, rotation=90)
ax.set_yticks(range(len(names)), names)
figure.colorbar(image, label="cosine of the features")

change = np.linalg.norm(again - means) / np.linalg.norm(means - means.mean(axis=0))
full_change = np.linalg.norm(full_again - full) / np.linalg.norm(full - full.mean(axis=0))
print(f"a rotation changes {full_change:.1%} of all features, {change:.1%} of what does not turn")

# %% [markdown]
# ## Statistics and distances
#
# The index compares mean and covariance of all atoms of a set. Both are collected batch by
# batch, so sets may be larger than memory.

# %%
rng = np.random.default_rng(0)
metals = []
for _ in range(COUNT):
    crystal = FaceCenteredCubic(str(rng.choice(["Cu", "Ag", "Au"])), size=(2, 2, 1))
    crystal.rattle(0.1, rng=rng)
    metals.append(crystal)
sets = {
    "molecules": generate({"kind": "conformers", "count": COUNT, "heavy_atoms": (2, 7)}),
    "metals": metals,
}
task = generate({"kind": "dynamics", "molecule": "ethanol", "count": COUNT})

# In one call, for which everything is compiled once.
everything = {**sets, "task": task}
found = iter(atomjax.features([one for frames in everything.values() for one in frames]).atoms)
rows = {name: [next(found) for _ in frames] for name, frames in everything.items()}


def statistics(structures):
    """Mean and covariance of all atoms of some structures."""
    stream = StatisticsStream(dimension=structures[0].shape[1])
    for atoms in structures:
        stream.add(atoms)
    return stream.result()


upstream = [statistics(rows[name]) for name in sets]
table = frechet_table(upstream, [statistics(rows["task"])])
for name, distance, mean, spread in zip(
    sets, table.distance, table.mean_term, table.covariance_term, strict=True
):
    print(f"{name:10} {distance[0]:8.1f} = {mean[0]:.1f} (elsewhere) + {spread[0]:.1f} (spread)")

# %% [markdown]
# ## Choosing structures
#
# Inside the near set some molecules are nearer than others. `select_greedily` picks one after
# another, each the one that brings mean and covariance of the choice nearest to the task's.

# %%
SIZE = COUNT // 5
projection = random_projection(rows["task"][0].shape[1], 128, seed=0)


def sums(structures):
    """Sums over each structure, which the selection works on."""
    builder = StructureSumsBuilder(projection)
    for i, atoms in enumerate(structures):
        builder.add(atoms, np.full(len(atoms), i))
    return builder.result()


chosen = select_greedily(sums(rows["molecules"]), sums(rows["task"]), SIZE)
drawn = [rng.choice(len(rows["molecules"]), SIZE, replace=False) for _ in range(20)]
distances = frechet_table(
    [statistics([rows["molecules"][i] for i in pick]) for pick in (chosen, *drawn)],
    [statistics(rows["task"])],
).distance[:, 0]

figure, ax = plt.subplots(figsize=(5.5, 3))
ax.hist(distances[1:], color="0.7", label=f"{SIZE} at random, 20 times")
ax.axvline(distances[0], color="#D55E00", label=f"{SIZE} selected")
ax.set(xlabel="distance from the task", ylabel="count")
ax.legend(frameon=False)
print(f"selected {distances[0]:.1f}, at random {np.median(distances[1:]):.1f} in the median")
print("selected first:", [sets["molecules"][i].formula for i in chosen[:8]])

# %%
assert change < 0.1 * full_change, "invariants do not turn"
assert 2 * table.distance[0, 0] < table.distance[1, 0], "a molecule is nearer to molecules"
assert distances[0] < np.median(distances[1:]), "a selection is nearer than one at random"
