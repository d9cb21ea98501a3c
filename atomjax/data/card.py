"""The data card: a summary of a run's training data, on one screen.

It is shown before step 0, because most failed trainings show in it: an energy that is not
referenced, forces in the wrong unit, a missing element, batches that are mostly padding.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atomjax.batching import BatchLoader
from atomjax.data.duplicates import Duplicates, count_duplicates, describe_shared
from atomjax.data.labels import LabelCounts, elements_of, sizes_of
from atomjax.data.load import DataSplits
from atomjax.data.outliers import describe_outliers, find_outliers, question_forces
from atomjax.structures import PropertyScale, References, Structure, TargetScale
from atomjax.structures.element_fit import undetermined_elements
from atomjax.structures.states import count_states
from atomjax.structures.store import Store

INDENT = " " * 4
# Structures of a store that the statistics of labels are taken from.
STORE_SAMPLE = 5_000


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean and standard deviation of one quantity."""

    mean: float
    std: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of ``values``."""
        return cls(mean=float(np.mean(values)), std=float(np.std(values)))

    def __str__(self) -> str:
        # A mean of rounding errors is shown as the zero it is.
        mean = 0.0 if abs(self.mean) < 1e-6 * self.std else self.mean
        return f"{mean:.4g} ± {self.std:.4g}"


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """Content of the data card for one data set.

    Statistics are of the training structures alone.
    """

    name: str  # name of the dataset
    origin: str  # origin of the labels, their units and the kind of their energies
    labels: Mapping[str, LabelCounts]  # split → number of structures with each label
    duplicates: Duplicates  # structures that are there twice, within splits and in two of them
    open_elements: Sequence[str]  # symbols of the elements that the references cannot tell apart
    # Split → number of structures whose composition the references leave open.
    outside: Mapping[str, int]
    # Lines about charges or spins that differ, which no model reads, and about forces that do not
    # go with the energies.
    doubts: Sequence[str]
    outliers: Mapping[str, Sequence[str]]  # kind → records with impossible geometry or labels
    counts: Mapping[str, int]  # split → number of structures
    classes: int  # number of different class keys
    # Smallest and largest number of atoms of a structure, and the mean.
    atoms: tuple[int, int, float]
    elements: Sequence[str]  # symbols, by atomic number
    periodic: int  # structures with a periodic direction
    energy: Spread | None  # eV as labelled, None without energies
    referenced: Spread | None  # eV after the elements' energies are taken out
    force_rms: float | None  # eV/Å, components on free atoms, None without forces
    force_largest: float | None  # eV/Å, longest force vector on a free atom
    fixed: float  # fraction of atoms whose forces do not count
    scales: tuple[float, float] | None  # eV and eV/Å of one model unit
    # Name → spread, in the property's unit, or counts of classes.
    properties: Mapping[str, Spread | str]

    @property
    def distinct(self) -> int:
        """Number of training structures, each counted once however often it is there."""
        return self.counts["train"] - self.duplicates.within.get("train", 0)

    def lines(self) -> list[str]:
        """The lines of the card, the first one the heading."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items())
        smallest, largest, mean = self.atoms
        total = self.counts["train"]
        periodic = {0: "none periodic", total: "all periodic"}
        plural = "class" if self.classes == 1 else "classes"
        body = [
            f"structures  {counts}; {self.classes:,} {plural}",
            f"atoms       {smallest} to {largest}, mean {mean:.1f}; "
            + periodic.get(self.periodic, f"{self.periodic:,} of {total:,} periodic"),
            f"elements    {' '.join(self.elements)}",
            f"labels      {self.origin}",
            f"labelled    {self.labels['train']}",
        ]
        body += [
            f"            {split}: only {labels.missing()}"
            for split, labels in self.labels.items()
            if split != "train" and labels.missing()
        ]
        body += self.doubts
        body += [f"twice       {line}" for line in self.duplicates.lines()]
        body += [f"outliers    {line}" for line in describe_outliers(self.outliers)]
        if self.open_elements:
            outside = ", ".join(f"{n:,} of {split}" for split, n in self.outside.items() if n)
            body.append(
                f"references  {', '.join(self.open_elements)} cannot be told apart"
                + (f"; outside what was fitted: {outside}" if outside else "")
            )
        if self.energy is not None:
            body.append(f"energy      {self.energy} eV; {self.referenced} eV after referencing")
        if self.force_rms is not None:
            fixed = f"; {self.fixed:.0%} of atoms fixed" if self.fixed else ""
            body.append(
                f"forces      rms {self.force_rms:.4g} eV/Å, "
                f"largest {self.force_largest:.4g} eV/Å{fixed}"
            )
        if self.scales is not None:
            body.append(f"model unit  {self.scales[0]:.4g} eV, {self.scales[1]:.4g} eV/Å")
        body += [f"{name:<11} {spread}" for name, spread in self.properties.items()]
        return [self.name, *(INDENT + line for line in body)]


