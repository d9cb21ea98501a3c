"""Does it matter which structures of a set are pretrained on? Seven ways to choose a quarter.

    for method in nearest greedy covering farthest variance tangents; do
        python -m atomjax.launch --config configs/paper/selection.py:aspirin,$method \
            --workdir runs/selection/aspirin/$method
    done
    python -m atomjax.launch --config configs/paper/selection.py:aspirin \
        --workdir runs/selection/aspirin/compared

The first commands choose 340 of 1,200 structures, each by one of the rules of docs/csi.md, and
leave them as stores: for the task by features, or (tangents) those that a small pretrained model of
the package knows least, as arXiv:2605.13788 does. The last pretrains the same small network on each
choice and on as many at random, with the same C, and finetunes it on 50 structures of the task. The
tasks are aspirin (chosen of conformers), surfaces (of slabs) and clusters (of oxides).
"""

from pathlib import Path

import ml_collections

from atomjax.recipes import small_data, small_sets
from atomjax.recipes.sections import Section, section, stored
from atomjax.recipes.words import choose

GRAPH = section(cutoff=4.0)
# Structures of a set, and those that are chosen of it: for training, and for validation.
POOL, N, VALIDATION = 1200, 300, 40
EPOCHS = 10
POOLS = {"aspirin": "conformers", "surfaces": "slabs", "clusters": "oxides"}
TANGENTS = "tangents"
METHODS = ("nearest", "greedy", "covering", "farthest", "variance", TANGENTS)
# Which knows the elements.
MODELS = {
    "aspirin": "atomjax-molecules",
    "surfaces": "atomjax-crystals",
    "clusters": "atomjax-crystals",
}
FOLDER = Path("runs/selection")
CACHE = "runs/selection/data"


def pool_of(name: str) -> Section:
    """The set that is chosen from."""
    sets = {one.name: one for one in small_sets.upstream_sets(POOL, VALIDATION, GRAPH)}
    return sets[POOLS[name]]


def task_of(name: str) -> Section:
    """The task, of which 50 structures are for training."""
    task = small_sets.downstream_sets()[name]
    task.split, task.graph = section(train=50, validation=50, test=200), GRAPH
    return task


def pick(name: str, method: str) -> Section:
    """Choose structures of the pool for the task by one rule."""
    config = section(workflow="csi", seed=0, cache_dir=CACHE)
    config.candidates = [pool_of(name)]
    config.downstream = [task_of(name)]
    config.sampling = section(strategy="balanced_unique", size=50)
    config.select = section(size=N + VALIDATION, method=method)
    return config


def pick_least_known(name: str) -> Section:
    """Choose structures of the pool by a model's tangent kernel."""
    config = section(workflow="difficulty", choose="variance", seed=0, cache_dir=CACHE)
    config.dataset, config.checkpoint = pool_of(name), MODELS[name]
    config.size = N + VALIDATION
    return config


def store_of(name: str, method: str) -> str:
    """Folder of what was chosen."""
    chosen = FOLDER / name / method / "selected"
    return str(chosen if method == TANGENTS else chosen / name)


def compare(name: str) -> Section:
    """Pretrain on each choice and finetune on the task."""
    config = section(workflow="survey", seeds=(0, 1, 2), cache_dir=CACHE)
    whole = pool_of(name)
    config.candidates = [whole]
    for method in METHODS:
        one = stored(method, store_of(name, method))
        one.split, one.graph = section(validation=VALIDATION), GRAPH
        config.candidates.append(one)
    config.starts = [
        section(name=one.name, structures={one.name: N}, epochs=EPOCHS) for one in config.candidates
    ]
    # Of the pool itself, N at random.
    config.starts[0].name = "random"
    config.pairs = [(method, "random") for method in METHODS] + [("random", "scratch")]

    task = section(data=task_of(name), head=small_data.HEAD, head_from="mean")
    task.train = small_data.force_training(40, 50)
    config.tasks = [task]
    # What the rule for small data takes, with one block, to be quick.
    config.model = small_data.model_settings(GRAPH.cutoff, num_blocks=1)
    config.head = small_data.HEAD
    config.train = small_data.force_training(EPOCHS, 100, batch_size=16, warmup_steps=30)
    config.sampling = section(strategy="balanced_unique", size=50)
    return config


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    words = choose(argument, {"task": tuple(POOLS), "method": ("compared", *METHODS)})
    if words["method"] == "compared":
        return compare(words["task"])
    if words["method"] == TANGENTS:
        return pick_least_known(words["task"])
    return pick(words["task"], words["method"])
