"""Data sets ready for batching, from the data section of a config.

Structures are generated or read, divided, and given references fitted on the training part
alone. What the config must declare (units, kind of the energies) is checked by its schema.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomjax.batching import GraphDataset, mixture_shares, share_out
from atomjax.data.fingerprint import fingerprint
from atomjax.data.graphs import BaseGraphs, graph_config
from atomjax.data.labels import check_energy_kind, check_energy_unit, unwanted_labels
from atomjax.data.settings import SPLITS, DatasetSettings, DataSettings
from atomjax.data.sources import describe_origin, with_units
from atomjax.data.store_view import fit_references, make_dataset
from atomjax.data.structures import divide, fixed_subset, load_structures
from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.structures import References, ReferencesError, Structure, TargetScale
from atomjax.structures.readers import RecordNotes, SkippedRecord

# Place of a training set, and its training part → its references; None has them fitted.
FitReferences = Callable[[int, Sequence[Structure]], References | None]
# The same → scales of the properties to train on.
FitScales = Callable[[int, Sequence[Structure]], Sequence[TargetScale]]


@dataclass(frozen=True, kw_only=True)
class DataSplits:
    """The data sets of a run, divided."""

    # One data set for each of the config's, in its order; ``index`` is its place.
    train: list[GraphDataset]
    # Those that have a validation part, with the ``index`` of their training set.
    validation: list[GraphDataset] = field(default_factory=list)
    test: list[GraphDataset] = field(default_factory=list)  # those that have a test part, likewise
    # Origin of each training set's labels, in words.
    origins: list[str] = field(default_factory=list)
    # Structures that an epoch takes of each training set.
    samples: list[int] = field(default_factory=list)
    # Contents of each training set's files beside the labels read.
    notes: list[RecordNotes] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # further lines for the data card

    @property
    def references(self) -> list[References | None]:
        """References of each training set."""
        return [dataset.references for dataset in self.train]

    def extend(self, other: "DataSplits") -> None:
        """Adds further data sets, whose indices follow on."""
        for name in ("train", "validation", "test", "origins", "samples", "notes", "remarks"):
            getattr(self, name).extend(getattr(other, name))

    def fingerprints(self, index: int) -> dict[str, Any]:
        """Split → fingerprint of its structures, of the training set at ``index``."""
        parts = self.parts(index)
        return {name: fingerprint(part) for name, part in parts.items() if len(part)}

    def parts(self, index: int) -> dict[str, Sequence[Structure]]:
        """Split → structures of the training set at ``index``."""
        return {
            name: next((d.structures for d in getattr(self, name) if d.index == index), [])
            for name in SPLITS
        }


def load_datasets(
    settings: DataSettings,
    run: Run,
    *,
    conservative: bool = False,
    forces: bool = True,
    energies: bool = True,
    classes: Sequence[str] = (),
    stress: bool = False,
    max_structures: int | None = None,
    edge_dropout: float = 0.0,
    fixed_atoms: bool = False,
    fit: FitReferences | None = None,
    fit_scales: FitScales | None = None,
    graphs: Sequence[BaseGraphs] | None = None,
) -> DataSplits:
    """Makes or reads the data sets of a config and divides them.

    Args:
        settings: the data section.
        run: shows progress; keeps generated sets under its root if ``cache_dir`` is not given.
        conservative: forces will be the energy's gradient, so both get one scale.
        forces: train on forces, too.
        energies: train on energies, or on forces without them; else on properties alone.
        classes: properties that are classes, which readers keep as they are.
        stress: train on stresses, too.
        max_structures: train on fixed random subsets of so many, in the shares of the mixture.
        edge_dropout: edge dropout of the training sets' graphs.
        fixed_atoms: whether the forces of fixed atoms count in the training sets.
        fit: place of a training set, and its training part → its references; fitted to it if None.
        fit_scales: the same → scales of the properties to train on; there are none if None.
        graphs: graphs that each set's graph settings start from; ``BaseGraphs()`` if None.

    Returns:
        Data sets with references and property scales of their training parts.

    Raises:
        ConfigError: a split or subset asks for more than there is, or a target is missing.
        ReadError: a file cannot be read.
    """
    unwanted: dict[str, Any] = unwanted_labels(energies=energies, forces=forces, stress=stress)
    unwanted |= {"classes": tuple(classes)} if classes else {}
    parts, splits = _load_all(settings, run, unwanted)
    splits.samples.extend(_limit(parts, settings, max_structures))
    for index, (dataset, part) in enumerate(zip(settings.train, parts, strict=True)):
        labels: dict = {"scales": _fit_scales(dataset, index, part["train"], fit_scales)}
        if energies:
            fitted = fit(index, part["train"]) if fit else None
            fitted = fitted or fit_references(part["train"], conservative)
            labels |= {"references": fitted, "stress": stress}
        place: dict = {"run": run, "workers": settings.workers, "index": index}
        for name in filter(part.get, SPLITS):
            dropped, fixed = (edge_dropout, fixed_atoms) if name == "train" else (0.0, False)
            config = graph_config(dataset.graph, graphs[index] if graphs else BaseGraphs(), dropped)
            fields = {**place, **labels, "fixed_atoms": fixed}
            getattr(splits, name).append(make_dataset(dataset.name, part[name], config, **fields))
    return splits


def _load_all(
    settings: DataSettings, run: Run, unwanted: Mapping[str, Any]
) -> tuple[list[dict[str, Sequence[Structure]]], DataSplits]:
    """Split → structures of each training set, and their origins for the data card."""
    parts, splits = [], DataSplits(train=[])
    for dataset in settings.train:
        skipped, notes = [], RecordNotes()
        parts.append(_load_parts(dataset, settings, run, skipped, notes, unwanted))
        check_energy_kind(dataset.name, dataset.energy_kind, parts[-1]["train"])
        unit = with_units(dataset, notes.units).energy_unit
        doubt = check_energy_unit(dataset.name, unit, parts[-1]["train"])
        origin = describe_origin(dataset, skipped, notes)
        splits.origins.append(f"{origin}; {doubt}" if doubt else origin)
        splits.notes.append(notes)
    return parts, splits


def _load_parts(
    dataset: DatasetSettings,
    settings: DataSettings,
    run: Run,
    skipped: list[SkippedRecord],
    notes: RecordNotes,
    unwanted: Mapping[str, Any],
) -> dict[str, Sequence[Structure]]:
    """Split → structures of one training set, with the separate files of its name."""
    cache_dir = Path(settings.cache_dir) if settings.cache_dir else run.root / "data"

    def load(one: DatasetSettings, split: str | None = None) -> Sequence[Structure]:
        return load_structures(
            one,
            cache_dir=cache_dir,
            workers=settings.workers,
            run=run,
            split=split,
            skipped=skipped,
            notes=notes,
            unwanted=unwanted,
        )

    if dataset.split is not None and dataset.split.by == "official":
        parts = {name: load(dataset, name) for name in SPLITS}
    else:
        parts = divide(load(dataset), dataset.split, dataset.name)
    for name in SPLITS[1:]:
        for other in getattr(settings, name):
            if other.name == dataset.name:
                parts[name] = load(other)
                if (most := other.max_structures) is not None:
                    what = f"data.{name}: dataset '{other.name}': max_structures={most}"
                    parts[name] = fixed_subset(parts[name], most, other, what)
    return parts


def _limit(
    parts: Sequence[dict[str, Sequence[Structure]]],
    settings: DataSettings,
    max_structures: int | None,
) -> list[int]:
    """Limits the structures to the configured number, and divides an epoch among the data sets.

    Returns:
        The samples that an epoch takes of each data set.
    """
    for part, dataset in zip(parts, settings.train, strict=True):
        if dataset.max_structures is not None:
            what = f"dataset '{dataset.name}': max_structures={dataset.max_structures}"
            part["train"] = fixed_subset(part["train"], dataset.max_structures, dataset, what)
        for name in SPLITS[1:]:
            most, all_of_it = getattr(settings, f"max_{name}"), part.get(name, [])
            if most is not None and most < len(all_of_it):
                part[name] = fixed_subset(all_of_it, most, dataset, "")
    sizes = [len(part["train"]) for part in parts]
    total = sum(sizes) if max_structures is None else max_structures
    if total > sum(sizes):
        counts = ", ".join(f"{d.name}: {n}" for d, n in zip(settings.train, sizes, strict=True))
        raise ConfigError(
            f"train.max_structures={max_structures} is more than the {sum(sizes)} training "
            f"structures there are ({counts}); lower it or make more"
        )
    mixture = settings.mixture
    shares = mixture_shares(sizes, mixture.kind, mixture.temperature)
    if mixture.epoch == "largest":
        if max_structures is not None:
            raise ConfigError(
                f'data.mixture.epoch="largest" takes all structures; leave train.max_structures='
                f'{max_structures} out, or take epoch="total"'
            )
        fewest = max(size / share for size, share in zip(sizes, shares, strict=True))
        # Not one more for rounding.
        total = math.ceil(fewest * (1 - 1e-12))
    samples = share_out(total, shares)
    for part, dataset, count in zip(parts, settings.train, samples, strict=True):
        if count == 0:
            raise ConfigError(
                f"dataset '{dataset.name}' gets none of the {total} samples of an epoch; raise "
                "train.max_structures, change data.mixture, or leave the dataset out"
            )
        if max_structures is not None and count < len(part["train"]):
            part["train"] = fixed_subset(part["train"], count, dataset, "")
    return samples


def _fit_scales(
    dataset: DatasetSettings, index: int, structures: Sequence[Structure], fit: FitScales | None
) -> Sequence[TargetScale]:
    try:
        return fit(index, structures) if fit else ()
    except ReferencesError as error:
        raise ConfigError(f"dataset '{dataset.name}': head.targets: {error}") from error
