"""Finetune weights that come with the package on 10 and more labels, beside random weights.

    python -m atomjax.launch --config configs/finetune/packaged.py:aspirin \
        --workdir runs/packaged/aspirin
    python -m atomjax.launch --config configs/finetune/packaged.py:li_electrode,FILE \
        --workdir runs/packaged/li_electrode

"aspirin" finetunes ``atomjax-molecules`` on 10 to 1,000 frames of a molecular dynamics, GFN2-xTB.
It is in no pretraining set: those of the checkpoint end at nine atoms other than hydrogen, aspirin
has thirteen. "li_electrode" finetunes ``atomjax-crystals`` on 50 frames of DFT of a cathode (the
file of configs/li_electrode.py). All take 1,000 steps of five structures, what the rule for
small data gives a finetuning on 50, and are tested on the same frames; a smaller set lies within
each larger one. What came out is in docs/checkpoints.md.
"""

import functools
from typing import Any

import ml_collections

from atomjax.recipes import dft_sets, small_data
from atomjax.recipes.sections import data_of, generated, section, variant
from atomjax.runtime.config import ConfigError

CHECKPOINTS = {"aspirin": "atomjax-molecules", "li_electrode": "atomjax-crystals"}
SIZES = {"aspirin": (10, 50, 200, 1000), "li_electrode": (50,)}
# Both checkpoints'.
CUTOFF = 4.0  # Å


def task_set(name: str, path: str) -> Any:
    if name == "aspirin":
        dataset = generated("aspirin", generator="dynamics", count=1350, molecule="aspirin", seed=0)
        dataset.split = section(train=1000, validation=50, test=300)
    else:
        dataset = dft_sets.li_electrode(path)
        dataset.split = section(train=50, validation=40, test=210)
    dataset.graph = section(cutoff=CUTOFF)
    return dataset


def base_config(name: str, path: str) -> Any:
    config = section()
    config.workflow = "finetune"
    config.model = small_data.model_settings(CUTOFF)
    config.data = data_of(task_set(name, path))
    config.head = section(**small_data.HEAD)
    config.finetune = section(checkpoint=CHECKPOINTS[name])
    config.train = small_data.force_training(1, 100)
    return config


def limit(config: Any, size: int) -> None:
    config.train.max_structures = size
    config.train.epochs = small_data.FINETUNING_STEPS * small_data.BATCH_SIZE // size


def from_checkpoint(config: Any) -> None:
    config.finetune.head_from = "mean"
    config.train.schedule.warmup_steps = 100
    small_data.slow_backbone(config.train)


def get_config(argument: str = "aspirin") -> ml_collections.ConfigDict:
    name, _, path = argument.partition(",")
    if name not in CHECKPOINTS:
        raise ConfigError(f"packaged.py:{argument}: write one of {', '.join(CHECKPOINTS)}")
    config = section()
    config.workflow = "sweep"
    config.base = base_config(name, path or "Li_electrode_finetune.xyz")
    config.variants = []
    for size in SIZES[name]:
        limited = functools.partial(limit, size=size)
        place = {"x": size, "line": CHECKPOINTS[name]}
        pretrained = variant(f"pretrained_{size}", config.base, [from_checkpoint, limited], **place)
        place["line"] = "random weights"
        scratch = variant(f"scratch_{size}", config.base, [limited], start="scratch", **place)
        config.variants += [pretrained, scratch]
    config.seeds = (0, 1, 2)
    config.reference = f"scratch_{max(SIZES[name])}"
    config.x_label = "labelled structures"
    return config
