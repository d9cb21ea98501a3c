"""The training loss as sums and counts, so that any partition of a batch gives the same value.

The loss of a set of structures is ``Σ_terms sum / count``, where both are taken over the whole
set. A device that holds a part of the batch contributes its sums, divided by the counts of all
devices; padding and missing labels enter neither, nor do fixed atoms (but for
``train.loss.fixed_atoms``). Following JMP, every labelled structure weighs the same whatever its
dataset, apart from the dataset's coefficients:

    energy  Σ_g c_g |ΔE_g| / #structures with an energy
    forces  Σ_g c_g mean_n‖ΔF_n‖ / #structures with forces      ("structure" reduction)
            Σ_n c_n ‖ΔF_n‖ / #atoms with forces                 ("atom" reduction)
    value   Σ_g c_g |Δy_g| / #structures with the property
    stress  Σ_g c_g mean_ij|Δσ_ij| / #structures with a stress

A task may exchange |Δ| for its square or for Huber's function of it, and ‖ΔF_n‖ likewise;
|Δσ_ij| goes with |ΔE|.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from flax import struct

from atomjax.graphs.batch import GraphBatch
from atomjax.models import Prediction
from atomjax.ops import safe_norm, sum_slots
from atomjax.structures.references import Transform

Reduction = Literal["structure", "atom"]
ScalarLoss = Literal["mae", "mse", "huber"]
ForceLoss = Literal["l2", "mae", "mse", "huber"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A dataset and the head that it trains; the i-th task has dataset index i.

    Attributes:
        name: name of the dataset and of the head.
        kind: "energy_forces", "energy" or "scalar".
        target: property of kind "scalar".
        unit: unit of that property.
        energy_coefficient: weight of the energy (or property) loss.
        force_coefficient: weight of the force loss.
        energy_scale: eV per unit of the model's energy.
        force_scale: eV/Å per unit of the model's forces.
        value_scale: unit of the property, or of its logarithm, per unit of the model's value.
        value_mean: the same of the model's value zero, where no elements' shares were taken out.
        transform: transform of the property, "identity" or "log".
        stress: whether the stress is trained.
        stress_coefficient: weight of the stress loss.
        scalar_loss: loss of energies and properties: "mae" (absolute), "mse" (squared) or "huber".
        force_loss: loss of an atom's force: "l2" (length of the error), "mae" or "mse" (mean over
            its components) or "huber" (of the length).
        huber_delta: model units; Huber's function is quadratic below it and linear above.
    """

    name: str
    kind: Literal["energy_forces", "energy", "scalar"] = "energy_forces"
    target: str | None = None
    unit: str = ""
    energy_coefficient: float = 1.0
    force_coefficient: float = 1.0
    energy_scale: float = 1.0
    force_scale: float = 1.0
    value_scale: float = 1.0
    value_mean: float = 0.0
    transform: Transform = "identity"
    stress: bool = False
    stress_coefficient: float = 1.0
    scalar_loss: ScalarLoss = "mae"
    force_loss: ForceLoss = "l2"
    huber_delta: float = 1.0


@struct.dataclass
class Errors:
    """Prediction minus label of every structure and atom, zero where masked out.

    Attributes:
        energy: [G], model units.
        energy_mask: [G] bool.
        forces: [N, 3], model units.
        force_mask: [N] bool.
        value: [G], model units.
        value_mask: [G] bool.
        value_size: [G] absolute error of the property itself, in its unit.
        dataset: [G] index of the task.
        node_dataset: [N] index of the task.
        stress: [G, 3, 3], model units, or None where no task trains it.
        stress_mask: [G] bool, or None.
    """

    energy: jax.Array
    energy_mask: jax.Array
    forces: jax.Array
    force_mask: jax.Array
    value: jax.Array
    value_mask: jax.Array
    value_size: jax.Array
    dataset: jax.Array
    node_dataset: jax.Array
    stress: jax.Array | None = None
    stress_mask: jax.Array | None = None


@struct.dataclass
class Terms:
    """One number for each loss term.

    Attributes:
        energy, forces, value, stress: scalars.
    """

    energy: jax.Array
    forces: jax.Array
    value: jax.Array
    stress: jax.Array


def _masks(batch: GraphBatch, tasks: Sequence[Task]) -> tuple[jax.Array, ...]:
    """Masks of the labels in each term: energies [G], forces [N] and properties [G]."""
    targets = batch.targets
    has_energy = jnp.array([task.kind != "scalar" for task in tasks])
    has_forces = jnp.array([task.kind == "energy_forces" for task in tasks])
    node_dataset = targets.dataset[batch.node_graph]
    return (
        targets.energy_mask & has_energy[targets.dataset],
        targets.force_mask & has_forces[node_dataset],
        batch.graph_mask & ~has_energy[targets.dataset],
    )