def data_card(
    splits: DataSplits,
    loader: BatchLoader,
    graphs: Sequence[str] = (),
    settings: Sequence[str] = (),
) -> str:
    """The data card of a run.

    Returns:
        Text of one screen for a few data sets.
    """
    cards = [
        describe_dataset(
            dataset.name,
            splits.origins[index],
            splits.parts(index),
            dataset.references,
            dataset.scales,
        )
        for index, dataset in enumerate(splits.train)
    ]
    batches = [*describe_mixture(loader), *describe_batches(loader)]
    budget = describe_budget(loader, sum(card.distinct for card in cards))
    shared = []
    if len(cards) > 1:
        parts = {dataset.name: splits.parts(index) for index, dataset in enumerate(splits.train)}
        shared = describe_shared(parts)
    return render(cards, batches, budget, graphs, settings, shared)


def describe_mixture(loader: BatchLoader) -> list[str]:
    """Lines about the share that each data set has in an epoch, where there are several."""
    if len(loader.datasets) == 1:
        return []
    lines = []
    for dataset, count in zip(loader.datasets, loader.samples, strict=True):
        share = count / loader.samples_per_epoch
        passes = count / len(dataset)
        lines.append(
            f"share       {share:.4f} {dataset.name}: {count:,} samples an epoch, "
            f"{passes:.3g} × its {len(dataset):,} structures"
        )
    return lines


def describe_batches(loader: BatchLoader) -> list[str]:
    """Lines about the batches of a loader: size, shapes, padding."""
    report = loader.padding_report()
    shapes = ", ".join(
        f"{shape.n_node} atoms × {shape.n_edge} main edges" for shape in loader.capacities
    )
    least, most = report["batch_size_min"], report["batch_size_max"]
    size = f"{loader.batch_size:,}"
    if loader.plans.fill == "size":
        size = f"{report['batch_size']:,.1f} ({least} to {most}, filled by size)"
    return [
        f"size        {size} structures a step over {loader.num_devices} "
        f"device{'s' if loader.num_devices > 1 else ''}, {loader.steps_per_epoch:,} steps an epoch",
        f"shapes      {len(loader.capacities)} of a device's share: {shapes}",
        f"real        {report['atoms']:.0%} of atoms, {report['main_edges']:.0%} of main edges, "
        "the rest is padding",
    ]


def describe_budget(loader: BatchLoader, distinct: int | None = None) -> str:
    """The budget C = epochs × structures of an epoch.

    Args:
        loader: loader of the training.
        distinct: number of structures that differ from each other; all if None.
    """
    total, samples = sum(len(dataset) for dataset in loader.datasets), loader.samples_per_epoch
    kind = "unique structures" if samples == total else f"samples of {total:,} structures"
    if distinct is not None and distinct < total:
        kind = f"samples of {total:,} structures, {distinct:,} of them unique"
    return (
        f"C = {loader.epochs:,} epochs × {samples:,} {kind} = "
        f"{loader.epochs * samples:,} samples in {loader.num_steps:,} steps"
    )


