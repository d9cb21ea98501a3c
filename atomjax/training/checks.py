"""Checks of a config that need neither data nor an accelerator."""

from typing import Literal

from atomjax.data.labels import without_labels
from atomjax.data.settings import DatasetSettings, DataSettings
from atomjax.data.sources import check_source
from atomjax.models import build_model, find_backbone
from atomjax.runtime.config import ConfigError
from atomjax.training.basis import with_basis
from atomjax.training.budget import check_budget
from atomjax.training.finetune import compare_backbones
from atomjax.training.from_settings import head_config
from atomjax.training.running.checkpoint import read_metadata
from atomjax.training.running.classification import BALANCED_ERROR
from atomjax.training.settings import HeadSettings, RunSettings, TrainSettings
from atomjax.training.update.layer_rates import all_groups

HEAD_SIZES = ("num_layers", "hidden_channels", "force_hidden_channels")


def check_settings(settings: RunSettings) -> list[str]:
    """Check what can be known of a config before reading data; see ``Workflow.check``."""
    model, data, train, head = settings.model, settings.data, settings.train, settings.head
    config = {"name": model.name, **model.overrides}
    try:
        build_model(config, [head_config(head, dataset.name) for dataset in data.train])
    except (ValueError, TypeError) as error:
        raise ConfigError(f"config.model: {error}") from error
    backbone = find_backbone(config)
    for field in HEAD_SIZES:
        given = getattr(head, field)
        if given != getattr(HeadSettings, field) and field not in backbone.head_sizes:
            raise ConfigError(
                f"config.head.{field}={given}: the heads of {backbone.name} have no such size to "
                f"choose; leave it out (they have {', '.join(backbone.head_sizes)})"
            )
    all_groups(train, backbone)
    for dataset in (*data.train, *data.validation, *data.test, *map(without_labels, data.seen)):
        check_source(dataset)
    if data.seen and not any(_has_part(data, one, "test") for one in data.train):
        raise ConfigError(
            "data.seen divides test errors, and no data set has a test part; give its split one, "
            "or data.test, or leave data.seen out"
        )
    _check_selection(train, head)
    check_weights(settings)
    budget = "C is known once the data are read"
    structures = train.max_structures
    limits = [dataset.max_structures for dataset in data.train if dataset.max_structures]
    if structures is None and len(limits) == len(data.train):
        structures = sum(limits)
    if structures is not None:
        total = check_budget(train, structures)
        budget = f"C = {train.epochs} epochs × {structures:,} structures = {total:,}"
    names = ", ".join(dataset.name for dataset in data.train)
    notes = [f"workflow {settings.workflow}, seed {settings.seed}"]
    predicted = ", ".join([head.kind, *(target.name for target in head.targets)])
    notes.append(f"{model.name} on {names}: {predicted}, {budget}")
    start = settings.finetune
    if start is not None and start.checkpoint is not None:
        metadata = read_metadata(start.checkpoint, start.which)
        compare_backbones(metadata["model"], with_basis(config, [], metadata), start.checkpoint)
        notes.append(f"checkpoint {start.checkpoint}, step {metadata['step']}")
    return notes


def _check_selection(train: TrainSettings, head: HeadSettings) -> None:
    measured = {
        "energy_forces": ("loss", "energy_mae", "force_mae"),
        "energy": ("loss", "energy_mae"),
        "scalar": ("loss",),
    }[head.kind]
    if head.stress:
        measured = (*measured, "stress_mae")
    kinds = {"value_mae": "number", BALANCED_ERROR: "class"}
    by_kind = {m: [t.name for t in head.targets if t.kind == kind] for m, kind in kinds.items()}
    measured = (*measured, *(metric for metric, names in by_kind.items() if names))
    chosen, target = train.validation.select_by, train.validation.select_property
    if chosen not in measured:
        raise ConfigError(
            f'train.validation.select_by="{chosen}" is not measured for head.kind="{head.kind}"; '
            f"write one of {', '.join(measured)}"
        )
    several = chosen in by_kind and len(head.targets) > 1
    names = by_kind.get(chosen, [])
    if several and target not in names:
        raise ConfigError(
            f'train.validation.select_by="{chosen}" is the error of one property: set '
            f'train.validation.select_property to one of {", ".join(names)}, or select_by="loss"'
        )
    if target is not None and not several:
        raise ConfigError(
            f'train.validation.select_property="{target}" is for select_by="value_mae" or '
            f'"{BALANCED_ERROR}" of a head with several targets; leave it out'
        )


def check_weights(settings: RunSettings) -> None:
    """Raise ConfigError, naming the data set, for a weight of what the head does not predict."""
    for dataset in settings.data.train if settings.head.kind == "scalar" else ():
        if (dataset.energy_coefficient, dataset.force_coefficient) != (None, None):
            raise ConfigError(
                f'dataset "{dataset.name}": energy_coefficient and force_coefficient weigh what a '
                'head of kind "scalar" does not predict; its properties have head.targets.0.'
                "coefficient and so on"
            )


def check_part(settings: RunSettings, part: Literal["validation", "test"]) -> None:
    """Raise ConfigError where a training set has no such part to compare points by."""
    for dataset in settings.data.train:
        if not _has_part(settings.data, dataset, part):
            raise ConfigError(
                f'dataset "{dataset.name}" has no {part} part, by which points are compared; give '
                f"its split one, or data.{part}"
            )


def _has_part(data: DataSettings, dataset: DatasetSettings, part: str) -> bool:
    given = any(one.name == dataset.name for one in getattr(data, part))
    return given or (dataset.split is not None and dataset.split.fills(part))
