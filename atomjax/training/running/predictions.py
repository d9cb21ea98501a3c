"""Predictions in physical units, beside the labels there are."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from atomjax.batching import GraphDataset
from atomjax.runtime.files import write_npz
from atomjax.runtime.run import Run
from atomjax.structures import ClassLabels, Structure, TargetScale
from atomjax.structures.elements import SYMBOLS, hill_formula
from atomjax.training.running.classification import class_metrics
from atomjax.training.running.evaluate import StructurePrediction
from atomjax.training.running.metrics import MILLI, report_name
from atomjax.training.running.results import (
    Quantities,
    StructureResult,
    known_values,
    value_keys,
)
from atomjax.training.update.tasks import Task

# Errors that count as near: eV, and eV/Å of each component.
ENERGY_NEAR, FORCE_NEAR = 0.02, 0.03


@dataclass(frozen=True, kw_only=True)
class PredictedSet(Quantities):
    """Predictions for S structures, with their labels."""

    identifiers: np.ndarray  # [S] names of the structures
    atomic_numbers: Sequence[np.ndarray]  # for each structure [N]
    # For each structure [N], atoms held in place, whose forces no error counts.
    fixed: Sequence[np.ndarray]
    classes: Sequence[str]  # for each structure its class, such as its formula
    marks: Sequence[frozenset[str]]  # for each structure reasons to doubt its result
    targets: Sequence[str] = ()  # names of the properties that the model predicts
    # Name of each of them that is a class → names of its classes.
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    labels: Quantities  # labels of the structures; of properties those that the model predicts
    # Standard deviations over the members of an ensemble; None for one model.
    deviations: Quantities | None = None

    @classmethod
    def of(
        cls,
        structures: Sequence[Structure],
        results: Sequence[StructureResult],
        *,
        scales: Sequence[TargetScale] = (),
        identifiers: Sequence[str] | None = None,
    ) -> Self:
        """Predictions and labels of structures."""
        structures = list(structures)
        atoms, targets = [len(s) for s in structures], [scale.name for scale in scales]
        labels = [
            StructureResult(s.energy, s.forces, known_values(s, scales), s.stress)
            for s in structures
        ]
        names = [s.identifier for s in structures] if identifiers is None else list(identifiers)
        deviations = [r.deviation for r in results if r.deviation is not None]
        return cls(
            **vars(Quantities.collect(results, atoms, targets)),
            identifiers=np.array(names, dtype=np.str_),
            atomic_numbers=[structure.atomic_numbers for structure in structures],
            fixed=[structure.fixed for structure in structures],
            classes=[structure.class_key for structure in structures],
            marks=[result.marks for result in results],
            targets=tuple(targets),
            class_names={s.name: s.classes for s in scales if isinstance(s, ClassLabels)},
            labels=Quantities.collect(labels, atoms, targets),
            deviations=Quantities.collect(deviations, atoms, targets) if deviations else None,
        )

    def __len__(self) -> int:
        return len(self.identifiers)

    @property
    def n_atoms(self) -> np.ndarray:
        """[S] numbers of atoms."""
        return np.array([len(numbers) for numbers in self.atomic_numbers], dtype=np.int64)

    def arrays(self) -> dict[str, np.ndarray]:
        """Predictions and labels as arrays for a file.

        Returns:
            "identifier", "n_atoms" [S]; of energies "energy_predicted" [S] eV, of stresses
            "stress_predicted" [S, 3, 3] eV/Å³, of a property "value_predicted" [S] in its unit
            (several have names of :func:`atomjax.training.running.results.value_keys`), and
            "…_true" where there are labels, NaN where a structure has none, and "…_deviation" for
            an ensemble; of a class the probabilities [S, C] of those in "…_classes" [C], and their
            places as labels; of forces
            "forces_predicted" [A, 3] eV/Å and "forces_structure" [A], the row in "identifier" of
            each. With labels of forces, "forces_true", there are only the free atoms of structures
            that have them.
        """
        arrays = {"identifier": self.identifiers, "n_atoms": self.n_atoms}
        for name, predicted, true, deviation in self.of_structures():
            if true is not None:
                arrays[f"{name}_true"] = true
            arrays[f"{name}_predicted"] = predicted
            if deviation is not None:
                arrays[f"{name}_deviation"] = deviation
        keys = value_keys(self.targets)
        for target, classes in self.class_names.items():
            arrays[f"{keys[target]}_classes"] = np.array(classes, dtype=np.str_)
        if self.forces is None:
            return arrays
        true, rows = self.labels.forces, np.repeat(np.arange(len(self)), self.n_atoms)
        predicted, counted = np.concatenate(self.forces), np.full(len(rows), True)
        if true is not None:
            joined = np.concatenate(true)
            counted = np.isfinite(joined).all(axis=1) & ~np.concatenate(self.fixed)
            arrays["forces_true"] = joined[counted]
        arrays["forces_predicted"], arrays["forces_structure"] = predicted[counted], rows[counted]
        if self.deviations is not None and self.deviations.forces is not None:
            arrays["forces_deviation"] = np.concatenate(self.deviations.forces)[counted]
        return arrays

    def of_structures(self) -> Iterator[tuple[str, np.ndarray, np.ndarray | None, Any]]:
        """Key, predictions, labels and deviations of energies, stresses and each property."""
        spread = self.deviations
        for name, key in (("energy", "energies"), ("stress", "stresses")):
            predicted = getattr(self, key)
            if predicted is not None:
                yield name, predicted, getattr(self.labels, key), spread and getattr(spread, key)
        for target, name in value_keys(self.targets).items():
            if target in self.properties:
                true = self.labels.properties.get(target)
                deviation = spread and spread.properties.get(target)
                yield name, self.properties[target], true, deviation

    def errors(self) -> dict[str, float]:
        """Errors of the structures that have labels; nothing for quantities without.

        Errors of several properties are those of :meth:`errors_by_target`.

        Returns:
            Mean absolute errors under the names of `atomjax.training.running.metrics.METRICS`, and
            further ones under those of `FURTHER_METRICS` there: root mean squares, of forces over
            components of free atoms; "force_cosine", the mean cosine between predicted and true
            forces; "within_threshold", the fraction of structures whose energy errs by less than
            0.02 eV and all of whose force components by less than 0.03 eV/Å (Chanussot et al.,
            ACS Catal. 2021).
        """
        arrays, found = self.arrays(), {}
        differences = {
            name: arrays[f"{name}_predicted"] - arrays[f"{name}_true"]
            for name in ("energy", "forces", "stress")
            if {f"{name}_predicted", f"{name}_true"} <= arrays.keys()
        }
        if "energy" in differences:
            found |= _means("energy", "_mev", MILLI * differences["energy"])
            per_atom = MILLI * differences["energy"] / self.n_atoms
            found |= _means("energy", "_mev_per_atom", per_atom)
        if "forces" in differences:
            found |= _means("force", "_mev_per_angstrom", MILLI * differences["forces"])
        if "force_mae_mev_per_angstrom" in found:
            found["force_cosine"] = _cosine(arrays["forces_predicted"], arrays["forces_true"])
        if "stress" in differences:
            found |= _means("stress", "_ev_per_cubic_angstrom", differences["stress"])
        if len(self.targets) == 1:
            found |= self.errors_by_target().get(self.targets[0], {})
        if {"energy", "forces"} <= differences.keys():
            largest = np.full(len(self), -np.inf)
            errors = np.abs(differences["forces"]).max(axis=1)
            np.maximum.at(largest, arrays["forces_structure"], errors)
            judged = np.isfinite(differences["energy"]) & np.isfinite(largest)
            near = (np.abs(differences["energy"]) < ENERGY_NEAR) & (largest < FORCE_NEAR)
            if judged.any():
                found["within_threshold"] = float(near[judged].mean())
        return found

    def errors_by_target(self) -> dict[str, dict[str, float]]:
        """Name of each property that has labels → "value_mae" and "value_rmse", in its unit.

        Those of a class are :func:`atomjax.training.running.classification.class_metrics`.
        """
        found = {}
        for name in self.targets:
            if name in self.properties and name in self.labels.properties:
                predicted, true = self.properties[name], self.labels.properties[name]
                found[name] = (
                    class_metrics(true, predicted)
                    if name in self.class_names
                    else _means("value", "", predicted - true)
                )
        return found

    def reported_errors(self, data_set: str) -> dict[str, dict[str, float]]:
        """:meth:`errors` and :meth:`errors_by_target` by the names that reports give them."""
        found = {data_set: self.errors()}
        for name, errors in self.errors_by_target().items():
            found.setdefault(report_name(data_set, name, self.targets), {}).update(errors)
        return found

    def errors_by_element(self) -> dict[str, dict[str, float]]:
        """Errors of the forces on free atoms of each element, by symbol.

        Returns:
            "force_mae_mev_per_angstrom", "force_rmse_mev_per_angstrom" and the number of "atoms";
            nothing without labels of forces.
        """
        if self.forces is None or self.labels.forces is None:
            return {}
        errors = np.concatenate(self.forces) - np.concatenate(self.labels.forces)
        counted = np.isfinite(errors).all(axis=1) & ~np.concatenate(self.fixed)
        numbers, errors = np.concatenate(self.atomic_numbers)[counted], MILLI * errors[counted]
        found = {}
        for z in np.unique(numbers).tolist():
            own = errors[numbers == z]
            found[SYMBOLS[z]] = {
                "force_mae_mev_per_angstrom": float(np.abs(own).mean()),
                "force_rmse_mev_per_angstrom": float(np.sqrt((own**2).mean())),
                "atoms": len(own),
            }
        return found

    def errors_by_class(self) -> dict[str, dict[str, float]]:
        """:meth:`errors` of the structures of each class, with the number of "structures"."""
        classes = np.asarray(self.classes)
        found = {}
        for name in dict.fromkeys(self.classes):
            own = self.take(np.flatnonzero(classes == name))
            found[name] = {**own.errors(), "structures": len(own)}
        return found

    def errors_by_formula(self, seen: Mapping[str, Iterable[str]]) -> dict[str, dict[str, Any]]:
        """Errors on formulas that other data sets hold, and on those that they lack.

        Args:
            seen: name of each data set → its Hill formulas, such as ``C2H6O``.

        Returns:
            Name of each, and "any of them" of several → "seen" and "unseen" → :meth:`errors` of
            such structures, with the number of "structures".
        """
        formulas = [hill_formula(numbers) for numbers in self.atomic_numbers]
        sets = {name: {held} if isinstance(held, str) else {*held} for name, held in seen.items()}
        if len(sets) > 1:
            sets["any of them"] = set().union(*sets.values())
        found = {}
        for name, held in sets.items():
            own = np.array([formula in held for formula in formulas], dtype=bool)
            parts = {"seen": self.take(own), "unseen": self.take(~own)}
            found[name] = {
                kind: {**(part.errors() if len(part) else {}), "structures": len(part)}
                for kind, part in parts.items()
            }
        return found

    def take(self, indices: Sequence[int] | np.ndarray | slice) -> Self:
        """The structures with these places, or where a mask is true, as NumPy chooses them."""
        if not isinstance(indices, slice):
            indices = np.asarray(indices)
            indices = indices if indices.size else indices.astype(int)
        places = np.arange(len(self))[indices]
        own = {
            each.name: _taken(getattr(self, each.name), places)
            for each in dataclasses.fields(self)
            if each.name not in ("targets", "class_names")
        }
        return dataclasses.replace(self, **own)

    def write(self, path: Path) -> None:
        """Writes :meth:`arrays` as one ``.npz``, whole or not at all."""
        write_npz(path, self.arrays(), compressed=True)


def _taken(value: Any, indices: np.ndarray) -> Any:
    if value is None:
        return None
    if isinstance(value, Quantities):
        fields = dataclasses.fields(value)
        return Quantities(**{f.name: _taken(getattr(value, f.name), indices) for f in fields})
    if isinstance(value, Mapping):
        return {name: _taken(one, indices) for name, one in value.items()}
    return value[indices] if isinstance(value, np.ndarray) else [value[i] for i in indices]


def _means(quantity: str, unit: str, difference: np.ndarray) -> dict[str, float]:
    """Mean absolute and root mean square error of what is known; nothing where nothing is."""
    known = difference[np.isfinite(difference)]
    if not known.size:
        return {}
    mean, root = float(np.abs(known).mean()), float(np.sqrt((known**2).mean()))
    return {f"{quantity}_mae{unit}": mean, f"{quantity}_rmse{unit}": root}


def _cosine(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean cosine of the angle between vectors [A, 3]; zero for a vector without length."""
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(true, axis=1)
    products = (predicted * true).sum(axis=1)
    return float(np.mean(products / np.maximum(lengths, np.finfo(np.float64).tiny)))


