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
# # Several devices
#
# A training takes all devices that JAX sees: every batch is divided among them, and the result
# does not depend on how many there are. Where there is no accelerator, the processor plays
# eight devices: that shows that it works, not that it is fast.

# %%
import json
from pathlib import Path

# Before JAX is imported, and only where it would find one processor.
flags = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8"

import jax
import numpy as np

import atomjax
from atomjax.reporting.live import LiveCurves
from atomjax.structures.generate import generate

FAST = os.environ.get("ATOMJAX_FAST") == "1"
COUNT, EPOCHS = (48, 2) if FAST else (160, 8)
devices = jax.devices()
print(f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform}), JAX {jax.__version__}")

# %% [markdown]
# ## The same training on all devices and on one
#
# `batch_size` is that of a step, over all devices.

# %%
structures = generate({"kind": "slabs", "count": COUNT, "size": (2, 2, 2), "fixed_layers": 1})
settings = {
    "model.overrides.num_blocks": 1,
    "train.epochs": EPOCHS,
    "train.batching.batch_size": 16,
    "train.schedule.warmup_steps": 2,
    "train.log_every": 1,
}
given: dict = {"train": structures[16:], "validation": structures[:16]}
model = atomjax.finetune(
    None, **given, workdir="runs/all", settings=settings, progress=LiveCurves("runs/all")
)

# %% [markdown]
# The twin on one device runs in a process of its own, which sees only one.

# %%
from atomjax.structures import save_archive

for part, held in given.items():
    save_archive(Path(f"{part}.archive.npz"), held)
program = f"""
import atomjax
files = {{"train": "train.archive.npz", "validation": "validation.archive.npz"}}
atomjax.finetune(None, **files, workdir="runs/one", settings={settings!r}, progress=False)
"""
one = {"XLA_FLAGS": flags, "CUDA_VISIBLE_DEVICES": "0", "JAX_PLATFORMS": devices[0].platform}
if devices[0].platform == "tpu":
    # A TPU belongs to one process at a time: the twin takes the processor.
    one["JAX_PLATFORMS"] = "cpu"
subprocess.run([sys.executable, "-c", program], env={**os.environ, **one}, check=True)


# %%
def logged(run, name):
    """Values of a logged metric, step by step."""
    lines = Path(run, "metrics.jsonl").read_text().splitlines()
    return np.array([line[name] for line in map(json.loads, lines) if name in line])


losses = {run: logged(f"runs/{run}", "train/loss") for run in ("all", "one")}
rate = np.median(logged("runs/all", "structures_per_second")[1:])
print(f"first losses on all devices {losses['all'][:4]}, on one {losses['one'][:4]}")

# %% [markdown]
# ## One step's throughput

# %%
print(f"{rate:.1f} structures a second on {len(devices)} devices: {16 / rate:.2f} s for a step")

# %%
difference = np.abs(losses["all"][:4] / losses["one"][:4] - 1).max()
assert len(devices) > 1 or devices[0].platform != "cpu", "there are several devices"
assert difference < 1e-3, f"the number of devices changes nothing: {losses}"
assert losses["all"][-1] < losses["all"][0], "and the training learns"
