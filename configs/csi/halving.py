"""Which of six upstream sets to pretrain on for a task, by short trials instead of a distance.

    python -m atomjax.launch --config configs/csi/halving.py:aspirin --workdir runs/halving

Sets and tasks (aspirin, surfaces) are those of configs/paper/survey.py, labelled here. Each set is
pretrained on with a tenth of the budget C = E × N and finetuned on 50 structures, the better half
with three tenths, the better half of that with all of it. The report says which set to take, what
the distance says, and what the trials cost beside six whole pretrainings. configs/csi/own.py does
this for own files.
"""

import ml_collections

from atomjax.recipes import small_data, small_sets
from atomjax.recipes.sections import data_of, section
from atomjax.recipes.words import choose

GRAPH = section(cutoff=4.0)
N, E = 300, 10
TASKS = ("aspirin", "surfaces")


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "halving"
    config.seed = 0
    config.candidates = small_sets.upstream_sets(N + 40, 40, GRAPH)
    config.sampling = section(strategy="balanced_unique", size=50)
    config.halving = section(fractions=(0.1, 0.3, 1.0))

    plan = config.plan = section()
    # What the rule for small data takes, with one block, to be quick.
    plan.model = small_data.model_settings(GRAPH.cutoff, num_blocks=1)
    plan.head = small_data.HEAD
    plan.budget = N * E
    plan.train = small_data.force_training(E, 100, batch_size=16, warmup_steps=30)

    downstream = config.finetuning = section()
    downstream.seeds = (0, 1)
    task = small_sets.downstream_sets()[choose(argument, {"task": TASKS})["task"]]
    task.split, task.graph = section(train=50, validation=50, test=200), GRAPH
    downstream.data = data_of(task)
    downstream.head = small_data.HEAD
    downstream.head_from = "mean"
    downstream.train = small_data.force_training(40, 50)
    return config