def describe_dataset(
    name: str,
    origin: str,
    splits: Mapping[str, Sequence[Structure]],
    references: References | None,
    properties: Sequence[TargetScale] = (),
) -> DatasetCard:
    """The card of one dataset.

    Args:
        name: name of the dataset.
        origin: origin of its labels, in words.
        splits: split → structures; "train" must be there.
        references: references subtracted from energies and forces, None without them.
        properties: properties that are trained on.

    Returns:
        The card, with statistics of the training structures.
    """
    train = splits["train"]
    sizes = sizes_of(train)
    if isinstance(train, Store):
        classes = len(np.unique(train.class_ids))
        if len(train) > STORE_SAMPLE:
            origin += f"; what follows but counts and sizes is of {STORE_SAMPLE:,} drawn at random"
        train = list(train.sample(STORE_SAMPLE))
    else:
        classes = len({structure.class_key for structure in train})
    labelled = [structure for structure in train if structure.energy is not None]
    free = [s.forces[~s.fixed] for s in train if s.forces is not None]
    components = np.concatenate(free) if free else np.zeros((0, 3))
    energy = referenced = None
    if references is not None and labelled:
        energy = Spread.of([float(structure.energy or 0.0) for structure in labelled])
        referenced = Spread.of([references.residual_energy(s) for s in labelled])
    return DatasetCard(
        name=name,
        origin=origin,
        **_checked(splits, references, properties),
        counts={split: len(structures) for split, structures in splits.items()},
        classes=classes,
        atoms=(int(sizes.min()), int(sizes.max()), float(np.mean(sizes))),
        elements=elements_of(train),
        periodic=sum(structure.is_periodic for structure in train),
        energy=energy,
        referenced=referenced,
        force_rms=float(np.sqrt(np.mean(components**2))) if len(components) else None,
        force_largest=(
            float(np.linalg.norm(components, axis=1).max()) if len(components) else None
        ),
        fixed=float(np.mean(np.concatenate([structure.fixed for structure in train]))),
        scales=(references.energy_scale, references.force_scale) if references else None,
        properties={
            scale.name: _describe_labels(scale, [s for s in train if scale.name in s.targets])
            for scale in properties
        },
    )


def _describe_labels(scale: TargetScale, structures: Sequence[Structure]) -> Spread | str:
    """Spread of a property's labels, or the numbers of structures of its classes."""
    labels = [scale.known(structure) for structure in structures]
    if isinstance(scale, PropertyScale):
        return Spread.of(labels)
    counts = Counter(scale.classes[int(label)] for label in labels)
    return ", ".join(f"{name} {counts[name]:,}" for name in scale.classes)


def _checked(
    splits: Mapping[str, Sequence[Structure]],
    references: References | None,
    properties: Sequence[TargetScale],
) -> dict[str, Any]:
    """Label counts, duplicates, undetermined references and outliers of all parts of a data set."""
    parts = {n: p.sample(STORE_SAMPLE) if isinstance(p, Store) else p for n, p in splits.items()}
    fitted = [one for one in (references, *properties) if one is not None]
    sharing = next((one for one in fitted if len(one.undetermined)), None)
    names = [scale.name for scale in properties]
    return {
        "labels": {name: LabelCounts.of(part, names) for name, part in splits.items() if len(part)},
        "duplicates": count_duplicates(splits),
        "open_elements": undetermined_elements(sharing.undetermined) if sharing else (),
        "outside": outside_counts(parts, sharing),
        "doubts": [*describe_states(parts["train"], names), *question_forces(parts["train"])],
        "outliers": find_outliers(parts, references),
    }


def describe_states(structures: Sequence[Structure], trained_on: Sequence[str]) -> list[str]:
    """Lines about charges or spins that only some structures state, or that are not the lowest."""
    return [
        f"{states.name:<11} {states}; the model reads none of them"
        for states in count_states(structures, trained_on)
        if states.without or not states.is_lowest
    ]


def outside_counts(
    splits: Mapping[str, Sequence[Structure]], references: References | TargetScale | None
) -> dict[str, int]:
    """Split → number of structures whose composition the references leave open."""
    if references is None or not len(references.undetermined):
        return {}
    return {
        name: sum(references.outside_span(s.atomic_numbers) is not None for s in part)
        for name, part in splits.items()
        if name != "train"
    }


def render(
    cards: Sequence[DatasetCard],
    batches: Sequence[str] = (),
    budget: str = "",
    graphs: Sequence[str] = (),
    settings: Sequence[str] = (),
    shared: Sequence[str] = (),
) -> str:
    """The whole card as text."""
    lines = ["data card", *(line for card in cards for line in card.lines())]
    if shared:
        lines += ["twice", *(INDENT + line for line in shared)]
    if graphs:
        lines += ["graphs", *(INDENT + line for line in graphs)]
    if batches:
        lines += ["batches", *(INDENT + line for line in batches)]
    if budget:
        lines += ["budget", INDENT + budget]
    if settings:
        lines += ["settings", *(INDENT + line for line in settings)]
    return "\n".join(lines)
