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

from atomjax.recipes import small_data

# About 18 neighbours of an atom, as the rule for small data has it.
GRAPH = {"cutoff": 3.5}


def get_config(path: str = "Li_electrode_finetune.xyz") -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.workflow = "transfer"
    config.seed = 0
    config.model = small_data.model_settings(GRAPH["cutoff"])
    config.data = {
        "train": [
            {
                "name": "oxides",
                "kind": "generate",
                "generator": "oxides",
                "arguments": {"count": 900, "seed": 0},
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
        "eval_every": 100,
        "select_by": "force_mae",
    }
    config.finetune = {
        "seeds": (0, 1, 2),
        "head": small_data.HEAD,
        "head_from": "mean",
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
                    "graph": GRAPH,
                }
            ]
        },
        "train": {
            **small_data.TRAIN,
            "epochs": 24,
            "eval_every": 120,
            "select_by": "force_mae",
        },
    }
    return config
