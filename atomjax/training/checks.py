"""Checks of a config that need neither data nor an accelerator."""

from atomjax.data.settings import DataSettings
from atomjax.data.sources import believe_units
from atomjax.models import build_model, find_backbone
from atomjax.runtime.config import ConfigError
from atomjax.training.basis import with_basis
from atomjax.training.budget import check_budget
from atomjax.training.finetune import compare_backbones
from atomjax.training.job import head_config
from atomjax.training.running.checkpoint import read_metadata
from atomjax.training.settings import HeadSettings, ModelSettings, RunSettings, TrainSettings
from atomjax.training.update.layer_rates import all_groups


def check_settings(settings: RunSettings) -> list[str]:
    """Checks everything about a config that can be known before reading data.

    Args:
        settings: settings of the config.

    Returns:
        Notes on what the run will do.

    Raises:
        ConfigError: naming the key and how to mend it.
        CheckpointError: if the checkpoint to finetune is missing or of another model.
    """
    notes = [f"workflow {settings.workflow}, seed {settings.seed}"]
    finetune = settings.finetune
    if settings.workflow != "finetune":
        notes += _check_training(settings.model, settings.data, settings.train, settings.head)
    if finetune is not None:
        data, train = finetune.data or settings.data, finetune.train or settings.train
        notes += _check_training(settings.model, data, train, finetune.head)
        if finetune.checkpoint is not None and settings.workflow == "finetune":
            metadata = read_metadata(finetune.checkpoint, finetune.which)
            model = {"name": settings.model.name, **settings.model.overrides}
            wanted = with_basis(model, [], metadata)
            compare_backbones(metadata["model"], wanted, finetune.checkpoint)
            notes.append(f"checkpoint {finetune.checkpoint}, step {metadata['step']}")
    return notes


def _check_training(
    model: ModelSettings, data: DataSettings, train: TrainSettings, head: HeadSettings
) -> list[str]:
    config = {"name": model.name, **model.overrides}
    try:
        build_model(config, [head_config(head, dataset.name) for dataset in data.train])
    except (ValueError, TypeError) as error:
        raise ConfigError(f"config.model: {error}") from error
    all_groups(train, find_backbone(config))
    for dataset in (*data.train, *data.validation, *data.test):
        believe_units(dataset)
    _check_selection(train, head)
    budget = "C is known once the data are read"
    structures = train.max_structures
    limits = [dataset.max_structures for dataset in data.train if dataset.max_structures]
    if structures is None and len(limits) == len(data.train):
        structures = sum(limits)
    if structures is not None:
        total = check_budget(train, structures)
        budget = f"C = {train.epochs} epochs × {structures:,} structures = {total:,}"
    names = ", ".join(dataset.name for dataset in data.train)
    return [f"{model.name} on {names}: {head.kind}, {budget}"]


def _check_selection(train: TrainSettings, head: HeadSettings) -> None:
    measured = {
        "energy_forces": ("loss", "energy_mae", "force_mae"),
        "energy": ("loss", "energy_mae"),
        "scalar": ("loss", "value_mae"),
    }[head.kind]
    if head.stress:
        measured = (*measured, "stress_mae")
    if train.select_by not in measured:
        raise ConfigError(
            f'train.select_by="{train.select_by}" is not measured for head.kind="{head.kind}"; '
            f"write one of {', '.join(measured)}"
        )


def check_test_part(settings: RunSettings) -> None:
    """Checks that every training set has a part to test on.

    Raises:
        ConfigError: naming the first that has none.
    """
    tested = {dataset.name for dataset in settings.data.test}
    for dataset in settings.data.train:
        split = dataset.split
        if dataset.name not in tested and not (split is not None and split.fills("test")):
            raise ConfigError(
                f'dataset "{dataset.name}" has no test part, by which points are compared; give '
                "its split one, or data.test"
            )
