"""Finetune ``atomjax-molecules`` on 50 labels of aspirin, beside twins from random weights.

    python -m atomjax.launch --config configs/finetune/packaged.py --workdir runs/packaged

Frames of a molecular dynamics of aspirin, GFN2-xTB. It is in no pretraining set: those of the
checkpoint end at nine atoms other than hydrogen, aspirin has thirteen. Both take 1,000 steps of
five structures, what the rule for small data gives a finetuning. What came out is in
docs/checkpoints.md.
"""

from typing import Any

import ml_collections

from atomjax.recipes import small_data
from atomjax.recipes.sections import data_of, generated, section, variant

LABELS = 50
GRAPH = section(cutoff=4.0)


def from_checkpoint(config: Any) -> None:
    config.finetune.head_from = "mean"
    config.train.schedule.warmup_steps = 100
    config.train.optimizer.groups = [{"pattern": "^backbone/", "multiplier": 0.3}]


def base_config() -> Any:
    config = section()
    config.workflow = "finetune"
    config.model = small_data.model_settings(GRAPH.cutoff)
    aspirin = generated("aspirin", generator="dynamics", count=400, molecule="aspirin", seed=0)
    aspirin.split = section(train=LABELS, validation=50, test=300)
    aspirin.graph = GRAPH
    config.data = data_of(aspirin)
    config.head = section(**small_data.HEAD)
    config.finetune = section(checkpoint="atomjax-molecules")
    epochs = small_data.FINETUNING_STEPS * small_data.BATCH_SIZE // LABELS
    config.train = small_data.force_training(epochs, 100)
    return config


def get_config() -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "sweep"
    config.base = base_config()
    config.variants = [
        variant("molecules", config.base, [from_checkpoint]),
        variant("scratch", config.base, [], start="scratch"),
    ]
    config.seeds = (0, 1, 2)
    config.reference = "scratch"
    return config