def own_predictions(
    predictions: Mapping[str, Prediction], batch: GraphBatch, tasks: Sequence[Task]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Predictions of each structure's own dataset's head, zero where it has none.

    Returns:
        Energies [G], forces [N, 3] and property values [G], in model units.
    """
    dataset, node_dataset = batch.targets.dataset, batch.targets.dataset[batch.node_graph]
    energy, value = jnp.zeros_like(batch.targets.energy), jnp.zeros_like(batch.targets.energy)
    forces = jnp.zeros_like(batch.targets.forces)
    for i, task in enumerate(tasks):
        head = predictions[task.name]
        if head.energy is not None:
            energy = jnp.where(dataset == i, head.energy, energy)
        if head.forces is not None:
            forces = jnp.where((node_dataset == i)[:, None], head.forces, forces)
        if head.value is not None:
            value = jnp.where(dataset == i, head.value, value)
    return energy, forces, value


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


def value_targets(batch: GraphBatch, tasks: Sequence[Task]) -> jax.Array:
    """[G] the property that each structure's own task predicts, zero where it predicts none."""
    value = jnp.zeros_like(batch.targets.energy)
    for i, task in enumerate(tasks):
        if task.target is not None:
            own = batch.targets.dataset == i
            value = jnp.where(own, batch.targets.properties[task.target], value)
    return value


def prediction_errors(
    predictions: Mapping[str, Prediction], batch: GraphBatch, tasks: Sequence[Task]
) -> Errors:
    """Compares each structure with the prediction of its own dataset's head."""
    energy, forces, value = own_predictions(predictions, batch, tasks)
    energy_mask, force_mask, value_mask = _masks(batch, tasks)
    targets, wanted = batch.targets, value_targets(batch, tasks)
    stress, stress_mask = own_stress(predictions, batch, tasks), _stress_mask(batch, tasks)
    if stress is not None and stress_mask is not None and targets.stress is not None:
        stress = jnp.where(stress_mask[:, None, None], stress - targets.stress, 0)
    return Errors(
        energy=jnp.where(energy_mask, energy - targets.energy, 0),
        energy_mask=energy_mask,
        forces=jnp.where(force_mask[:, None], forces - targets.forces, 0),
        force_mask=force_mask,
        value=jnp.where(value_mask, value - wanted, 0),
        value_mask=value_mask,
        value_size=jnp.where(value_mask, _value_sizes(value, wanted, targets.dataset, tasks), 0),
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


def _value_sizes(
    value: jax.Array, wanted: jax.Array, dataset: jax.Array, tasks: Sequence[Task]
) -> jax.Array:
    """[G] |Δy| of the properties themselves, in their units, from model values."""
    sizes = jnp.zeros_like(value)
    for i, task in enumerate(tasks):
        if task.transform == "log":
            scaled = [jnp.exp(task.value_scale * v + task.value_mean) for v in (value, wanted)]
            own = jnp.abs(scaled[0] - scaled[1])
        else:
            own = task.value_scale * jnp.abs(value - wanted)
        sizes = jnp.where(dataset == i, own, sizes)
    return sizes


def label_counts(batch: GraphBatch, tasks: Sequence[Task], reduction: Reduction) -> Terms:
    """Number of structures (or atoms) that each term averages over; independent of the model."""
    energy_mask, force_mask, value_mask = _masks(batch, tasks)
    if reduction == "structure":
        force_mask = sum_slots(force_mask.astype(jnp.float32), batch.atoms) > 0
    stress_mask = _stress_mask(batch, tasks)
    return Terms(
        energy=energy_mask.sum(),
        forces=force_mask.sum(),
        value=value_mask.sum(),
        stress=jnp.zeros((), int) if stress_mask is None else stress_mask.sum(),
    )


def _scalar_losses(error: jax.Array, task: Task) -> jax.Array:
    """Elementwise loss of the errors [G] of energies or properties, or [G, 3, 3] of stresses."""
    if task.scalar_loss == "mse":
        return error**2
    if task.scalar_loss == "huber":
        return optax.huber_loss(error, delta=task.huber_delta)
    return jnp.abs(error)


def _force_losses(error: jax.Array, task: Task) -> jax.Array:
    """[N] loss of the force errors [N, 3]."""
    if task.force_loss == "mae":
        return jnp.abs(error).mean(axis=-1)
    if task.force_loss == "mse":
        return (error**2).mean(axis=-1)
    length = safe_norm(error)
    if task.force_loss == "huber":
        return optax.huber_loss(length, delta=task.huber_delta)
    return length


def _of_own_task(
    losses: Callable[[jax.Array, Task], jax.Array],
    error: jax.Array,
    dataset: jax.Array,
    tasks: Sequence[Task],
) -> jax.Array:
    """The losses of every row by the task that it belongs to."""

    def form(task: Task) -> tuple:
        return task.scalar_loss, task.force_loss, task.huber_delta

    result = losses(error, tasks[0])
    for i, task in enumerate(tasks):
        if form(task) != form(tasks[0]):
            result = jnp.where(dataset == i, losses(error, task), result)
    return result


def loss_sums(
    errors: Errors, batch: GraphBatch, tasks: Sequence[Task], reduction: Reduction
) -> Terms:
    """The sums over this batch, to be divided by :func:`label_counts` of all batches."""
    energy_weight = jnp.array([task.energy_coefficient for task in tasks], errors.energy.dtype)
    force_weight = jnp.array([task.force_coefficient for task in tasks], errors.energy.dtype)
    norms = _of_own_task(_force_losses, errors.forces, errors.node_dataset, tasks)
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
        sizes = _of_own_task(
            _scalar_losses, errors.stress, errors.dataset[:, None, None], tasks
        ).mean(axis=(1, 2))
        stress = jnp.sum(stress_weight[errors.dataset] * sizes)
    return Terms(
        energy=jnp.sum(weight * _of_own_task(_scalar_losses, errors.energy, errors.dataset, tasks)),
        forces=forces,
        value=jnp.sum(weight * _of_own_task(_scalar_losses, errors.value, errors.dataset, tasks)),
        stress=stress,
    )


def mean_terms(sums: Terms, counts: Terms) -> Terms:
    """Each term's weighted mean; zero for a term that nothing is labelled for."""
    return jax.tree.map(lambda s, c: s / jnp.maximum(c, 1), sums, counts)


def total(terms: Terms) -> jax.Array:
    """The loss."""
    return terms.energy + terms.forces + terms.value + terms.stress
