"""The data card of a training that is not made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.training.checks import check_settings
from atomjax.training.finetune import check_alone
from atomjax.training.session import Session
from atomjax.training.settings import RunSettings

# Workflows of one training.
CARDS = ("pretrain", "finetune", "probe")


def show_card(config: Mapping[str, Any], folder: Path) -> None:
    """Prints the data card of workflow "pretrain", "finetune" or "probe".

    Args:
        config: the config.
        folder: directory for what is made meanwhile, such as generated sets.

    Raises:
        ConfigError: settings contradict each other or the data.
        ReadError: a file cannot be read.
    """
    if config.get("workflow") not in CARDS:
        raise ConfigError(
            f"workflow {config.get('workflow')!r} has no data card; those of one training have: "
            f"{', '.join(CARDS)}"
        )
    settings = RunSettings.from_config(config)
    check_settings(settings)
    if settings.workflow != "pretrain":
        check_alone(settings)
    Session(settings, Run(folder)).checkpoints.close()
