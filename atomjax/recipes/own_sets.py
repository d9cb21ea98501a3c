"""Configs that compare one's own data sets with a task, or choose among or within them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from atomjax.data.given import LABEL_OPTIONS
from atomjax.recipes import small_data
from atomjax.recipes.own_data import (
    check_files,
    label_options,
    own_entry,
    parse_words,
    training_config,
)
from atomjax.recipes.sections import Section, section
from atomjax.runtime.config import ConfigError

OPTIONS = ("task", "checkpoint", "budget", *LABEL_OPTIONS)
# Of a trial: passes over the candidate, structures a batch, and the share that selects the weights.
EPOCHS, BATCH_SIZE, VALIDATION = 10, 16, 0.1


def csi_config(argument: str, measures: Sequence[str], known: Iterable[Path] = ()) -> Section:
    """The config of a comparison of files or stores.

    Args:
        argument: files and options, separated by commas; data sets are named after their files.
            Options: "task=FILE" names the task, else the last file is it; a task alone is compared
            with ``known``. "checkpoint=DIR" takes the features of that model; "budget=C" goes on to
            try the candidates, see `with_trials`; energy_key=NAME and so on say where labels are,
            as for `atomjax.recipes.own_data.own_config`.
        measures: names of the measures, the one that decides first.
        known: files to compare a task with where no others are given.

    Raises:
        ConfigError: there are fewer than two files, an unknown option, or a budget that is none.
    """
    paths, options = parse_words(argument, OPTIONS)
    if "budget" in options and not paths:
        raise ConfigError("own.py: budget=C pretrains on candidates; give their files, with labels")
    if "task" in options:
        paths = [*(paths or map(str, known)), options["task"]]
    if len(paths) < 2:
        raise ConfigError(
            "own.py takes candidates and a task: "
            "--config configs/csi/own.py:first.xyz,second.xyz,task=task.xyz"
        )
    check_files(paths)
    keys = label_options(options)
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
    budget = options.get("budget")
    if budget is None:
        return config
    if not budget.isdecimal():
        raise ConfigError(f"own.py: budget={budget} is not a number of samples; write budget=12000")
    return with_trials(config, entries[-1], int(budget))


def with_trials(config: Section, task: Mapping[str, Any], budget: int) -> Section:
    """The config of a successive halving of the candidates.

    The task's structures are divided; model, graph and finetuning follow from those for training
    by the rule for small data, and the pretraining has the same model.
    """
    tuned = training_config({"train": task})
    (own,) = tuned.data.train
    own["name"] = task["name"]
    config.workflow, config.downstream = "halving", []
    for candidate in config.candidates:
        candidate["split"], candidate["graph"] = {"validation": VALIDATION}, own["graph"]
    plan = config.plan = section()
    plan.model, plan.head, plan.budget = tuned.model, tuned.head, budget
    train = plan.train = small_data.train_settings(batch_size=BATCH_SIZE)
    train.epochs = EPOCHS
    train.validation.eval_every = max(1, budget // BATCH_SIZE // small_data.VALIDATIONS)
    train.validation.select_by = tuned.train.validation.select_by
    config.finetuning = section(seeds=(0, 1, 2), data=section(train=[own]), head=tuned.head)
    config.finetuning.train, config.finetuning.head_from = tuned.train, "mean"
    return config


def _different(name: str, names: list[str], i: int) -> str:
    """The name of the i-th of several sets, numbered where another has it, too."""
    return name if names.count(name) == 1 else f"{name}_{names[: i + 1].count(name)}"


def difficulty_config(argument: str) -> Section:
    """The config of a choice of structures by how hard they are for a model.

    Args:
        argument: a file or store, and the options "checkpoint=DIR", "size=N", "choose=WORD",
            "head=NAME", and those of labels as for `atomjax.recipes.own_data.own_config`.

    Raises:
        ConfigError: file, checkpoint or size are missing, or an option is unknown.
    """
    own = ("checkpoint", "size", "choose", "head")
    paths, options = parse_words(argument, (*own, *LABEL_OPTIONS))
    missing = [name for name in ("checkpoint", "size") if name not in options]
    if len(paths) != 1 or missing or not options["size"].isdecimal():
        raise ConfigError(
            "difficulty.py takes one file, a checkpoint and a number of structures: --config "
            "configs/csi/difficulty.py:pool.xyz,checkpoint=runs/mine,size=500"
        )
    check_files(paths)
    path = Path(paths[0])
    config = section(workflow="difficulty", seed=0)
    config.dataset = own_entry(path.name.partition(".")[0], path, label_options(options))
    config.checkpoint, config.size = options["checkpoint"], int(options["size"])
    config.choose, config.head = options.get("choose", "high"), options.get("head")
    return config
