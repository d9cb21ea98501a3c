"""Finetuning from Python: data in, a trained model out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atomjax.data.given import Source, dataset_entry
from atomjax.inference.model import Model, load
from atomjax.recipes.own_data import NAME, training_config
from atomjax.runtime.allocator import keep_freed_memory
from atomjax.runtime.config import change
from atomjax.runtime.execution import call, work_in
from atomjax.runtime.progress import Told
from atomjax.runtime.workflows import WORKFLOWS
from atomjax.training.checks import check_settings
from atomjax.training.settings import RunSettings


def finetune(
    checkpoint: str | Path | None,
    *,
    train: Source | Mapping[str, Any],
    validation: Source | Mapping[str, Any] | None = None,
    test: Source | Mapping[str, Any] | None = None,
    workdir: str | Path | None = None,
    network: str | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    ignore_charge: bool = False,
    progress: bool | Told = True,
    **options: Any,
) -> Model:
    """Finetunes a pretrained model, or trains from random weights, with settings for few labels.

    The same as ``configs/finetune/own.py`` with the same files, seed and settings.

    Args:
        checkpoint: run, converted checkpoint or name of packaged weights; None: random weights.
        train: path, list of `ase.Atoms` or `Structure`, store, or an entry of a config.
        validation: structures that choose the best weights; None holds 15 % of the training
            structures out, and without ``test`` another 25 % to test on.
        test: structures whose errors ``results.json`` states.
        workdir: directory of the run, which the same call resumes; None writes nothing.
        network: network to train from random weights, "gemnet_oc" or "equiformer_v2".
        seed: seed of initialisation, order of the structures and dropout.
        settings: dotted key of a config → value: ``{"train.epochs": 100}``.
        ignore_charge: train on charges and spins that differ, though no model here reads them.
        progress: show progress, or a function that is told it, such as `reporting.live.LiveCurves`.
        **options: units and label keys of files and atoms, as in a config.

    Returns:
        The best model by validation.

    Raises:
        CheckpointError: there is no such checkpoint.
        ConfigError: settings contradict each other or the data, or nothing is labelled.
        FloatingPointError: the loss is not finite; the message names the structures.
        ReadError: a file or a frame cannot be read.

    Example:
        >>> import atomjax
        >>> given = {"train": "train.xyz", "validation": "validation.xyz", "progress": False}
        >>> model = atomjax.finetune("runs/pretrained", **given, settings={"train.epochs": 30})
        >>> model.predict("frames.xyz").energies.shape
        (3,)
    """
    keep_freed_memory()
    with work_in(workdir) as folder:
        parts = {"train": train, "validation": validation, "test": test}
        known = {part: source for part, source in parts.items() if source is not None}
        data = folder / "data"
        entries = {part: dataset_entry(NAME, one, data, **options) for part, one in known.items()}
        config = training_config(entries, None if checkpoint is None else str(checkpoint), network)
        given = {"seed": seed, "data.ignore_charge": ignore_charge, **(settings or {})}
        chosen = RunSettings.from_config(change(config, given))
        function = WORKFLOWS["finetune"].load_function()
        call(function, chosen, folder, check=check_settings, progress=progress)
        return load(folder)
