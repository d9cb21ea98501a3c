"""Errors and losses of the properties that tasks train, beside energies and forces or alone."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import optax
from flax import struct

from atomjax.graphs.batch import GraphBatch
from atomjax.models import Prediction
from atomjax.training.update.tasks import Target, Task, scalar_losses, target_names


@struct.dataclass
class PropertyErrors:
    """Errors of one property, zero where masked out."""

    mask: jax.Array  # [G] bool, structures whose property counts
    loss: jax.Array  # [G] loss without the coefficient
    size: jax.Array  # [G] absolute error, in the property's unit; zero for classes
    # [G, C, C] one at the class of a structure and the one predicted; None for numbers.
    outcomes: jax.Array | None = None


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
    """Name of each property → [G] prediction of each structure's own head, zero where none.

    Scores of classes are [G, C] with the C of the task that has most, the others' followed by zero.
    """
    values = {}
    for name in target_names(tasks):
        found = {
            i: predictions[task.name].values[name]
            for i, task in enumerate(tasks)
            if task.target(name) is not None
        }
        widest = max(found.values(), key=lambda value: value.shape[1:])
        values[name] = jnp.zeros_like(widest)
        for i, value in found.items():
            missing = [(0, n - m) for n, m in zip(widest.shape, value.shape, strict=True)]
            own = (batch.targets.dataset == i).reshape(-1, *[1] * (value.ndim - 1))
            values[name] = jnp.where(own, jnp.pad(value, missing), values[name])
    return values


def property_errors(
    predictions: Mapping[str, Prediction], batch: GraphBatch, tasks: Sequence[Task]
) -> dict[str, PropertyErrors]:
    """Compares the properties of each structure with the predictions of its own head."""
    found = {}
    for name, mask in property_masks(batch, tasks).items():
        wanted = batch.targets.properties[name]
        loss = size = jnp.zeros_like(wanted)
        outcomes = None
        for i, task in enumerate(tasks):
            target = task.target(name)
            if target is not None:
                own = mask & (batch.targets.dataset == i)
                value = predictions[task.name].values[name]
                if target.classes:
                    one, given = _of_classes(value, wanted, target)
                    given = jnp.where(own[:, None, None], given, 0)
                    outcomes = given if outcomes is None else _sum(outcomes, given)
                else:
                    one = scalar_losses(jnp.where(own, value - wanted, 0), task)
                    size = jnp.where(own, target.error_sizes(value, wanted), size)
                loss = jnp.where(own, one, loss)
        found[name] = PropertyErrors(mask=mask, loss=loss, size=size, outcomes=outcomes)
    return found


def _of_classes(
    scores: jax.Array, wanted: jax.Array, target: Target
) -> tuple[jax.Array, jax.Array]:
    """Weighted cross entropies [G] of scores [G, C] of classes [G], and the outcomes [G, C, C]."""
    place = wanted.astype(jnp.int32)
    entropy = optax.softmax_cross_entropy_with_integer_labels(scores, place)
    true, given = (
        jax.nn.one_hot(one, len(target.classes), dtype=scores.dtype)
        for one in (place, scores.argmax(axis=1))
    )
    weights = jnp.array(target.weights, scores.dtype)[place]
    return weights * entropy, true[:, :, None] * given[:, None, :]


def _sum(a: jax.Array, b: jax.Array) -> jax.Array:
    """The sum of outcomes [G, C, C] of two numbers of classes."""
    count = max(a.shape[-1], b.shape[-1])
    a, b = (jnp.pad(x, ((0, 0), *[(0, count - x.shape[-1])] * 2)) for x in (a, b))
    return a + b


def property_losses(
    errors: Mapping[str, PropertyErrors], dataset: jax.Array, tasks: Sequence[Task]
) -> dict[str, jax.Array]:
    """Name of each property → sum of its losses, each weighted by its task's coefficient."""
    sums = {}
    for name, one in errors.items():
        targets = [task.target(name) for task in tasks]
        weights = jnp.array([t.coefficient if t else 0.0 for t in targets], one.loss.dtype)
        sums[name] = jnp.sum(weights[dataset] * one.loss)
    return sums
