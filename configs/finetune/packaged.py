"""Finetune ``atomjax-molecules`` on 10 to 1,000 labels of aspirin, beside random weights.

    python -m atomjax.launch --config configs/finetune/packaged.py --workdir runs/packaged

Frames of a molecular dynamics of aspirin, GFN2-xTB. It is in no pretraining set: those of the
checkpoint end at nine atoms other than hydrogen, aspirin has thirteen. All take 1,000 steps of
five structures, what the rule for small data gives a finetuning on 50, and are tested on the same
frames; a smaller set lies within each larger one. What came out is in docs/checkpoints.md.
"""

import functools
from typing import Any

import ml_collections

from atomjax.recipes import small_data
from atomjax.recipes.sections import data_of, generated, section, variant

SIZES = (10, 50, 200, 1000)
GRAPH = section(cutoff=4.0)


def from_checkpoint(config: Any) -> None:
    config.finetune.head_from = "mean"
    config.train.schedule.warmup_steps = 100
    config.train.optimizer.groups = [{"pattern": "^backbone/", "multiplier": 0.3}]


def limit(config: Any, size: int) -> None:
    config.train.max_structures = size
    config.train.epochs = small_data.FINETUNING_STEPS * small_data.BATCH_SIZE // size


def base_config() -> Any:
    config = section()
    config.workflow = "finetune"
    config.model = small_data.model_settings(GRAPH.cutoff)
    aspirin = generated("aspirin", generator="dynamics", count=1350, molecule="aspirin", seed=0)
    aspirin.split = section(train=max(SIZES), validation=50, test=300)
    aspirin.graph = GRAPH
    config.data = data_of(aspirin)
    config.head = section(**small_data.HEAD)
    config.finetune = section(checkpoint="atomjax-molecules")
    config.train = small_data.train_settings()
    config.train.validation.eval_every = 100
    config.train.validation.select_by = "force_mae"
    return config


def get_config() -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "sweep"
    config.base = base_config()
    config.variants = []
    for size in SIZES:
        limited = functools.partial(limit, size=size)
        config.variants += [
            variant(
                f"molecules_{size}",
                config.base,
                [from_checkpoint, limited],
                line="atomjax-molecules",
                x=size,
            ),
            variant(
                f"scratch_{size}",
                config.base,
                [limited],
                start="scratch",
                line="random weights",
                x=size,
            ),
        ]
    config.seeds = (0, 1, 2)
    config.reference = f"scratch_{max(SIZES)}"
    config.x_label = "labelled structures"
    return config
