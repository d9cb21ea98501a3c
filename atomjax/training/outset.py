"""Checks of a training before anything is computed."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from atomjax.batching import GraphDataset
from atomjax.data.labels import elements_of
from atomjax.models import backbone_config, find_backbone
from atomjax.runtime.cluster import processes
from atomjax.runtime.config import ConfigError
from atomjax.structures.elements import MAX_ATOMIC_NUMBER, SYMBOLS
from atomjax.training.running.checkpoint import Checkpoints
from atomjax.training.settings import RunSettings


def check_start(settings: RunSettings) -> None:
    """Raise ConfigError where the precision is another, or there is no backbone to start from."""
    if settings.train.dtype == "float64" and not jax.config.read("jax_enable_x64"):
        raise ConfigError('train.dtype="float64" needs the environment variable JAX_ENABLE_X64=1')
    pretrained = {
        "train.lora adapts": settings.train.lora,
        "finetune.replay keeps the head of": settings.start.replay,
    }
    for what, given in pretrained.items():
        if given is not None and settings.start.checkpoint is None:
            raise ConfigError(
                f"{what} a pretrained model, and this training starts from random weights: give "
                "finetune.checkpoint, or leave it out"
            )


def last_element(model: Mapping[str, Any]) -> int:
    """The largest atomic number that a model, by its config, has a row for."""
    rows = getattr(backbone_config(model), "num_elements", None)
    given = MAX_ATOMIC_NUMBER if rows is None else find_backbone(model).first_element + rows - 1
    return min(given, MAX_ATOMIC_NUMBER)


def check_elements(model: Mapping[str, Any], datasets: Iterable[GraphDataset]) -> None:
    """Raise ConfigError, naming data set and elements, where a model has no row for an element."""
    backbone, last = find_backbone(model), last_element(model)
    if last == MAX_ATOMIC_NUMBER:
        return  # Whatever the data: they need not be gone through.
    for dataset in datasets:
        beyond = [s for s in elements_of(dataset.structures) if SYMBOLS.index(s) > last]
        if beyond:
            needed = SYMBOLS.index(beyond[-1]) - backbone.first_element + 1
            raise ConfigError(
                f'dataset "{dataset.name}" has {", ".join(beyond)}, and this {backbone.name} ends '
                f"with {SYMBOLS[last]}, Z = {last}: leave such structures out, or, for random "
                f"weights, set model.overrides.num_elements={needed}"
            )


def check_common_step(checkpoints: Checkpoints) -> None:
    """Raise ConfigError where processes find different states to resume from."""
    step = -1 if checkpoints.latest_step is None else checkpoints.latest_step
    first = int(processes.from_first(np.asarray(step, np.int32)))
    if step != first:
        raise ConfigError(
            f"{checkpoints.directory}: process {jax.process_index()} finds step {step}, process 0 "
            f"step {first} (-1: none); the workdir has to be one directory on a file system that "
            "all hosts share. If it is, start again: some show new files late."
        )
