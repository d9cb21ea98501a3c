"""Pretraining: a backbone and one head for each dataset, from random weights."""

from collections.abc import Mapping
from typing import Any

from atomjax.runtime.run import Run
from atomjax.training.session import Session
from atomjax.training.settings import RunSettings


def pretrain(config: Mapping[str, Any] | RunSettings, run: Run) -> dict[str, Any]:
    """Pretrains a model; called again in the same directory, it resumes.

    Args:
        config: settings, or a config that makes them.
        run: receives metrics, checkpoints, test predictions and ``results.json``.

    Returns:
        See :meth:`atomjax.training.session.Session.train`.

    Raises:
        ConfigError: if settings contradict each other or the data.
        FloatingPointError: at a loss that is not finite, naming the structures.
        RunInterrupted: after SIGTERM, with the state saved.
    """
    return Session(RunSettings.from_config(config), run).train()
