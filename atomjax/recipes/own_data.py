"""A config for one's own files: how they are divided, and settings by the rule for small data."""

from pathlib import Path
from typing import Any

from atomjax.data.load import divide
from atomjax.data.settings import SplitSettings
from atomjax.recipes.sections import Section, data_of, read, section
from atomjax.recipes.small_data import (
    NETWORKS,
    Choice,
    choose_finetuning,
    choose_settings,
    facts_of,
)
from atomjax.runtime.config import ConfigError, build, nearest
from atomjax.structures.readers import read as read_structures
from atomjax.training.running.checkpoint import read_metadata

NAME = "own"
KEYS = ("energy_key", "forces_key", "stress_key")
OPTIONS = ("checkpoint", "network", *KEYS)
# Number of files → shares of the first that are held out, for parts that have no file of their own.
SPLITS = {1: {"validation": 0.15, "test": 0.25}, 2: {"validation": 0.15}, 3: None}


def own_config(argument: str) -> Section:
    """The config of a training on extended XYZ files, which are read for it.

    Args:
        argument: files and options, separated by commas. One file is divided into training,
            validation and test structures; of two files the first is divided into training and
            validation structures, and the second is the test; three are taken as they are.
            Options: "checkpoint=DIR" finetunes it; "network=equiformer_v2" takes that one instead
            of GemNet-OC; "energy_key=NAME" and likewise forces_key and stress_key say where labels
            are, if not under ASE's names.

    Raises:
        ConfigError: there are no files, more than three, or an unknown option.
        ReadError: a file cannot be read.
        CheckpointError: there is no such checkpoint.
    """
    files, options = _parse(argument)
    arguments: dict[str, Any] = {key: options[key] for key in KEYS if key in options}
    split = SPLITS[len(files)]
    structures = read_structures(files[0], "extxyz", **arguments)
    training = divide(structures, build(SplitSettings, split) if split else None, NAME)["train"]
    facts = facts_of(training)
    checkpoint = options.get("checkpoint")
    if checkpoint is None:
        choice = choose_settings(facts, options.get("network", NETWORKS[0]))
    else:
        choice = choose_finetuning(facts, read_metadata(checkpoint, "best"))

    def dataset(path: str) -> Section:
        entry = read(NAME, path, "extxyz")
        entry.energy_unit = "eV"
        entry.length_unit = "Å"
        entry.energy_kind = "total" if facts.energies else "none"
        entry.arguments = arguments
        entry.graph = choice.graph
        return entry

    data = data_of(dataset(files[0]))
    data.train[0].split = split
    if len(files) > 1:
        data.test = [dataset(files[-1])]
    if len(files) > 2:
        data.validation = [dataset(files[1])]
    return config_of(choice, data, checkpoint)


def config_of(choice: Choice, data: Section, checkpoint: str | None) -> Section:
    """The config of a training with the settings that the rule chose.

    Args:
        choice: settings chosen by the rule.
        data: section of the config.
        checkpoint: directory of the pretrained model, or None.
    """
    config = section()
    config.workflow = "finetune"
    config.seed = 0
    config.notes = choice.reasons
    config.model = choice.model
    config.data = data
    config.head = choice.head
    config.train = choice.train
    config.finetune = section()
    config.finetune.checkpoint = checkpoint
    config.finetune.head_from = choice.head_from
    return config


def _parse(argument: str) -> tuple[list[str], dict[str, str]]:
    """The files and the options of an argument."""
    files: list[str] = []
    options: dict[str, str] = {}
    for word in filter(None, (part.strip() for part in argument.split(","))):
        key, separator, value = word.partition("=")
        if not separator:
            files.append(word)
        elif key in OPTIONS:
            options[key] = value
        else:
            raise ConfigError(f"option '{key}' of own.py is unknown.{nearest(key, OPTIONS)}")
    if len(files) not in SPLITS:
        raise ConfigError(
            f"own.py takes one to three files, not {len(files)}: "
            "--config configs/finetune/own.py:train.xyz,validation.xyz,test.xyz"
        )
    if options.get("network", NETWORKS[0]) not in NETWORKS:
        raise ConfigError(f"own.py: network is one of {', '.join(NETWORKS)}")
    if "network" in options and "checkpoint" in options:
        raise ConfigError("own.py: the checkpoint says which network it is; leave network out")
    for file in files:
        if not Path(file).is_file():
            raise ConfigError(f"own.py: '{file}' is not a file; give extended XYZ files")
    return files, options
