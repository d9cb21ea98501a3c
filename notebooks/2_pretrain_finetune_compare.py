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
# # Pretrain, finetune, compare
#
# Notebook 1 says which data set is near to the task. Here the prediction is put to the test:
# the same small GemNet-OC is pretrained on the near set (conformers of small molecules) and on
# the far one (metal slabs), then both are finetuned on a few frames of aspirin, beside a twin
# that starts from random weights. Lower errors on frames that none has seen decide.

# %%
import matplotlib.pyplot as plt

import atomjax
from atomjax.command.__main__ import main as command
from atomjax.reporting.live import LiveCurves
from atomjax.structures.generate import generate

FAST = os.environ.get("ATOMJAX_FAST") == "1"
PRETRAINING = 36 if FAST else 400  # structures of each upstream set
EPOCHS = 6 if FAST else 12
LABELS, FINETUNING = (16, 4) if FAST else (50, 30)
UNSEEN = 20 if FAST else 50
# One block is quick, and short trainings are warmed up for few steps; the settings for small data
# choose everything else.
NETWORK = {"model.overrides.num_blocks": 1}
SHORT = {"train.schedule.warmup_steps": 10}

# %% [markdown]
# ## Data

# %%
specs = {
    "conformers": {"heavy_atoms": (2, 7)},
    "slabs": {"size": (2, 2, 2), "fixed_layers": 1},
}
upstream = {
    name: generate({"kind": name, "count": PRETRAINING, **options})
    for name, options in specs.items()
}
frames = generate({"kind": "dynamics", "molecule": "aspirin", "count": LABELS + 20 + UNSEEN})
train, validation, test = frames[:LABELS], frames[LABELS : LABELS + 20], frames[LABELS + 20 :]

table = atomjax.csi(upstream, {"aspirin": train}, size=LABELS)
print(table)

# %% [markdown]
# ## Pretraining, the same on both
#
# Watch the errors fall. The curves are redrawn at most once a second.

# %%
pretrained = {}
for name, structures in upstream.items():
    print(f"pretraining on {name}")
    workdir = f"runs/pretrained_{name}"
    settings = NETWORK | SHORT | {"train.epochs": EPOCHS, "train.batching.batch_size": 16}
    pretrained[name] = atomjax.finetune(
        None,
        train=structures[: -len(structures) // 10],
        validation=structures[-len(structures) // 10 :],
        workdir=workdir,
        settings=settings,
        progress=LiveCurves(workdir),
    )

# %% [markdown]
# ## Finetuning, the same on all three

# %%
starts = {name: f"runs/pretrained_{name}" for name in upstream} | {"none": None}
errors = {}
for name, start in starts.items():
    print(f"finetuning from {name}")
    workdir = f"runs/finetuned_{name}"
    model = atomjax.finetune(
        start,
        train=train,
        validation=validation,
        workdir=workdir,
        settings=SHORT | {"train.epochs": FINETUNING} | ({} if start else NETWORK),
        progress=LiveCurves(workdir),
    )
    errors[name] = model.predict(test).errors()["force_mae_mev_per_angstrom"]

# %% [markdown]
# ## Was the prediction right?
#
# So short a pretraining gains little on random weights; the quickstart, which pretrains for longer,
# gains nearly a quarter. The prediction was about the two sets.

# %%
figure, ax = plt.subplots(figsize=(5, 3.5))
ax.bar(list(errors), list(errors.values()), color=["#009E73", "#D55E00", "0.6"])
ax.set(xlabel="pretrained on", ylabel="force MAE on unseen frames (meV/Å)")
for name, error in errors.items():
    ax.annotate(f"{error:.1f}", (name, error), ha="center", va="bottom")
print(errors)

# The curves, predictions and settings of all three on one page.
runs = [f"runs/finetuned_{name}" for name in starts]
command(["report", *runs, "--output", "runs/compared/report.html"])

# %%
nearest = table.nearest["aspirin"]
assert nearest == "conformers", table
assert errors[nearest] < errors["slabs"], errors
