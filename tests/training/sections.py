"""Settings of a training from its fields by name; the schema knows the section of each."""

from typing import Any

from atomjax.runtime.config import build
from atomjax.runtime.earlier import translated
from atomjax.training.settings import TrainSettings


def train_section(**fields: Any) -> dict[str, Any]:
    """The section "train" of a config."""
    return translated(TrainSettings, fields)


def train_settings(**fields: Any) -> TrainSettings:
    return build(TrainSettings, train_section(**fields))
