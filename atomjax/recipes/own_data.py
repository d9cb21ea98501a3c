"""A config for one's own data: how they are divided, and settings by the rule for small data."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from atomjax.data.facts import facts_of
from atomjax.data.given import LABEL_OPTIONS, file_entry, load_entry
from atomjax.data.settings import DatasetSettings, SplitSettings
from atomjax.data.structures import divide
from atomjax.recipes.sections import Section, section
from atomjax.recipes.small_data import (
    CUTOFFS,
    NETWORKS,
    Choice,
    choose_finetuning,
    choose_settings,
)
from atomjax.runtime.config import Argument, ConfigError, build, nearest
from atomjax.runtime.downloads import find_download, is_download
from atomjax.training.running.checkpoint import read_metadata

NAME = "own"
PARTS = ("validation", "test")
OPTIONS = ("checkpoint", "network", *PARTS, *LABEL_OPTIONS)
# Number of files → the parts that they are.
FILES = {1: ("train",), 2: ("train", "test"), 3: ("train", "validation", "test")}
# Shares of the training data that are held out for parts without data of their own.
HELD_OUT = {"validation": 0.15, "test": 0.25}


def own_config(argument: str) -> Section:
    """The config of a training on files or stores, which are read for it.

    Args:
        argument: files and options, separated by commas. One file is divided into training,
            validation and test structures; of two files the first is divided into training and
            validation structures, and the second is the test; three are taken as they are.
            Options: "checkpoint=DIR" finetunes it; "network=equiformer_v2" takes that one instead
            of GemNet-OC; "validation=FILE" and "test=FILE" name parts; "energy_key=NAME" and
            likewise forces_key and stress_key say where labels are, if not under ASE's names;
            "energy_unit=UNIT", length_unit, force_unit and stress_unit give units, if not eV and Å;
            format, ase_format, on_error and use_tags are as for files in a config.

    Raises:
        ConfigError: there are no files, more than three, or an unknown option.
        ReadError: a file cannot be read.
        CheckpointError: there is no such checkpoint.
    """
    files, options = _parse(argument)
    keys = label_options(options)
    entries = {part: own_entry(NAME, Path(path), keys) for part, path in files.items()}
    return training_config(entries, options.get("checkpoint"), options.get("network"))


def own_entry(name: str, path: Path, keys: Mapping[str, str]) -> dict[str, Any]:
    """The entry of a config for a file or store; a name that tells no format is extended XYZ."""
    return file_entry(name, path, keys, otherwise="extxyz")


def training_config(
    entries: Mapping[str, Mapping[str, Any]],
    checkpoint: str | None = None,
    network: str | None = None,
) -> Section:
    """The config of a training on data sets, with settings by the rule for small data.

    Args:
        entries: "train", and "validation" and "test" where these have data of their own → entry of
            a config, of a file or a store. Without validation data, shares of the training data are
            held out, unless its entry has a split. Values of its graph come before the rule's.
        checkpoint: directory of the model to finetune; None trains from random weights.
        network: network to train from random weights; None takes GemNet-OC.

    Raises:
        ConfigError: no structure has a label, the network is unknown, or parts are given twice.
        ReadError: a file cannot be read.
        CheckpointError: there is no such checkpoint.
    """
    if network is not None and network not in NETWORKS:
        raise ConfigError(f"network={network!r}: write one of {', '.join(NETWORKS)}")
    if network is not None and checkpoint is not None:
        raise ConfigError("the checkpoint says which network it is; leave network out")
    split = _split_of(entries)
    structures = load_entry(build(DatasetSettings, {**entries["train"], "split": None}))
    training = divide(structures, build(SplitSettings, split) if split else None, NAME)["train"]
    facts = facts_of(training, CUTOFFS)
    if checkpoint is None:
        choice = choose_settings(facts, network or NETWORKS[0])
    else:
        choice = choose_finetuning(facts, read_metadata(checkpoint, "best"))
    data = section()
    for part, entry in entries.items():
        graph = {**choice.graph, **entry.get("graph", {})}
        complete = {**entry, "name": NAME, "graph": graph}
        if entry["kind"] == "read" and not facts.energies:
            complete["energy_kind"] = "none"
        data[part] = [complete | ({"split": split} if part == "train" else {})]
    return config_of(choice, data, checkpoint)


def _split_of(entries: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The split of the training data, which an entry may bring; None where all are trained on."""
    own = entries["train"].get("split")
    others = [part for part in PARTS if part in entries]
    if own is not None and others:
        raise ConfigError(
            f"the training data have a split of their own beside data for {' and '.join(others)}; "
            "leave the split out, or these"
        )
    held_out = {part: share for part, share in HELD_OUT.items() if part not in entries}
    return own or (held_out if "validation" in held_out else None)


def config_of(choice: Choice, data: Section, checkpoint: str | None) -> Section:
    """The config of a training with the settings that the rule chose."""
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


def _parse(argument: str) -> tuple[dict[str, str], dict[str, str]]:
    """The file of each part, and the options of an argument."""
    paths, options = parse_words(argument, OPTIONS)
    if len(paths) not in FILES:
        raise ConfigError(
            f"own.py takes one to three files, not {len(paths)}: "
            "--config configs/finetune/own.py:train.xyz,validation.xyz,test.xyz"
        )
    files = dict(zip(FILES[len(paths)], paths, strict=True))
    for part in PARTS:
        if part in options and part in files:
            raise ConfigError(
                f"own.py: {part}={options[part]} and the file {files[part]}: give one"
            )
    files |= {part: options[part] for part in PARTS if part in options}
    check_files(files.values())
    return files, options


def parse_words(argument: str, known: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The files, and the options "NAME=VALUE", of words separated by commas.

    Raises:
        ConfigError: an option is not one of the known.
    """
    paths: list[str] = []
    options: dict[str, str] = {}
    for word in filter(None, map(str.strip, argument.split(","))):
        key, separator, value = word.partition("=")
        if not separator or (key not in known and Path(word).exists()):
            paths.append(word)
        elif key in known:
            options[key] = value
        else:
            raise ConfigError(f"option '{key}' of the config is unknown.{nearest(key, known)}")
    return paths, options


def label_options(options: Mapping[str, str]) -> dict[str, str]:
    """Those options that say where labels are, and their units."""
    return {key: Argument(options[key]) for key in LABEL_OPTIONS if key in options}


def check_files(paths: Iterable[str]) -> None:
    """Raise a ConfigError for a path where there is nothing, or a download that there is not."""
    for path in paths:
        if is_download(path):
            find_download(path)
        elif not Path(path).exists():
            raise ConfigError(f"'{path}' is not a file or a store")
