"""The training loss as sums and counts, so that any partition of a batch gives the same value.

The loss of a set of structures is ``Σ_terms sum / count``, where both are taken over the whole
set. A device that holds a part of the batch contributes its sums, divided by the counts of all
devices; padding and missing labels enter neither, nor do fixed atoms (but for
``train.loss.fixed_atoms``). Following JMP, every labelled structure weighs the same whatever its
dataset, apart from the dataset's coefficients:

    energy  Σ_g c_g |ΔE_g| / #structures with an energy
    forces  Σ_g c_g mean_n‖ΔF_n‖ / #structures with forces      ("structure" reduction)
            Σ_n c_n ‖ΔF_n‖ / #atoms with forces                 ("atom" reduction)
    values  Σ_g c_g |Δy_g| / #structures with the property, for each property
    stress  Σ_g c_g mean_ij|Δσ_ij| / #structures with a stress

A task may exchange |Δ| for its square or for Huber's function of it, and ‖ΔF_n‖ likewise;
|Δσ_ij| goes with |ΔE|.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct

from atomjax.graphs.batch import GraphBatch
from atomjax.models import Prediction
from atomjax.ops import sum_slots
from atomjax.training.update.properties import (
    PropertyErrors,
    property_errors,
    property_losses,
    property_masks,
)
from atomjax.training.update.tasks import Task, force_losses, of_own_task, scalar_losses

Reduction = Literal["structure", "atom"]


@struct.dataclass
class Errors:
    """Prediction minus label of every structure and atom, zero where masked out."""

    energy: jax.Array  # [G], model units
    energy_mask: jax.Array  # [G] bool
    forces: jax.Array  # [N, 3], model units
    force_mask: jax.Array  # [N] bool
    values: dict[str, PropertyErrors]  # name of each property → its errors
    dataset: jax.Array  # [G] index of the task
    node_dataset: jax.Array  # [N] index of the task
    stress: jax.Array | None = None  # [G, 3, 3], model units, or None where no task trains it
    stress_mask: jax.Array | None = None  # [G] bool, or None


@struct.dataclass
class Terms:
    """One number for each loss term."""

    # Scalars of this name.
    energy: jax.Array
    forces: jax.Array
    values: dict[str, jax.Array]  # name of each property → scalar
    stress: jax.Array


def _masks(batch: GraphBatch, tasks: Sequence[Task]) -> tuple[jax.Array, jax.Array]:
    """Masks of the labels in each term: energies [G] and forces [N]."""
    targets = batch.targets
    has_energy = jnp.array([task.kind != "scalar" for task in tasks])
    has_forces = jnp.array([task.kind == "energy_forces" for task in tasks])
    node_dataset = targets.dataset[batch.node_graph]
    return (
        targets.energy_mask & has_energy[targets.dataset],
        targets.force_mask & has_forces[node_dataset],
    )


def own_predictions(
    predictions: Mapping[str, Prediction], batch: GraphBatch, tasks: Sequence[Task]
) -> tuple[jax.Array, jax.Array]:
    """Predictions of each structure's own dataset's head, zero where it has none.

    Returns:
        Energies [G] and forces [N, 3] in model units.
    """
    dataset, node_dataset = batch.targets.dataset, batch.targets.dataset[batch.node_graph]
    energy, forces = jnp.zeros_like(batch.targets.energy), jnp.zeros_like(batch.targets.forces)
    for i, task in enumerate(tasks):
        head = predictions[task.name]
        if head.energy is not None:
            energy = jnp.where(dataset == i, head.energy, energy)
        if head.forces is not None:
            forces = jnp.where((node_dataset == i)[:, None], head.forces, forces)
    return energy, forces


def own_stress(
    predictions: Mapping[str, Prediction], batch: GraphBatch, tasks: Sequence[Task]
) -> jax.Array | None:
    """[G, 3, 3] stresses of each structure's own head in model units; None where none has one."""
    stress = None
    for i, task in enumerate(tasks):
        own = predictions[task.name].stress
        if own is not None:
            before = jnp.zeros_like(own) if stress is None else stress
            stress = jnp.where((batch.targets.dataset == i)[:, None, None], own, before)
    return stress


