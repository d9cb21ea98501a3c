"""Choose the upstream set by similarity, pretrain on it and on the worst, and see who was right.

    python -m atomjax.launch --config configs/quickstart.py --workdir runs/quickstart

Four upstream sets and a molecular dynamics of aspirin are labelled here. The similarity index says
which upstream set is nearest and which is farthest; the same small GemNet-OC is pretrained on each
with the same budget, finetuned on 50 frames, and compared with a twin from random weights. The
report says whether the prediction held.

Minutes on two CPU cores; README.md has what came out.
"""

import ml_collections

GRAPH = {"cutoff": 6.0, "cutoff_molecule": 6.0, "max_neighbors": 12}
UPSTREAM = {
    "conformers": {"count": 250, "heavy_atoms": (2, 7), "seed": 0},
    "reactions": {"count": 250, "seed": 0},
    "slabs": {"count": 250, "size": (2, 2, 3), "fixed_layers": 1, "seed": 1},
    "oxides": {"count": 250, "relaxation_steps": 2, "seed": 0},
}


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.workflow = "study"
    config.seed = 0
    # Trainings that wait for nothing run side by side, one a core.
    config.jobs = 0
    config.candidates = [
        {
            "name": name,
            "kind": "generate",
            "generator": name,
            "arguments": arguments,
            "split": {"validation": 50},
            "graph": GRAPH,
        }
        for name, arguments in UPSTREAM.items()
    ]
    # As many structures of each set as the smallest, the task, has for training.
    config.sampling = {"strategy": "balanced_unique", "size": 50}
    config.plan = {
        "model": {"name": "gemnet_oc_tiny"},
        "budget": 2400,
        "train": {
            "batch_size": 16,
            "epochs": 12,
            "learning_rate": 1e-3,
            "warmup_steps": 30,
            "eval_every": 100,
            "select_by": "force_mae",
        },
    }
    config.finetune = {
        "seeds": (0,),
        "head": {"kind": "energy_forces", "forces": "direct"},
        "data": {
            "train": [
                {
                    "name": "aspirin",
                    "kind": "generate",
                    "generator": "dynamics",
                    "arguments": {"count": 250, "molecule": "aspirin", "seed": 0},
                    "split": {"train": 50, "validation": 50, "test": 150},
                    "graph": GRAPH,
                }
            ]
        },
        "train": {
            "batch_size": 5,
            "epochs": 30,
            "learning_rate": 5e-4,
            "warmup_steps": 10,
            "eval_every": 100,
            "select_by": "force_mae",
        },
    }
    return config
