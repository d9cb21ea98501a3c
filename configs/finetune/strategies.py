"""Ways to finetune, with what they forget and what they take: three tasks, 50 and more labels.

    python -m atomjax.launch --config configs/finetune/strategies.py:conformers \
        --workdir runs/conformers
    python -m atomjax.launch --config configs/finetune/strategies.py:aspirin,runs/conformers \
        --workdir runs/strategies/aspirin

The first command pretrains on an upstream set: "conformers" (GFN2-xTB, for the tasks "aspirin" and
"s66x8"), or "oxides" (GFN1-xTB, for the task "li_electrode"). The second one finetunes that by each
strategy with 50 and with more labels (500 of aspirin; S66x8 has 320 beside those to test on, the
electrode 200), three seeds each. Every training tests the task and the upstream set, whose head is
kept: with "replay" it is trained on structures of it too, with the others only tested.

The report compares errors on both, the numbers that are trained, memory and time. S66x8 and the
electrode are files (configs/s66x8.py, configs/li_electrode.py); a third word says where.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import ml_collections

from atomjax.recipes import dft_sets, small_data
from atomjax.recipes.sections import data_of, generated, section, variant
from atomjax.runtime.config import ConfigError

UPSTREAM = {"conformers": 4.0, "oxides": 3.5}  # Å, cutoffs
TASKS = {"aspirin": "conformers", "s66x8": "conformers", "li_electrode": "oxides"}
FILES = {"s66x8": "s66x8_wb97x6-31gd.h5", "li_electrode": "Li_electrode_finetune.xyz"}
LABELS = {"aspirin": (50, 500), "s66x8": (50, 320), "li_electrode": (50, 200)}
# Of each training, as far as whole epochs allow; batches of a replay are of the same size.
STEPS = 300
# The least of which a tenth can be replayed.
BATCH_SIZE = 10
VALIDATIONS = 10
CACHE = "runs/data"


def upstream_set(name: str) -> Any:
    if name == "conformers":
        dataset = generated(name, count=1200, heavy_atoms=(2, 7), seed=0)
    else:
        dataset = generated(name, count=1000, seed=0)
    dataset.split = section(validation=50, test=100)
    dataset.graph = section(cutoff=UPSTREAM[name])
    return dataset


def task_set(name: str, path: str) -> Any:
    if name == "aspirin":
        dataset = generated("aspirin", generator="dynamics", count=800, molecule="aspirin", seed=0)
        dataset.split = section(train=500, validation=50, test=250)
    elif name == "s66x8":
        dataset = dft_sets.s66x8(path)
        dataset.split = section(train=320, validation=48, test=160, by="class_key")
    else:
        dataset = dft_sets.li_electrode(path)
        dataset.split = section(train=200, validation=40, test=60)
    dataset.graph = section(cutoff=UPSTREAM[TASKS[name]])
    return dataset


def pretraining(name: str) -> Any:
    config = section(workflow="pretrain", seed=0)
    config.model = small_data.model_settings(UPSTREAM[name], num_blocks=1)
    config.data = data_of(upstream_set(name))
    config.data.cache_dir = CACHE
    config.head = small_data.HEAD
    config.train = small_data.train_settings(batch_size=16)
    config.train.epochs = 15
    config.train.schedule.warmup_steps = 50
    config.train.validation.select_by = "force_mae"
    return config


def finetuning(name: str, checkpoint: str, path: str) -> Any:
    config = section(workflow="finetune", seed=0)
    config.model = small_data.model_settings(UPSTREAM[TASKS[name]], num_blocks=1)
    config.data = data_of(task_set(name, path))
    config.data.cache_dir = CACHE
    config.head = small_data.HEAD
    config.train = small_data.train_settings(BATCH_SIZE)
    config.train.epochs = 1
    config.train.validation.select_by = "force_mae"
    config.finetune = section(checkpoint=checkpoint, head_from=TASKS[name])
    config.finetune.replay = section(dataset=upstream_set(TASKS[name]), share=0.0)
    return config


def limit(config: Any, size: int) -> None:
    train, share = config.train, config.finetune.replay.share
    train.max_structures = size
    steps_per_epoch = math.ceil(size / (BATCH_SIZE - round(share * BATCH_SIZE)))
    train.epochs = max(1, STEPS // steps_per_epoch)
    train.validation.eval_every = max(1, train.epochs * steps_per_epoch // VALIDATIONS)


def full(config: Any) -> None:
    pass


def layer_rates(config: Any) -> None:
    # As configs/finetune/own.py chooses: a pretrained backbone changes at a fraction of the rate.
    small_data.slow_backbone(config.train)


def frozen(config: Any) -> None:
    config.train.optimizer.freeze = ("backbone",)


def lora(config: Any) -> None:
    config.train.lora = section(rank=4)


def probe(config: Any) -> None:
    config.workflow = "probe"


def replay(config: Any, share: float) -> None:
    config.finetune.replay.share = share


STRATEGIES: dict[str, Callable[[Any], None]] = {
    "full": full,
    "layer_rates": layer_rates,
    "frozen": frozen,
    "lora": lora,
    "probe": probe,
    "replay_10": functools.partial(replay, share=0.1),
    "replay_50": functools.partial(replay, share=0.5),
}


def get_config(argument: str = "aspirin,runs/conformers") -> ml_collections.ConfigDict:
    name, *words = argument.split(",")
    if name in UPSTREAM:
        return pretraining(name)
    if name not in TASKS or not words:
        raise ConfigError(
            f"strategies.py:{argument}: write an upstream set ({', '.join(UPSTREAM)}), or a task "
            f"({', '.join(TASKS)}) and the folder of the pretraining, as in aspirin,runs/conformers"
        )
    base = finetuning(name, words[0], words[1] if len(words) > 1 else FILES.get(name, ""))
    config = section(workflow="sweep", base=base, variants=[])
    for size in LABELS[name]:
        for strategy, chosen in STRATEGIES.items():
            parts = [chosen, functools.partial(limit, size=size)]
            config.variants.append(variant(f"{strategy}_{size}", base, parts))
    config.seeds = (0, 1, 2)
    config.reference = f"full_{min(LABELS[name])}"
    return config
