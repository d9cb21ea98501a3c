"""Commands of trainings, which say in words what ``python -m atomjax.launch`` runs."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from atomjax.command.labels import add_labels, given_labels
from atomjax.command.launch import main as launch
from atomjax.runtime.config import ConfigError, load_config, override
from atomjax.runtime.execution import work_in
from atomjax.runtime.workflows import resolve

# The config for data files, which the launcher knows by name.
OWN_DATA = "finetune/own"
PARTS = ("validation", "test")


# Further options of the commands that launch, and of the one that only shows.
LAUNCHER = (
    "Further options, such as --workdir DIR, --validate, --print-config and"
    " --config.train.epochs=100, are those of python -m atomjax.launch."
)
OVERRIDES = "--config.KEY=VALUE changes a value of the config."


def add_train_options(parser: argparse.ArgumentParser, further: str = LAUNCHER) -> None:
    """The options of ``atomjax train``."""
    add = parser.add_argument
    add("train", nargs="?", metavar="FILE", help="file or store to train on")
    add("--network", help="gemnet_oc (default) or equiformer_v2")
    _add_common(parser, further)


def add_finetune_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``atomjax finetune``."""
    add = parser.add_argument
    add("checkpoint", nargs="?", metavar="CHECKPOINT", help="run or converted checkpoint")
    add("--train", metavar="FILE", help="file or store to train on")
    _add_common(parser, LAUNCHER)


def add_card_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``atomjax data-card``."""
    add_train_options(parser, OVERRIDES)
    parser.add_argument("--checkpoint", metavar="DIR", help="checkpoint that would be finetuned")


def train(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Trains from random weights, or runs a config of any workflow."""
    return launch([*_source(options), *rest])


def finetune(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Finetunes a checkpoint, or runs a config of any workflow."""
    if options.config is None and options.checkpoint is None:
        raise ConfigError(
            "the checkpoint is missing: atomjax finetune CHECKPOINT --train FILE; atomjax train"
            " begins with random weights"
        )
    return launch([*_source(options), *rest])


def show_card(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Prints the data card of a training."""
    (source,) = _source(options)
    config = override(load_config(source.removeprefix("--config=")), rest)
    with work_in(None) as folder:
        resolve("atomjax.training.card:show_card")(config, folder)
    return 0


def _add_common(parser: argparse.ArgumentParser, further: str) -> None:
    """Options of every training, and a word on further ones."""
    add = parser.add_argument
    add("--config", metavar="FILE", help="Python file with get_config(), instead of data files")
    for part in PARTS:
        add(f"--{part}", metavar="FILE", help=f"{part} structures; held out if left out")
    add_labels(parser)
    parser.description = f"{parser.description} {further}"


def _source(options: argparse.Namespace) -> list[str]:
    """The launcher's ``--config`` for a config, or for data files with their options.

    Raises:
        ConfigError: there is neither or both, or a path cannot be written there.
    """
    given: Mapping[str, Any] = vars(options)
    if options.config is not None:
        used = [name for name, value in given.items() if value is not None and name != "config"]
        if used:
            raise ConfigError(f"--config says what is trained; leave {', '.join(used)} out")
        return [f"--config={options.config}"]
    if options.train is None:
        raise ConfigError("there is nothing to train on; give a file, or --config")
    names = ("checkpoint", "network", *PARTS)
    chosen = {name: given[name] for name in names if given.get(name) is not None}
    chosen |= given_labels(options)
    for value in (options.train, *chosen.values()):
        if "," in value:
            raise ConfigError(f"'{value}' has a comma, which separates files; rename it")
    words = [options.train, *(f"{name}={value}" for name, value in chosen.items())]
    return [f"--config={OWN_DATA}:{','.join(words)}"]
