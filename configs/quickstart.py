"""Choose the upstream set by similarity, pretrain on it and on the worst, and see who was right.

    python -m atomjax.launch --config configs/quickstart.py --workdir runs/quickstart

Four upstream sets and a molecular dynamics of aspirin are labelled here. The similarity index says
which upstream set is nearest and which is farthest; the same small GemNet-OC is pretrained on each
with the same budget, finetuned on 50 frames, and compared with a twin from random weights. The
report says whether the prediction held.

Minutes on two CPU cores; README.md has what came out.
"""

import ml_collections

from atomjax.recipes import small_data

GRAPH = {"cutoff": 4.0}
# What the rule for small data takes, with one block, to be quick.
MODEL = small_data.model_settings(GRAPH["cutoff"])
MODEL["overrides"]["num_blocks"] = 1
SCHEDULE = {
    **small_data.TRAIN,
    "learning_rate": 2e-3,
    "eval_every": 100,
    "select_by": "force_mae",
}
UPSTREAM = {
    "conformers": {"count": 850, "heavy_atoms": (2, 7), "seed": 0},
    "reactions": {"count": 250, "seed": 0},
    "slabs": {"count": 850, "size": (2, 2, 2), "fixed_layers": 1, "seed": 1},
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
        "model": MODEL,
        "head": small_data.HEAD,
        "budget": 12000,
        "train": {**SCHEDULE, "batch_size": 16, "epochs": 15, "warmup_steps": 50},
    }
    config.finetune = {
        "seeds": (0,),
        "head": small_data.HEAD,
        # The head of the pretraining goes on, too: it saves hundreds of steps.
        "head_from": "mean",
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
        "train": {**SCHEDULE, "epochs": 65},
    }
    return config
