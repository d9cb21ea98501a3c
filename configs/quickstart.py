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
from atomjax.recipes.sections import data_of, generated, section

GRAPH = section(cutoff=4.0)


def get_config() -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "study"
    config.seed = 0
    # Trainings that wait for nothing run side by side, one a core.
    config.jobs = 0
    config.candidates = [
        generated("conformers", count=850, heavy_atoms=(2, 7), seed=0),
        generated("reactions", count=250, seed=0),
        generated("slabs", count=850, size=(2, 2, 2), fixed_layers=1, seed=1),
        generated("oxides", count=250, relaxation_steps=2, seed=0),
    ]
    for candidate in config.candidates:
        candidate.split = section(validation=50)
        candidate.graph = GRAPH
    # As many structures of each set as the smallest, the task, has for training.
    config.sampling = section(strategy="balanced_unique", size=50)

    plan = config.plan = section()
    # What the rule for small data takes, with one block, to be quick.
    plan.model = small_data.model_settings(GRAPH.cutoff, num_blocks=1)
    plan.head = small_data.HEAD
    plan.budget = 12000
    plan.train = small_data.force_training(15, 100, batch_size=16, warmup_steps=50)

    aspirin = generated("aspirin", generator="dynamics", count=250, molecule="aspirin", seed=0)
    aspirin.split = section(train=50, validation=50, test=150)
    aspirin.graph = GRAPH
    downstream = config.finetuning = section()
    downstream.seeds = (0,)
    downstream.data = data_of(aspirin)
    downstream.head = small_data.HEAD
    # The head of the pretraining goes on, too: it saves hundreds of steps.
    downstream.head_from = "mean"
    downstream.train = small_data.force_training(65, 100)
    return config
