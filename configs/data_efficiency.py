"""Test errors over the number of labelled structures, from pretrained and from random weights.

    python -m atomjax.launch --config configs/data_efficiency.py:s66x8_wb97x6-31gd.h5 \
        --workdir runs/data_efficiency

The task and the pretraining are those of ``s66x8.py``: dimers of small molecules, ωB97x. Every size
is trained for about 500 steps and tested on the same dimers; a smaller set lies within each
larger one.
"""

import functools
import math
from pathlib import Path
from typing import Any

import ml_collections

from atomjax.recipes.sections import section, variant
from atomjax.runtime.config import load_config

SIZES = (10, 40, 160)
# Of each training, as far as whole epochs allow.
STEPS = 500


def limit(config: Any, size: int) -> None:
    train = config.finetuning.train
    train.max_structures = size
    train.epochs = STEPS // math.ceil(size / train.batching.batch_size)


def get_config(path: str = "s66x8_wb97x6-31gd.h5") -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "sweep"
    base = load_config(f"{Path(__file__).with_name('s66x8.py')}:{path}")
    base["finetuning"]["data"]["train"][0]["split"]["train"] = max(SIZES)
    config.base = base
    config.variants = []
    for start in ("pretrained", "scratch"):
        for size in SIZES:
            parts = [functools.partial(limit, size=size)]
            point = variant(f"{start}_{size}", config.base, parts, start=start, line=start, x=size)
            config.variants.append(point)
    config.seeds = (0, 1, 2)
    config.reference = f"scratch_{max(SIZES)}"
    config.x_label = "labelled structures"
    return config
