"""Finetune on DFT forces of a Li-Mn-O cathode, periodic, few frames labelled, against scratch.

    python -m atomjax.launch --config configs/li_electrode.py:Li_electrode_finetune.xyz \
        --workdir runs/li_electrode

The file comes with MatterTune (github.com/Fung-Lab/MatterTune, MIT licence): 300 frames of 32
atoms. Pretraining is on clusters of metal oxides with adsorbates, labelled here with GFN1-xTB.

Twelve minutes on two CPU cores. Test force MAE over three seeds: 120.6 ± 1.1 meV/Å from the
pretrained weights, 118.2 ± 0.2 from scratch. These clusters hold no lithium and are not periodic,
and pretraining on them does not help.
"""

import ml_collections


def get_config(path: str = "Li_electrode_finetune.xyz") -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.workflow = "transfer"
    config.seed = 0
    config.model = {"name": "gemnet_oc_tiny"}

    graph = {"cutoff": 6.0, "cutoff_molecule": 6.0, "max_neighbors": 12}
    config.data = {
        "train": [
            {
                "name": "oxides",
                "kind": "generate",
                "generator": "oxides",
                "arguments": {"count": 900, "seed": 0},
                "split": {"validation": 100},
                "graph": graph,
            }
        ]
    }
    config.train = {
        "batch_size": 16,
        "epochs": 12,
        "learning_rate": 1e-3,
        "warmup_steps": 50,
        "eval_every": 100,
        "select_by": "force_mae",
    }
    config.finetune = {
        "seeds": (0, 1, 2),
        "head": {"kind": "energy_forces", "forces": "direct"},
        "data": {
            "train": [
                {
                    "name": "li_electrode",
                    "kind": "read",
                    "path": path,
                    "format": "extxyz",
                    "energy_unit": "eV",
                    "length_unit": "Å",
                    "energy_kind": "total",
                    "split": {"train": 30, "validation": 50, "test": 150},
                    "graph": graph,
                }
            ]
        },
        "train": {
            "batch_size": 5,
            "epochs": 60,
            "learning_rate": 5e-4,
            "warmup_steps": 10,
            "eval_every": 120,
            "select_by": "force_mae",
        },
    }
    return config