def prediction_errors(
    predictions: Mapping[str, Prediction], batch: GraphBatch, tasks: Sequence[Task]
) -> Errors:
    """Compares each structure with the prediction of its own dataset's head."""
    energy, forces = own_predictions(predictions, batch, tasks)
    energy_mask, force_mask = _masks(batch, tasks)
    targets = batch.targets
    stress, stress_mask = own_stress(predictions, batch, tasks), _stress_mask(batch, tasks)
    if stress is not None and stress_mask is not None and targets.stress is not None:
        stress = jnp.where(stress_mask[:, None, None], stress - targets.stress, 0)
    return Errors(
        energy=jnp.where(energy_mask, energy - targets.energy, 0),
        energy_mask=energy_mask,
        forces=jnp.where(force_mask[:, None], forces - targets.forces, 0),
        force_mask=force_mask,
        values=property_errors(predictions, batch, tasks),
        dataset=targets.dataset,
        node_dataset=targets.dataset[batch.node_graph],
        stress=None if stress_mask is None else stress,
        stress_mask=stress_mask,
    )


def _stress_mask(batch: GraphBatch, tasks: Sequence[Task]) -> jax.Array | None:
    """[G] structures whose stress counts; None where no task trains it."""
    if batch.targets.stress_mask is None or not any(task.stress for task in tasks):
        return None
    trained = jnp.array([task.stress for task in tasks])
    return batch.targets.stress_mask & trained[batch.targets.dataset]


def label_counts(batch: GraphBatch, tasks: Sequence[Task], reduction: Reduction) -> Terms:
    """Number of structures (or atoms) that each term averages over; independent of the model."""
    energy_mask, force_mask = _masks(batch, tasks)
    if reduction == "structure":
        force_mask = sum_slots(force_mask.astype(jnp.float32), batch.atoms) > 0
    stress_mask = _stress_mask(batch, tasks)
    return Terms(
        energy=energy_mask.sum(),
        forces=force_mask.sum(),
        values={name: mask.sum() for name, mask in property_masks(batch, tasks).items()},
        stress=jnp.zeros((), int) if stress_mask is None else stress_mask.sum(),
    )


def loss_sums(
    errors: Errors, batch: GraphBatch, tasks: Sequence[Task], reduction: Reduction
) -> Terms:
    """The sums over this batch, to be divided by :func:`label_counts` of all batches."""
    energy_weight = jnp.array([task.energy_coefficient for task in tasks], errors.energy.dtype)
    force_weight = jnp.array([task.force_coefficient for task in tasks], errors.energy.dtype)
    norms = of_own_task(force_losses, errors.forces, errors.node_dataset, tasks)
    if reduction == "structure":
        counted = sum_slots(errors.force_mask.astype(norms.dtype), batch.atoms)
        means = sum_slots(norms, batch.atoms) / jnp.maximum(counted, 1)
        forces = jnp.sum(force_weight[errors.dataset] * means)
    else:
        forces = jnp.sum(force_weight[errors.node_dataset] * norms)
    weight = energy_weight[errors.dataset]
    stress = jnp.zeros((), errors.energy.dtype)
    if errors.stress is not None:
        stress_weight = jnp.array([task.stress_coefficient for task in tasks], weight.dtype)
        sizes = of_own_task(
            scalar_losses, errors.stress, errors.dataset[:, None, None], tasks
        ).mean(axis=(1, 2))
        stress = jnp.sum(stress_weight[errors.dataset] * sizes)
    return Terms(
        energy=jnp.sum(weight * of_own_task(scalar_losses, errors.energy, errors.dataset, tasks)),
        forces=forces,
        values=property_losses(errors.values, errors.dataset, tasks),
        stress=stress,
    )


def mean_terms(sums: Terms, counts: Terms) -> Terms:
    """Each term's weighted mean; zero for a term that nothing is labelled for."""
    return jax.tree.map(lambda s, c: s / jnp.maximum(c, 1), sums, counts)


def named_terms(terms: Terms) -> dict[str, Any]:
    """The terms as a log names them, all properties together."""
    return {
        "loss_energy": terms.energy,
        "loss_forces": terms.forces,
        "loss_value": sum(terms.values.values(), start=0.0),
        "loss_stress": terms.stress,
    }


def total(terms: Terms) -> jax.Array:
    """The loss."""
    return sum(named_terms(terms).values(), start=jnp.zeros(()))
