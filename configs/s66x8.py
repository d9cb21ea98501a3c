"""Finetune on ωB97x forces of non-covalent dimers, few of them labelled, against scratch.

    python -m atomjax.launch --config configs/s66x8.py:s66x8_wb97x6-31gd.h5 --workdir runs/s66x8

The file is S66x8 of the COMP6 benchmark (github.com/isayev/COMP6, MIT licence): 66 dimers of small
organic molecules at 8 distances. Its dimers are divided, so those tested are new to the model.
Pretraining is that of ``transfer.py``: GFN2-xTB conformers of single molecules.

Ten minutes on two CPU cores. Test force MAE over three seeds: 26.5 ± 0.8 meV/Å from the pretrained
weights, 31.0 ± 2.4 from scratch.
"""

import ml_collections

from atomjax.recipes import small_data

GRAPH = {"cutoff": 4.0}


def get_config(path: str = "s66x8_wb97x6-31gd.h5") -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.workflow = "transfer"
    config.seed = 0
    config.model = small_data.model_settings(GRAPH["cutoff"])
    config.data = {
        "train": [
            {
                "name": "conformers",
                "kind": "generate",
                "generator": "conformers",
                "arguments": {"count": 1000, "heavy_atoms": (2, 7), "seed": 0},
                "split": {"validation": 100},
                "graph": GRAPH,
            }
        ]
    }
    config.head = small_data.HEAD
    config.train = {
        **small_data.TRAIN,
        "batch_size": 16,
        "epochs": 12,
        "warmup_steps": 50,
        "eval_every": 171,
        "select_by": "force_mae",
    }
    config.finetune = {
        "seeds": (0, 1, 2),
        "head": small_data.HEAD,
        "head_from": "mean",
        "data": {
            "train": [
                {
                    "name": "s66x8",
                    "kind": "read",
                    "path": path,
                    "format": "comp6",
                    "energy_unit": "Ha",
                    "length_unit": "Å",
                    "energy_kind": "total",
                    "split": {"train": 80, "validation": 80, "test": 160, "by": "class_key"},
                    "graph": GRAPH,
                }
            ]
        },
        "train": {
            **small_data.TRAIN,
            "epochs": 32,
            "eval_every": 100,
            "select_by": "force_mae",
        },
    }
    return config
