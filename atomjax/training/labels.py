"""Comparison of the labels that a head needs with those that its data sets have."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from atomjax.batching import GraphDataset
from atomjax.data.fingerprint import describe_change, fingerprint
from atomjax.data.labels import ELEMENT_SAMPLE, LabelCounts, with_any_target
from atomjax.data.load import DataSplits
from atomjax.data.settings import SPLITS, DatasetSettings
from atomjax.runtime.config import ConfigError
from atomjax.runtime.earlier import translated_config
from atomjax.structures import ReferencesError
from atomjax.structures.readers.layouts.label_keys import RecordNotes, describe_keys
from atomjax.structures.states import count_states
from atomjax.structures.store import Store
from atomjax.training.settings import MOMENTS, HeadSettings

MENDS = {
    "energy": 'check arguments.energy_key, or declare energy_kind="none" to train without energies',
    "forces": 'set head.kind="energy", or say where its forces are (arguments.forces_key)',
    "stress": "set head.stress=false, or say where its stresses are (arguments.stress_key, or"
    " virial_key); they count where all three directions repeat",
}


def wanted_labels(head: HeadSettings, has_energies: bool) -> list[str]:
    """The labels, of "energy", "forces" and "stress", that a head is trained on.

    Args:
        head: its settings.
        has_energies: whether the data set declares energies.
    """
    wanted = {
        "energy": head.kind in ("energy", "energy_forces") and has_energies,
        "forces": head.kind == "energy_forces",
        "stress": head.stress,
    }
    return [name for name, is_wanted in wanted.items() if is_wanted]


def check_labels(
    head: HeadSettings, splits: DataSplits, settings: Sequence[DatasetSettings]
) -> None:
    """Check that the data sets have the labels that the head needs.

    Raises:
        ConfigError: no structure of a part of a data set has a label of the head, a head of
            energies has none declared, structures are periodic where molecules are needed, or a
            structure to validate or test on has an element without a reference or a class that
            the training set has not.
    """
    for split, dataset in _parts(splits):
        counts = LabelCounts.of(dataset.structures, [target.name for target in head.targets])
        _check_targets(head, split, dataset, counts)
        declared = settings[dataset.index or 0].energy_kind != "none"
        if isinstance(dataset.structures, Store):
            # What it holds was decided when it was made.
            manifest = dataset.structures.manifest
            held = "total" if manifest["statistics"]["with_energy"] else "none"
            declared = manifest["origin"].get("energy_kind", held) != "none"
        if head.kind == "energy" and not declared:
            raise ConfigError(
                f'dataset "{dataset.name}" has no energies (energy_kind="none"), and its head '
                "predicts energies alone; declare what its energies mean, or choose another "
                "head.kind"
            )
        for label in wanted_labels(head, declared):
            if not getattr(counts, label):
                notes = splits.notes[dataset.index or 0] if splits.notes else RecordNotes()
                raise ConfigError(_nothing(label, split, dataset, notes))
        _check_elements(split, dataset)


def _check_targets(
    head: HeadSettings, split: str, dataset: GraphDataset, counts: LabelCounts
) -> None:
    """Raise for a property that no structure has, or that a periodic one cannot have."""
    for i, target in enumerate(head.targets):
        if target.pooling in MOMENTS and counts.periodic:
            raise ConfigError(
                f'pooling "{target.pooling}" is for molecules, and {counts.periodic:,} {split} '
                f'structures of dataset "{dataset.name}" are periodic; set '
                f'head.targets.{i}.pooling="mean"'
            )
        if not counts.targets[target.name]:
            raise ConfigError(
                f'none of the {len(dataset):,} {split} structures of dataset "{dataset.name}" has '
                f"a target {target.name!r}; leave it out of head.targets, or say which targets to "
                "read (arguments.targets)"
            )
    if head.kind == "scalar" and max(counts.targets.values()) < len(dataset):
        without = ~with_any_target(dataset.structures, list(counts.targets))
        if without.any():
            first = dataset.identify(int(np.flatnonzero(without)[0]))
            raise ConfigError(
                f"{without.sum():,} of the {len(dataset):,} {split} structures of dataset "
                f'"{dataset.name}" have none of the targets {", ".join(counts.targets)}, the first '
                f"is {first}; leave them out of the data"
            )


def _check_elements(split: str, dataset: GraphDataset) -> None:
    """Raise for an element without a reference, or a class unknown; of a store see a sample."""
    if split == "training":
        return
    structures = dataset.structures
    if isinstance(structures, Store):
        structures = structures.sample(ELEMENT_SAMPLE)
    for structure in structures:
        try:
            if dataset.references is not None:
                dataset.references.reference_energy(structure.atomic_numbers)
            for scale in dataset.scales:
                scale.check_elements(structure.atomic_numbers)
                if scale.name in structure.targets:
                    scale.normalize(structure)
        except ReferencesError as error:
            raise ConfigError(
                f'dataset "{dataset.name}", {split} structure {structure!r}: {error}'
            ) from error


def check_states(head: HeadSettings, splits: DataSplits, *, ignored: bool) -> list[str]:
    """Find charges and spins that a model without either takes for the same; of stores see samples.

    Args:
        head: head, whose targets are no states.
        splits: the data sets.
        ignored: whether they are trained on all the same.

    Returns:
        Lines for the data card.

    Raises:
        ConfigError: there are some, and they are not ignored.
    """
    lines = []
    for split, dataset in _parts(splits):
        structures = dataset.structures
        if isinstance(structures, Store):
            structures = structures.sample(ELEMENT_SAMPLE)
        for states in count_states(structures, [target.name for target in head.targets]):
            if states.is_lowest:
                continue
            found = f"{dataset.name}: {states.name} {states} {split} structures"
            if not ignored:
                raise ConfigError(
                    f"{found}. No model here reads charge or spin, so it would take different "
                    "states for one. Leave them out of the data, or train on them all the same "
                    "with ignore_charge=True (in a config data.ignore_charge)"
                )
            lines.append(f"{found}, ignored (data.ignore_charge)")
    return lines


def check_unchanged(
    resumed: Mapping[str, Any], splits: DataSplits, config: Mapping[str, Any]
) -> str | None:
    """Changes in the data since a training was interrupted, in words; None without changes.

    Args:
        resumed: metadata of the state to resume; older ones keep no fingerprints.
        splits: the data sets now.
        config: the config now; where its data section is another one, the data may be too.
    """
    if _data_sections(resumed.get("config", {})) != _data_sections(config):
        return None
    changes = []
    for index, dataset in enumerate(splits.train):
        before = resumed["datasets"][dataset.name].get("fingerprints", {})
        now = splits.fingerprints(index)
        for split in before:
            change = describe_change(before[split], now.get(split, fingerprint([])))
            if change is not None:
                changes.append(f'{split} part of dataset "{dataset.name}": {change}')
    return "; ".join(changes) or None


def _data_sections(config: Mapping[str, Any]) -> list[Any]:
    """Sections of a config that determine the structures, in their JSON form."""
    config = translated_config(dict(config))
    structures = config.get("train", {}).get("max_structures")
    return json.loads(json.dumps([config.get("data"), structures]))


def _parts(splits: DataSplits) -> Iterator[tuple[str, GraphDataset]]:
    for split in SPLITS:
        for dataset in getattr(splits, split):
            yield {"train": "training"}.get(split, split), dataset


def _nothing(label: str, split: str, dataset: GraphDataset, notes: RecordNotes) -> str:
    """Error message for a part that has no label of a kind."""
    name = {"energy": "an energy", "stress": "a stress"}.get(label, label)
    held = ""
    if label in notes.held and label != "stress":
        count = f"{notes.held[label]:,} records of {dataset.name}"
        held = f". {count} hold {label!r}; in this part there is none that is read"
    elif notes.held:
        held = f". Of {dataset.name}: {describe_keys(label, notes.held)}"
    return (
        f'none of the {len(dataset):,} {split} structures of dataset "{dataset.name}" has {name}; '
        f"{MENDS[label]}{held}"
    )
