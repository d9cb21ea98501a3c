"""Errors in physical units, from sums that add over batches and devices."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from atomjax.graphs.batch import GraphBatch
from atomjax.training.running.classification import BALANCED_ERROR, outcome_metrics
from atomjax.training.update.losses import Errors
from atomjax.training.update.tasks import Task

MILLI = 1e3
STRESS_MAE = "stress_mae_ev_per_cubic_angstrom"
# Names and units of errors, the one first by which trainings on a task are compared. That of a
# property has the property's unit.
METRICS: Mapping[str, tuple[str, str]] = {
    "force_mae_mev_per_angstrom": ("force MAE", "meV/Å"),
    "value_mae": ("MAE", ""),
    "energy_mae_mev_per_atom": ("energy MAE", "meV/atom"),
    "energy_mae_mev": ("energy MAE", "meV"),
    STRESS_MAE: ("stress MAE", "eV/Å³"),
    BALANCED_ERROR: ("balanced error rate", ""),
}
# Further errors of test sets, which are in results and in no table of a report.
FURTHER_METRICS: Mapping[str, tuple[str, str]] = {
    "energy_rmse_mev": ("energy RMSE", "meV"),
    "energy_rmse_mev_per_atom": ("energy RMSE", "meV/atom"),
    "force_rmse_mev_per_angstrom": ("force RMSE", "meV/Å"),
    "force_cosine": ("cosine of forces", ""),
    "within_threshold": ("energy and forces within 0.02 eV and 0.03 eV/Å", ""),
    "stress_rmse_ev_per_cubic_angstrom": ("stress RMSE", "eV/Å³"),
    "value_rmse": ("RMSE", ""),
    "balanced_accuracy": ("balanced accuracy", ""),
    "accuracy": ("accuracy", ""),
    "f1": ("F1", ""),
    "roc_auc": ("ROC-AUC", ""),
}


def report_name(data_set: str, target: str, targets: Sequence[str]) -> str:
    """Name under which errors of a property are reported: its own too, where there are several."""
    return data_set if len(targets) == 1 else f"{data_set}/{target}"


def error_sums(errors: Errors, batch: GraphBatch, tasks: Sequence[Task]) -> dict[str, jax.Array]:
    """Sums of absolute errors and their counts for each task, model units, properties in theirs.

    Returns:
        name → [T]. ``force_abs`` sums the mean over the three components of each atom, and
        ``stress_abs``, which is there where a task trains stresses, that over the nine of each
        structure. Names of properties end in theirs, ``value_abs/<property>``; ``outcomes`` of
        classes are [T, C, C].
    """
    member = errors.dataset[None] == jnp.arange(len(tasks))[:, None]
    atom_member = errors.node_dataset[None] == jnp.arange(len(tasks))[:, None]
    dtype = errors.energy.dtype

    def over_structures(x: jax.Array) -> jax.Array:
        return jnp.where(member, x.astype(dtype), 0).sum(axis=1)

    def over_atoms(x: jax.Array) -> jax.Array:
        return jnp.where(atom_member, x.astype(dtype), 0).sum(axis=1)

    energy = jnp.abs(errors.energy)
    stress = {}
    if errors.stress is not None and errors.stress_mask is not None:
        stress = {
            "stress_abs": over_structures(jnp.abs(errors.stress).mean(axis=(1, 2))),
            "stress_count": over_structures(errors.stress_mask),
        }
    return {
        "energy_abs": over_structures(energy),
        "energy_abs_per_atom": over_structures(energy / jnp.maximum(batch.num_atoms, 1)),
        "energy_count": over_structures(errors.energy_mask),
        "force_abs": over_atoms(jnp.abs(errors.forces).mean(axis=-1)),
        "force_count": over_atoms(errors.force_mask),
        **stress,
        **{f"value_abs/{name}": over_structures(one.size) for name, one in errors.values.items()},
        **{f"value_count/{name}": over_structures(one.mask) for name, one in errors.values.items()},
        **{
            f"outcomes/{name}": jnp.einsum("tg,gij->tij", member.astype(dtype), one.outcomes)
            for name, one in errors.values.items()
            if one.outcomes is not None
        },
        "structures": over_structures(batch.graph_mask),
    }


def physical_metrics(
    sums: Mapping[str, np.ndarray | jax.Array], tasks: Sequence[Task]
) -> dict[str, float]:
    """Mean absolute errors in the units chemists report.

    Args:
        sums: as :func:`error_sums` returns, added over any number of batches.
        tasks: in the order of the sums.

    Returns:
        For each task, where something is labelled: ``<task>/energy_mae_mev`` (meV),
        ``<task>/energy_mae_mev_per_atom`` (meV/atom), ``<task>/force_mae_mev_per_angstrom``
        (meV/Å, mean over components), ``<task>/stress_mae_ev_per_cubic_angstrom`` (eV/Å³, mean over
        components), ``<task>/value_mae`` (the property's unit), of several properties
        ``<task>/<property>/value_mae``; of classes those of
        :func:`atomjax.training.running.classification.outcome_metrics`.
    """
    metrics = {}

    def add(name: str, i: int, numerator: str, denominator: str, scale: float = 1.0) -> None:
        count = float(sums[denominator][i]) if denominator in sums else 0.0
        if count:
            metrics[name] = scale * float(sums[numerator][i]) / count

    for i, task in enumerate(tasks):
        energy, forces = MILLI * task.energy_scale, MILLI * task.force_scale
        for name, numerator, denominator, scale in (
            ("energy_mae_mev", "energy_abs", "energy_count", energy),
            ("energy_mae_mev_per_atom", "energy_abs_per_atom", "energy_count", energy),
            ("force_mae_mev_per_angstrom", "force_abs", "force_count", forces),
            (STRESS_MAE, "stress_abs", "stress_count", task.energy_scale),
        ):
            add(f"{task.name}/{name}", i, numerator, denominator, scale)
        names = [target.name for target in task.targets]
        for name in names:
            where = report_name(task.name, name, names)
            if f"outcomes/{name}" in sums:
                found = outcome_metrics(np.asarray(sums[f"outcomes/{name}"][i], np.float64))
                metrics |= {f"{where}/{metric}": value for metric, value in found.items()}
            else:
                add(f"{where}/value_mae", i, f"value_abs/{name}", f"value_count/{name}")
    return metrics


SELECTION = {
    "energy_mae": "energy_mae_mev",
    "force_mae": "force_mae_mev_per_angstrom",
    "stress_mae": STRESS_MAE,
    "value_mae": "value_mae",
    BALANCED_ERROR: BALANCED_ERROR,
}


def selection_value(
    metrics: Mapping[str, float], select_by: str, target: str | None = None
) -> float:
    """The number that chooses the best checkpoint: the loss, or a mean over the tasks.

    Args:
        metrics: metrics of the validation data.
        select_by: "loss" or a key of ``SELECTION``.
        target: property whose error counts, where heads have several.

    Raises:
        ValueError: if the validation data have no label for it.
    """
    if select_by == "loss":
        return metrics["loss"]
    suffix = f"/{SELECTION[select_by]}"
    if target is not None:
        suffix = f"/{target}{suffix}"
    values = [value for name, value in metrics.items() if name.endswith(suffix)]
    if not values:
        raise ValueError(
            f'select_by="{select_by}", but nothing in the validation data is labelled for it; '
            'use train.validation.select_by="loss"'
        )
    return float(np.mean(values))


def by_dataset(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Metrics as dataset → metric → value; the loss and its terms are left out.

    Each of several properties has an entry of its own, ``<dataset>/<property>``.
    """
    nested: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        dataset, separator, metric = name.rpartition("/")
        if separator:
            nested.setdefault(dataset, {})[metric] = value
    return nested


def describe_metrics(split: str, metrics: Mapping[str, float], tasks: Sequence[Task]) -> str:
    """One line for each dataset, or property where there are several, with units."""
    property_units = {}
    for task in tasks:
        names = [target.name for target in task.targets]
        property_units |= {report_name(task.name, t.name, names): t.unit for t in task.targets}
    lines = []
    for dataset, values in by_dataset(metrics).items():
        named = []
        for metric, value in values.items():
            name, unit = {**METRICS, **FURTHER_METRICS}[metric]
            unit = property_units.get(dataset, "") if metric == "value_mae" else unit
            named.append(f"{name} {value:.4g} {unit}".rstrip())
        lines.append(f"{split} {dataset}: {', '.join(named)}")
    return "\n".join(lines)
