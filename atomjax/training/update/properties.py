"""Errors and losses of the properties that tasks train, beside energies and forces or alone."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import struct

from atomjax.graphs.batch import GraphBatch
from atomjax.models import Prediction
from atomjax.training.update.tasks import Task, scalar_losses, target_names


@struct.dataclass
class PropertyErrors:
    """Errors of one property, zero where masked out.

    Attributes:
        mask: [G] bool, structures whose property counts.
        loss: [G] loss without the coefficient.
        size: [G] absolute error, in the property's unit.
    """

    mask: jax.Array
    loss: jax.Array
    size: jax.Array


def property_masks(batch: GraphBatch, tasks: Sequence[Task]) -> dict[str, jax.Array]:
    """Name of each property → [G] structures that have it and whose task trains it."""
    masks = {}
    for name in target_names(tasks):
        trained = jnp.array([task.target(name) is not None for task in tasks])
        masks[name] = batch.targets.property_masks[name] & trained[batch.targets.dataset]
    return masks


def own_values(
    predictions: Mapping[str, Prediction], batch: GraphBatch, tasks: Sequence[Task]
) -> dict[str, jax.Array]:
    """Name of each property → [G] prediction of each structure's own head, zero where none."""
    values = {}
    for name in target_names(tasks):
        values[name] = jnp.zeros_like(batch.targets.energy)
        for i, task in enumerate(tasks):
            if task.target(name) is not None:
                own = batch.targets.dataset == i
                values[name] = jnp.where(own, predictions[task.name].values[name], values[name])
    return values


def property_errors(
    predictions: Mapping[str, Prediction], batch: GraphBatch, tasks: Sequence[Task]
) -> dict[str, PropertyErrors]:
    """Compares the properties of each structure with the predictions of its own head."""
    found = {}
    for name, mask in property_masks(batch, tasks).items():
        wanted = batch.targets.properties[name]
        loss = size = jnp.zeros_like(wanted)
        for i, task in enumerate(tasks):
            target = task.target(name)
            if target is not None:
                own = mask & (batch.targets.dataset == i)
                value = predictions[task.name].values[name]
                error = jnp.where(own, value - wanted, 0)
                loss = jnp.where(own, scalar_losses(error, task), loss)
                size = jnp.where(own, target.error_sizes(value, wanted), size)
        found[name] = PropertyErrors(mask=mask, loss=loss, size=size)
    return found


def property_losses(
    errors: Mapping[str, PropertyErrors], dataset: jax.Array, tasks: Sequence[Task]
) -> dict[str, jax.Array]:
    """Name of each property → sum of its losses, each weighted by its task's coefficient.

    Args:
        errors: result of :func:`property_errors`.
        dataset: [G] index of the task.
        tasks: task i serves dataset index i.
    """
    sums = {}
    for name, one in errors.items():
        targets = [task.target(name) for task in tasks]
        weights = jnp.array([t.coefficient if t else 0.0 for t in targets], one.loss.dtype)
        sums[name] = jnp.sum(weights[dataset] * one.loss)
    return sums