def evaluated_set(
    rows: Sequence[StructurePrediction], dataset: GraphDataset, index: int, task: Task
) -> PredictedSet:
    """Predictions of an evaluation for one data set, of the quantities that it has labels of.

    A head without energies or forces has zeros for them in the rows, which are no predictions.

    Args:
        rows: result of :meth:`atomjax.training.running.evaluate.Evaluator.predictions`.
        dataset: structures, references and property scales.
        index: the data set's index in ``rows``.
        task: quantities that its head predicts.
    """
    own = [row for row in rows if row.dataset == index]
    structures = [dataset.structure(row.structure) for row in own]
    references = dataset.references
    energies = references is not None and task.kind != "scalar"
    forces = references is not None and task.kind == "energy_forces"
    labelled = {
        "energy": energies and any(s.energy is not None for s in structures),
        "forces": forces and any(s.forces is not None for s in structures),
        "stress": references is not None and task.stress,
        "values": True,
    }
    results = []
    for structure, row in zip(structures, own, strict=True):
        # Without a period in all directions there is no stress.
        known = {**labelled, "stress": labelled["stress"] and bool(structure.pbc.all())}
        numbers = {name: getattr(row, name) if here else None for name, here in known.items()}
        results.append(
            StructureResult.physical(
                structure.atomic_numbers, references, dataset.scales, **numbers
            )
        )
    return PredictedSet.of(
        structures,
        results,
        scales=dataset.scales,
        identifiers=[dataset.identify(row.structure) for row in own],
    )


def write_predictions(
    rows: Sequence[StructurePrediction],
    datasets: Sequence[GraphDataset],
    tasks: Sequence[Task],
    run: Run,
) -> tuple[dict[str, str], dict[str, PredictedSet]]:
    """Writes the predictions of test sets; returns the file and the content of each by its name."""
    files, sets = {}, {}
    for dataset in datasets:
        assert dataset.index is not None
        found = evaluated_set(rows, dataset, dataset.index, tasks[dataset.index])
        path = run.path("predictions", f"{dataset.name}.npz")
        if run.primary:
            found.write(path)
        files[dataset.name], sets[dataset.name] = str(path), found
    return files, sets
