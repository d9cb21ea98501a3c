"""Test errors over the number of labelled structures, from pretrained and from random weights.

    python -m atomjax.launch --config configs/data_efficiency.py:s66x8_wb97x6-31gd.h5 \
        --workdir runs/data_efficiency

The task and the pretraining are those of ``s66x8.py``: dimers of small molecules, ωB97x. Every size
is trained for about 500 steps and tested on the same dimers; a smaller set lies within each
larger one.
"""

import math
from pathlib import Path

from atomjax.runtime.config import load_config

SIZES = (10, 40, 80, 160)
# Of each training, as far as whole epochs allow.
STEPS = 500


def get_config(path: str = "s66x8_wb97x6-31gd.h5") -> dict:
    base = load_config(f"{Path(__file__).with_name('s66x8.py')}:{path}")
    downstream = base["finetune"]
    (task,) = downstream["data"]["train"]
    task["split"]["train"] = max(SIZES)
    batch_size = downstream["train"]["batch_size"]
    variants = [
        {
            "name": f"{start}_{size}",
            "start": start,
            "line": start,
            "x": size,
            "changes": {
                "finetune.train.max_structures": size,
                "finetune.train.epochs": STEPS // math.ceil(size / batch_size),
            },
        }
        for start in ("pretrained", "scratch")
        for size in SIZES
    ]
    return {
        "workflow": "sweep",
        "base": base,
        "variants": variants,
        "seeds": [0, 1, 2],
        "reference": f"scratch_{max(SIZES)}",
        "x_label": "labelled structures",
    }
