"""Data, model and loss of one training, from its settings."""

from collections.abc import Callable, Mapping, Sequence
from itertools import starmap
from typing import Any

from atomjax.batching import GraphDataset
from atomjax.data.graphs import BaseGraphs
from atomjax.data.load import DataSplits, FitReferences, FitScales, load_datasets
from atomjax.data.settings import DatasetSettings
from atomjax.data.store_view import fit_references, with_target
from atomjax.graphs import GraphConfig
from atomjax.models import HeadConfig, TargetConfig, find_backbone
from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.structures import ClassLabels, PropertyScale, References, Structure, TargetScale
from atomjax.structures.properties import target_scale
from atomjax.training.basis import check_kind, checkpoint_graph
from atomjax.training.head_source import carry_over, source_references
from atomjax.training.labels import check_labels, check_states, check_unchanged
from atomjax.training.settings import (
    MOMENTS,
    HeadSettings,
    RunSettings,
    TargetSettings,
)
from atomjax.training.update.tasks import Target, Task

Variables = dict[str, Any]


def load_splits(
    settings: RunSettings,
    run: Run,
    resumed: Mapping[str, Any] | None,
    source: Mapping[str, Any] | None,
    replayed: Callable[[int], DataSplits] | None = None,
) -> DataSplits:
    """The data sets of a training, with labels that are fit to be trained on.

    Args:
        settings: settings of the training.
        run: shows progress.
        resumed: metadata of the state to resume, whose references and graphs count.
        source: metadata of the checkpoint to go on from, whose graph is the default.
        replayed: number of a head → the upstream set for it.

    Raises:
        ConfigError: if settings contradict each other, the data or the model.
    """
    head, names = settings.head, [dataset.name for dataset in settings.data.train]
    conservative = head.kind == "energy_forces" and head.forces == "conservative"
    backbone = find_backbone(model := model_config(settings))
    default = backbone.graph
    for dataset in settings.data.train:
        check_kind(dataset.graph.kind, model, f'dataset "{dataset.name}": graph.kind')
    if source is not None and (graph := checkpoint_graph(source)).kind == default.kind:
        default = graph
    graphs = [default] * len(names)
    if resumed is not None:
        graphs = [GraphConfig.from_dict(resumed["graphs"][name]) for name in names]
    remarks: list[str] = []
    splits = load_datasets(
        settings.data,
        run,
        conservative=conservative,
        forces=head.kind == "energy_forces",
        energies=head.kind != "scalar",
        classes=[target.name for target in head.targets if target.kind == "class"],
        stress=head.stress,
        max_structures=settings.train.max_structures,
        edge_dropout=settings.train.regularization.edge_dropout,
        fixed_atoms=settings.train.loss.fixed_atoms,
        fit=_reference_fit(settings, conservative, resumed, source, remarks),
        fit_scales=_scale_fit(settings, resumed),
        graphs=[BaseGraphs(graph, backbone.published_graph) for graph in graphs],
    )
    splits.remarks.extend(remarks)
    check_labels(head, splits, settings.data.train)
    if replayed is not None:
        splits.extend(replayed(len(names)))
    splits.remarks.extend(check_states(head, splits, ignored=settings.data.ignore_charge))
    change = None if resumed is None else check_unchanged(resumed, splits, settings.to_dict())
    if change is not None:
        if not run.accept_changes:
            raise ConfigError(
                f"the data are not those that this run was trained on: {change}. Put the old file "
                "back, train in a new workdir, or go on with the new data with --accept-changes"
            )
        run.say(f"going on with other data: {change}")
    return splits


def _reference_fit(
    settings: RunSettings,
    conservative: bool,
    resumed: Mapping[str, Any] | None,
    source: Mapping[str, Any] | None,
    remarks: list[str],
) -> FitReferences | None:
    """Source of references: the resumed state, the head to start from, or (None) the data."""
    names = [dataset.name for dataset in settings.data.train]

    def stored(index: int, _: Sequence[Structure]) -> References | None:
        assert resumed is not None
        given = resumed["datasets"][names[index]]["references"]
        return given and References.from_dict(given)

    def carried(index: int, structures: Sequence[Structure]) -> References:
        assert source is not None
        assert settings.start.head_from is not None
        base = source_references(source, settings.start.head_from)
        kept, remark = carry_over(base, fit_references(structures, conservative), structures)
        remarks.append(f"{names[index]}: {remark}")
        return kept

    if resumed is not None:
        return stored
    return None if source is None or settings.start.head_from is None else carried


