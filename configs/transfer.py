"""Pretrain on many small molecules, finetune on aspirin with few labels, compare with scratch.

    python -m atomjax.launch --config configs/transfer.py --workdir runs/transfer

Everything is labelled here with GFN2-xTB: 1,000 off-equilibrium conformers of 150 molecules in the
image of ANI-1x, and frames of a molecular dynamics of aspirin in the image of rMD17.

A quarter of an hour on two CPU cores. What came out is in docs/studies.md.
"""

import ml_collections

from atomjax.recipes import small_data

GRAPH = {"cutoff": 4.0}


def get_config() -> ml_collections.ConfigDict:
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
                    "name": "aspirin",
                    "kind": "generate",
                    "generator": "dynamics",
                    "arguments": {"count": 300, "molecule": "aspirin", "seed": 0},
                    "split": {"train": 50, "validation": 50, "test": 200},
                    "graph": GRAPH,
                }
            ]
        },
        "train": {
            **small_data.TRAIN,
            "epochs": 60,
            "eval_every": 100,
            "select_by": "force_mae",
        },
    }
    return config
