"""Finetuning: a pretrained backbone with new heads, or the same model from random weights."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax

from atomjax.models import backbone_config, build_model, check_fitted, find_backbone, init_variables
from atomjax.models.network import head_key
from atomjax.runtime.config import ConfigError, differences
from atomjax.runtime.run import Run
from atomjax.training.from_settings import Variables
from atomjax.training.head_source import source_heads, source_parameters
from atomjax.training.running.checkpoint import (
    CheckpointError,
    load_backbone,
    load_checkpoint,
)
from atomjax.training.session import Session
from atomjax.training.settings import RunSettings


def finetune(config: Mapping[str, Any] | RunSettings, run: Run) -> dict[str, Any]:
    """Finetunes a checkpoint, or trains from scratch where there is none; resumes likewise.

    The checkpoint's heads are discarded, unless ``finetune.head_from`` asks for one, and new ones
    trained with the whole backbone. The scale factors are the checkpoint's; a model from scratch
    has them fitted to its own data.

    Args:
        config: settings of workflow "finetune", or a config that makes them.
        run: receives metrics, checkpoints, test predictions and ``results.json``.

    Returns:
        See :meth:`atomjax.training.session.Session.train`.

    Raises:
        ConfigError: if settings contradict each other or the data.
        CheckpointError: if the checkpoint is missing or of another model.
        FloatingPointError: at a loss that is not finite, naming the structures.
        RunInterrupted: after SIGTERM, with the state saved.
    """
    settings = RunSettings.from_config(config)
    check_alone(settings)
    session = Session(settings, run)
    if settings.start.checkpoint is None:
        return session.train()
    return session.train(functools.partial(load_pretrained, session))


def check_alone(settings: RunSettings) -> None:
    """Raise ConfigError where section "finetune" is missing, or asks for several trainings."""
    start = settings.finetune
    if start is None:
        raise ConfigError(f'workflow is "{settings.workflow}"; write "finetune"')
    if len(start.seeds) > 1 or start.folds:
        raise ConfigError(
            "several finetune.seeds or finetune.folds make several trainings; run them with "
            "atomjax.studies.benchmark.finetune, as the launcher does"
        )


def load_pretrained(session: Session, variables: Variables) -> Variables:
    """``variables`` with the backbone and the scale factors of the session's checkpoint.

    Raises:
        CheckpointError: if the checkpoint is missing or of another backbone.
        ScaleFactorError: if its scale factors were never fitted.
    """
    start = session.settings.start
    checkpoint = start.checkpoint
    assert checkpoint is not None
    source, metadata = load_checkpoint(checkpoint, start.which, averaged=start.averaged)
    compare_backbones(metadata["model"], session.model_config, checkpoint)
    source, dropped = _without_edge_output(source, variables, session)
    loaded = load_backbone(variables, source, checkpoint)
    check_fitted(loaded)
    loaded, heads = _with_heads(loaded, source, metadata, session)
    kind = "averaged" if start.averaged else "last"
    count = len(jax.tree.leaves(loaded["params"]["backbone"]))
    session.run.say(
        f"backbone of {checkpoint} (step {metadata['step']}, {kind} weights): {count} parameter "
        f"arrays loaded; {heads}"
        + (f"; {dropped} arrays of edge features, which no head here reads" if dropped else "")
    )
    return loaded


def _with_heads(
    variables: Variables, source: Variables, metadata: Mapping[str, Any], session: Session
) -> tuple[Variables, str]:
    """The variables with the checkpoint's heads where it is asked for them, and a note."""
    head_from, replay = session.settings.start.head_from, session.replay
    wanted = {head.name: head_from for head in session.heads if head_from is not None}
    if replay is not None:
        wanted[replay.name] = replay.source
    given = {
        key: {
            **variables["params"][key],
            **source_parameters(metadata, source["params"], wanted[head.name], head),
        }
        for head in session.heads
        if head.name in wanted and (key := head_key(head.name))
    }
    names = {h["name"] for one in wanted.values() for h in source_heads(metadata, one)}
    gone = [head["name"] for head in metadata["heads"] if head["name"] not in names]
    note = [f"heads from {', '.join(sorted(names))}"] if names else []
    note += [f"heads discarded: {', '.join(gone)}"] if gone else []
    return {**variables, "params": {**variables["params"], **given}}, "; ".join(note)


def compare_backbones(stored: Mapping[str, Any], wanted: Mapping[str, Any], name: str) -> None:
    """Raise CheckpointError, naming fields, where a checkpoint's backbone computes otherwise."""
    configs = [dataclasses.asdict(backbone_config(config)) for config in (stored, wanted)]
    free = {*find_backbone(stored).free_fields, *find_backbone(wanted).free_fields}
    kept = [{k: v for k, v in config.items() if k not in free} for config in configs]
    changed = differences(kept[0], kept[1], "model")
    if changed:
        raise CheckpointError(
            f"{name} holds another backbone than the config asks for:\n  "
            + "\n  ".join(changed)
            + f"\nSet model.name={stored['name']!r} and the overrides it was trained with."
        )


def _without_edge_output(
    source: Variables, target: Variables, session: Session
) -> tuple[Variables, int]:
    """The source without parameters that only edge outputs have, and the number of these."""
    field = find_backbone(session.model_config).edge_field
    if field is None:
        return source, 0
    complete = build_model({**session.model_config, field: True}, session.heads)
    batch = session.train_loader.example_batch()
    shapes = jax.eval_shape(lambda: init_variables(complete, jax.random.key(0), batch))
    edge_only = set(_flatten(shapes)) - set(_flatten(target))
    flat = _flatten(source)
    kept = {path: leaf for path, leaf in flat.items() if path not in edge_only}
    return flax.traverse_util.unflatten_dict(kept), len(flat) - len(kept)


def _flatten(variables: Variables) -> dict[tuple[str, ...], Any]:
    return flax.traverse_util.flatten_dict(variables)