def _scale_fit(settings: RunSettings, resumed: Mapping[str, Any] | None) -> FitScales:
    """Source of the properties' scales: the resumed state, or the data."""
    names = [dataset.name for dataset in settings.data.train]

    def fitted(index: int, structures: Sequence[Structure]) -> list[TargetScale]:
        if resumed is not None:
            stored = resumed["datasets"][names[index]]["properties"]
            return [target_scale(fields) for fields in stored]
        return [fit_target(target, structures) for target in settings.head.targets]

    return fitted


def fit_target(target: TargetSettings, structures: Sequence[Structure]) -> TargetScale:
    """Scale of a number, or the classes, from a training set.

    Raises:
        ReferencesError: no structure has such a property, or labels do not fit the settings.
    """
    structures = with_target(structures, target.name)
    if target.kind == "class":
        classes, weights = target.classes, target.class_weights
        return ClassLabels.fit(structures, target.name, classes=classes, weights=weights)
    return PropertyScale.fit(
        structures,
        target.name,
        extensive=target.extensive,
        transform=target.transform,
        centered=target.pooling not in MOMENTS,
    )


def model_config(settings: RunSettings) -> dict[str, Any]:
    """The model's config with the training's dropout rates and precision.

    It leaves open where the bases end; see :func:`atomjax.training.basis.with_basis`.
    """
    train = settings.train
    config = {"name": settings.model.name, **settings.model.overrides}
    if train.regularization.dropout is not None:
        config["dropout"] = train.regularization.dropout
    if train.regularization.edge_dropout:
        config["edge_dropout"] = train.regularization.edge_dropout
    if train.precision is not None:
        config["precision"] = train.precision
    return config


def head_config(
    head: HeadSettings, name: str, scales: Sequence[TargetScale] | None = None
) -> HeadConfig:
    """The model's head for one dataset; without its scales, classes of unknown number are two."""
    given = [None] * len(head.targets) if scales is None else scales
    return HeadConfig(
        name=name,
        kind=head.kind,
        forces=head.forces if head.kind == "energy_forces" else None,
        targets=tuple(starmap(_target_config, zip(head.targets, given, strict=True))),
        num_layers=head.num_layers,
        hidden_channels=head.hidden_channels,
        force_hidden_channels=head.force_hidden_channels,
        stress=head.stress,
    )


def _target_config(target: TargetSettings, scale: TargetScale | None) -> TargetConfig:
    classes = 0 if target.kind == "number" else len(target.classes) or 2
    if isinstance(scale, ClassLabels):
        classes = len(scale.classes)
    name, pooling, dropout = target.name, target.pooling, target.dropout
    return TargetConfig(name=name, pooling=pooling, num_classes=classes, dropout=dropout)


def make_tasks(settings: RunSettings, datasets: Sequence[GraphDataset]) -> tuple[Task, ...]:
    """One task for each training dataset, with its own coefficients and units."""
    head = settings.head
    return tuple(
        make_task(settings, own, head, dataset.references, _targets(head, dataset))
        for own, dataset in zip(settings.data.train, datasets, strict=True)
    )


def make_task(
    settings: RunSettings,
    dataset: DatasetSettings,
    head: HeadSettings | HeadConfig,
    references: References | None,
    targets: tuple[Target, ...] = (),
) -> Task:
    """The part of one data set in the loss, with its own coefficients or the training's."""
    loss = settings.train.loss
    energy, forces = dataset.energy_coefficient, dataset.force_coefficient
    return Task(
        name=dataset.name,
        kind=head.kind,
        targets=targets,
        energy_coefficient=loss.energy_coefficient if energy is None else energy,
        force_coefficient=loss.force_coefficient if forces is None else forces,
        energy_scale=references.energy_scale if references else 1.0,
        force_scale=references.force_scale if references else 1.0,
        stress=head.stress,
        stress_coefficient=loss.stress_coefficient,
        scalar_loss=loss.scalar_loss,
        force_loss=loss.force_loss,
        huber_delta=loss.huber_delta,
    )


def _targets(head: HeadSettings, dataset: GraphDataset) -> tuple[Target, ...]:
    """The properties that a data set trains, with its units or classes."""
    return tuple(
        Target(
            name=target.name,
            unit=target.unit,
            coefficient=target.coefficient,
            **(
                {"classes": scale.classes, "weights": scale.weights}
                if isinstance(scale, ClassLabels)
                else {"scale": scale.std, "mean": scale.mean, "transform": scale.transform}
            ),
        )
        for target, scale in zip(head.targets, dataset.scales, strict=True)
    )
