"""Finetune on DFT forces of a Li-Mn-O cathode, periodic, 150 frames labelled, against scratch.

    python -m atomjax.launch --config configs/li_electrode.py:Li_electrode_finetune.xyz \
        --workdir runs/li_electrode

The file comes with MatterTune (github.com/Fung-Lab/MatterTune, MIT licence): 300 frames of 8
to 126 atoms. Pretraining is on clusters of metal oxides with adsorbates, labelled with GFN1-xTB.

A quarter of an hour on two CPU cores, one seed. Test force MAE: 105.6 meV/Å from the pretrained
weights, 97.2 from scratch, 110.1 for predicting zero. The frames are of 20 compositions, some of
them far from rest, which is much to learn from 150; and pretraining on clusters, without lithium
and not periodic, does not help here.
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
        "seeds": (0,),
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
                    "split": {"train": 150, "validation": 50, "test": 100},
                    "graph": graph,
                }
            ]
        },
        "train": {
            "batch_size": 5,
            "epochs": 24,
            "learning_rate": 1e-3,
            "warmup_steps": 30,
            "eval_every": 120,
            "select_by": "force_mae",
        },
    }
    return config
