"""The tasks of a training: data sets, the heads that they train, and the losses of their errors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from atomjax.ops import safe_norm
from atomjax.structures.properties import Transform

ScalarLoss = Literal["mae", "mse", "huber"]
ForceLoss = Literal["l2", "mae", "mse", "huber"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A property that a task trains."""

    name: str  # name of the property
    unit: str = ""  # its unit
    coefficient: float = 1.0  # weight of its loss
    scale: float = 1.0  # unit of the property, or of its logarithm, per unit of the model's value
    # The same of the model's value zero, where no elements' shares were taken out.
    mean: float = 0.0
    transform: Transform = "identity"  # transform of the property, "identity" or "log"
    # Names of its classes, of which the model gives scores; none for a number.
    classes: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()  # weight of each class

    def error_sizes(self, value: jax.Array, wanted: jax.Array) -> jax.Array:
        """Absolute errors [G] of the property itself, in its unit, from values of the model."""
        if self.transform == "log":
            properties = [jnp.exp(self.scale * v + self.mean) for v in (value, wanted)]
            return jnp.abs(properties[0] - properties[1])
        return self.scale * jnp.abs(value - wanted)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A dataset and the head that it trains; the i-th task has dataset index i."""

    name: str  # name of the dataset and of the head
    # "energy_forces", "energy" or "scalar" (properties alone).
    kind: Literal["energy_forces", "energy", "scalar"] = "energy_forces"
    targets: tuple[Target, ...] = ()  # properties that are trained
    energy_coefficient: float = 1.0  # weight of the energy loss
    force_coefficient: float = 1.0  # weight of the force loss
    energy_scale: float = 1.0  # eV per unit of the model's energy
    force_scale: float = 1.0  # eV/Å per unit of the model's forces
    stress: bool = False  # whether the stress is trained
    stress_coefficient: float = 1.0  # weight of the stress loss
    # Loss of energies and properties: "mae" (absolute), "mse" (squared) or "huber".
    scalar_loss: ScalarLoss = "mae"
    # Loss of an atom's force: "l2" (length of the error), "mae" or "mse" (mean over its components)
    # or "huber" (of the length).
    force_loss: ForceLoss = "l2"
    huber_delta: float = 1.0  # model units; Huber's function is quadratic below it and linear above

    def target(self, name: str) -> Target | None:
        """The property of a name; None where the task does not train it."""
        return next((target for target in self.targets if target.name == name), None)


def target_names(tasks: Sequence[Task]) -> list[str]:
    """Names of the properties that any of the tasks trains."""
    return list(dict.fromkeys(target.name for task in tasks for target in task.targets))


def scalar_losses(error: jax.Array, task: Task) -> jax.Array:
    """Elementwise loss of the errors [G] of energies or properties, or [G, 3, 3] of stresses."""
    if task.scalar_loss == "mse":
        return error**2
    if task.scalar_loss == "huber":
        return optax.huber_loss(error, delta=task.huber_delta)
    return jnp.abs(error)


def force_losses(error: jax.Array, task: Task) -> jax.Array:
    """[N] loss of the force errors [N, 3]."""
    if task.force_loss == "mae":
        return jnp.abs(error).mean(axis=-1)
    if task.force_loss == "mse":
        return (error**2).mean(axis=-1)
    length = safe_norm(error)
    if task.force_loss == "huber":
        return optax.huber_loss(length, delta=task.huber_delta)
    return length


def of_own_task(
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
