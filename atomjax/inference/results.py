"""Predictions for many structures, as arrays, tables and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomjax.reporting.drawing import make_figure, save_figure
from atomjax.reporting.plots import Comparison, Outcomes, draw_comparison, draw_outcomes
from atomjax.reporting.tables import data_frame, with_unit
from atomjax.structures.elements import SYMBOLS, hill_formula
from atomjax.training.running.classification import outcome_counts
from atomjax.training.running.predictions import PredictedSet
from atomjax.training.running.results import value_keys

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Name of each quantity to draw beside properties, its key in files and its unit.
QUANTITIES = (
    ("energy", "energy", "eV"),
    ("force component", "forces", "eV/Å"),
    ("stress component", "stress", "eV/Å³"),
)
# Points of a calibration.
GROUPS = 10


@dataclass(frozen=True, kw_only=True)
class Predictions(PredictedSet):
    """Predictions of a model for structures, in their order; None for what it does not predict.

    Example:
        >>> results = atomjax.load("runs/mine").predict("frames.xyz")
        >>> results.energies.shape, results.forces[0].shape
        ((3,), (9, 3))
        >>> results.labels.energies is None
        False
    """

    def to_dataframe(self, per: str = "structure") -> Any:
        """A ``pandas.DataFrame`` with a row for each structure, or for each atom.

        Args:
            per: "structure" (identifier, formula, atoms, energies in eV, errors of forces in eV/Å,
                of an ensemble standard deviations, marks) or "atom" (structure, element,
                components of forces in eV/Å). Columns of labels end in "_true".

        Raises:
            ImportError: pandas is missing.
            ValueError: `per` is neither.
        """
        return data_frame(self.columns(per))

    def columns(self, per: str = "structure") -> dict[str, Any]:
        """The columns of :meth:`to_dataframe`, each a list or array of one length."""
        if per == "structure":
            return self._of_structures()
        if per == "atom":
            return self._of_atoms()
        raise ValueError(f"per={per!r}; write 'structure' or 'atom'")

    def plot(self, path: str | Path | None = None) -> "Figure":
        """Predictions against labels, or the spread of the predictions where there are none.

        Args:
            path: PNG to write; None writes nothing.

        Returns:
            The figure, which a notebook shows.

        Raises:
            ValueError: there is no prediction.
        """
        panels, outcomes = self._panels(), self._outcomes()
        if not panels and not outcomes:
            raise ValueError("nothing is predicted, so there is nothing to draw")
        figure, axes = make_figure(len(panels) + len(outcomes))
        for ax, item in zip(axes[len(panels) :], outcomes, strict=True):
            draw_outcomes(ax, item)
        for ax, (name, unit, predicted, true) in zip(axes, panels, strict=False):
            if true is None:
                ax.hist(predicted, bins="auto")
                ax.set(xlabel=f"predicted {name} ({unit})" if unit else name, ylabel="count")
            else:
                known: dict[str, Any] = {"true": true, "predicted": predicted, "unit": unit}
                draw_comparison(ax, Comparison(label=name, quantity=name, **known))
        return save_figure(figure, None if path is None else Path(path))

    def plot_calibration(self, path: str | Path | None = None) -> "Figure":
        """Errors of an ensemble against its standard deviations, in ten groups of equal size.

        On the diagonal, the standard deviation is the size of the error; above it, the ensemble is
        too sure of itself.

        Args:
            path: PNG to write; None writes nothing.

        Raises:
            ValueError: there are no standard deviations, or no labels beside them.
        """
        arrays = self.arrays()
        groups = {
            with_unit(name, unit): calibration(
                arrays[f"{key}_predicted"] - arrays[f"{key}_true"], arrays[f"{key}_deviation"]
            )
            for name, key, unit in self._quantities()
            if {f"{key}_deviation", f"{key}_true"} <= arrays.keys()
        }
        if not groups:
            raise ValueError("calibration needs an ensemble's predictions, and labels beside them")
        figure, axes = make_figure(len(groups))
        for ax, (name, (deviations, errors)) in zip(axes, groups.items(), strict=True):
            ends = [min(deviations.min(), errors.min()), max(deviations.max(), errors.max())]
            ax.plot(ends, ends, color="0.6", linewidth=0.8)
            ax.plot(deviations, errors, marker="o")
            ax.set(xlabel=f"standard deviation, {name}", ylabel="root mean square error")
        return save_figure(figure, None if path is None else Path(path))

    def _of_structures(self) -> dict[str, Any]:
        columns: dict[str, Any] = {
            "identifier": self.identifiers,
            "formula": [hill_formula(numbers) for numbers in self.atomic_numbers],
            "n_atoms": self.n_atoms,
        }
        keys = value_keys(self.targets)
        classes = {keys[target]: names for target, names in self.class_names.items()}
        for name, predicted, true, deviation in self.of_structures():
            if name in classes:
                columns |= _class_columns(name, classes[name], predicted, true, deviation)
                continue
            given = {"": predicted, "_true": true, "_deviation": deviation}
            for suffix, array in given.items() if name != "stress" else ():
                if array is not None:
                    columns[name + suffix] = array
        if self.deviations is not None and self.deviations.forces is not None:
            columns["force_deviation_max"] = [_longest(f) for f in self.deviations.forces]
        if self.forces is not None:
            columns["force_max"] = [_longest(f) for f in self.forces]
            if self.labels.forces is not None:
                errors = zip(self.forces, self.labels.forces, self.fixed, strict=True)
                columns["force_mae"] = [_mean(np.abs(a - b)[~fixed]) for a, b, fixed in errors]
        columns["marks"] = [", ".join(sorted(marks)) for marks in self.marks]
        return columns

    def _of_atoms(self) -> dict[str, Any]:
        columns: dict[str, Any] = {
            "structure": np.repeat(self.identifiers, self.n_atoms),
            "atom": np.concatenate([np.zeros(0, int), *(np.arange(n) for n in self.n_atoms)]),
            "element": [SYMBOLS[z] for numbers in self.atomic_numbers for z in numbers],
        }
        for suffix, held in (("", self), ("_true", self.labels)):
            if self.forces is not None and held.forces is not None:
                joined = np.concatenate([np.zeros((0, 3)), *held.forces])
                columns |= {f"force_{axis}{suffix}": joined[:, i] for i, axis in enumerate("xyz")}
        return columns

    def _quantities(self) -> list[tuple[str, str, str]]:
        """Name, key in files and unit of each number to draw."""
        properties = value_keys(self.targets).items()
        numbers = [(n, key, "") for n, key in properties if n not in self.class_names]
        return [*QUANTITIES, *numbers]

    def _outcomes(self) -> list[Outcomes]:
        """Counts of the classes predicted, of each property that is a class."""
        found = []
        for name, classes in self.class_names.items():
            predicted = self.properties[name]
            true = self.labels.properties.get(name, predicted.argmax(axis=1).astype(float))
            known = np.isfinite(true)
            counts = outcome_counts(true[known], predicted[known])
            found.append(Outcomes(label=name, counts=counts, classes=classes))
        return found

    def _panels(self) -> list[tuple[str, str, np.ndarray, np.ndarray | None]]:
        """Name, unit, predictions and labels of each quantity to draw."""
        arrays = self.arrays()
        panels = []
        for name, key, unit in self._quantities():
            predicted, true = arrays.get(f"{key}_predicted"), arrays.get(f"{key}_true")
            if predicted is None:
                continue
            if key == "energy":
                name = f"{name} per atom"
                predicted = predicted / self.n_atoms
                true = None if true is None else true / self.n_atoms
            known = np.isfinite(predicted if true is None else predicted + true)
            if known.any():
                panels.append((name, unit, predicted[known], None if true is None else true[known]))
        return panels


def _class_columns(
    key: str,
    classes: Sequence[str],
    probabilities: np.ndarray,
    true: np.ndarray | None,
    deviation: np.ndarray | None,
) -> dict[str, Any]:
    """Columns of the class that is most probable, its probability, and the label's class."""
    places = probabilities.argmax(axis=1)
    rows = np.arange(len(places))
    columns: dict[str, Any] = {key: [classes[i] for i in places]}
    columns[f"{key}_probability"] = probabilities[rows, places]
    if true is not None:
        columns[f"{key}_true"] = [classes[int(i)] if np.isfinite(i) else "" for i in true]
    if deviation is not None:
        columns[f"{key}_deviation"] = deviation[rows, places]
    return columns


def calibration(errors: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Root mean squares of standard deviations and of errors, in up to ten groups.

    Args:
        errors: errors of any shape; those that are not finite are left out.
        deviations: standard deviation of each; the groups are of equal size in its order.
    """
    known = np.isfinite(errors) & np.isfinite(deviations)
    errors, deviations = errors[known], deviations[known]
    groups = np.array_split(np.argsort(deviations), min(GROUPS, len(errors)))
    squares = [[np.mean(x[group] ** 2) for group in groups] for x in (deviations, errors)]
    return np.sqrt(squares[0]), np.sqrt(squares[1])


def _longest(vectors: np.ndarray) -> float:
    return float(np.linalg.norm(vectors, axis=1).max())


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
