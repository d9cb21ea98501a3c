"""A config that compares one's own data sets with a task."""

from collections.abc import Sequence
from pathlib import Path

from atomjax.data.given import LABEL_OPTIONS
from atomjax.recipes.own_data import check_files, own_entry, parse_words
from atomjax.recipes.sections import Section, section
from atomjax.runtime.config import ConfigError

OPTIONS = ("task", "checkpoint", *LABEL_OPTIONS)


def csi_config(argument: str, measures: Sequence[str]) -> Section:
    """The config of a comparison of files or stores.

    Args:
        argument: files and options, separated by commas; data sets are named after their files.
            Options: "task=FILE" names the task, else the last file is it; "checkpoint=DIR" takes
            the features of that model; energy_key=NAME and so on say where labels are, as for
            `atomjax.recipes.own_data.own_config`.
        measures: names of the measures, the one that decides first.

    Raises:
        ConfigError: there are fewer than two files, or an unknown option.
    """
    paths, options = parse_words(argument, OPTIONS)
    if "task" in options:
        paths.append(options["task"])
    if len(paths) < 2:
        raise ConfigError(
            "own.py takes candidates and a task: "
            "--config configs/csi/own.py:first.xyz,second.xyz,task=task.xyz"
        )
    check_files(paths)
    keys = {key: options[key] for key in LABEL_OPTIONS if key in options}
    names = [Path(path).name.partition(".")[0] for path in paths]
    entries = [
        own_entry(_different(name, names, i), Path(path), keys)
        for i, (name, path) in enumerate(zip(names, paths, strict=True))
    ]
    config = section()
    config.workflow = "csi"
    config.seed = 0
    config.candidates, config.downstream = entries[:-1], entries[-1:]
    config.measures = tuple(measures)
    config.extractor = section(checkpoint=options.get("checkpoint"))
    return config


def _different(name: str, names: list[str], i: int) -> str:
    """The name of the i-th of several sets, numbered where another has it, too."""
    return name if names.count(name) == 1 else f"{name}_{names[: i + 1].count(name)}"
