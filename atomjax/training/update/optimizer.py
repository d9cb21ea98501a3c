"""AdamW with clipping, and a learning rate by step and parameter path."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from atomjax.runtime.config import ConfigError
from atomjax.training.settings import GroupSettings, TrainSettings
from atomjax.training.update.norms import tree_norm

Params = Any


def decay_end(settings: TrainSettings, num_steps: int) -> int:
    """The step at which the cosine ends; a plateau begins there."""
    epochs = settings.schedule.decay_epochs
    if epochs is None:
        return num_steps
    return min(epochs * (num_steps // settings.epochs), num_steps)


def learning_rate_schedule(
    settings: TrainSettings, num_steps: int, *, final_factor: float | None = None
) -> optax.Schedule:
    """Linear warm-up to the peak, then a cosine to its fraction ``final_factor``.

    Args:
        settings: epochs, schedule and peak learning rate.
        num_steps: length of the run, whole epochs; the cosine ends there unless before.
        final_factor: instead of the one in the settings.

    Raises:
        ConfigError: if the warm-up is longer than the cosine allows.
    """
    end, schedule = decay_end(settings, num_steps), settings.schedule
    warmup_steps = schedule.warmup_steps or schedule.warmup_epochs * (num_steps // settings.epochs)
    if warmup_steps >= end:
        name = "warmup_steps" if schedule.warmup_steps else "warmup_epochs"
        raise ConfigError(
            f"train.schedule.{name}={getattr(schedule, name)} leaves nothing of the {end} steps of "
            "this run's cosine; lower it or train for more epochs"
        )
    peak = settings.peak_learning_rate
    factor = schedule.final_factor if final_factor is None else final_factor
    cosine = optax.cosine_decay_schedule(peak, end - warmup_steps, factor)
    if warmup_steps == 0:
        return cosine
    warmup = optax.linear_schedule(schedule.warmup_factor * peak, peak, warmup_steps)
    return optax.join_schedules([warmup, cosine], [warmup_steps])


def first_group(path: str, groups: Sequence[GroupSettings]) -> int:
    """The index in ``groups`` of the first pattern found in a parameter's path; -1: none."""
    return next((i for i, group in enumerate(groups) if re.search(group.pattern, path)), -1)


def is_trained(label: int, groups: Sequence[GroupSettings]) -> bool:
    """False for a parameter whose first group has the multiplier 0."""
    return label < 0 or groups[label].multiplier > 0


def parameter_groups(params: Params, groups: Sequence[GroupSettings]) -> Params:
    """Each parameter's :func:`first_group`; raises ConfigError if a pattern is found in no path."""
    flat = traverse_util.flatten_dict(params, sep="/")
    labels = {path: first_group(path, groups) for path in flat}
    for i, group in enumerate(groups):
        # A layer's group that a frozen part covers has nothing left, and that is meant.
        if not any(re.search(group.pattern, path) for path in flat):
            raise ConfigError(
                f'train.optimizer.groups[{i}]: pattern "{group.pattern}" matches no parameter '
                "(groups of freeze come first, those of layer_rates last); paths look like "
                + ", ".join(sorted(flat)[:3])
            )
    return traverse_util.unflatten_dict(labels, sep="/")


def trained_parameters(params: Params, groups: Sequence[GroupSettings]) -> Params:
    """A mark of each parameter, true where it :func:`is_trained`."""
    return jax.tree.map(lambda label: is_trained(label, groups), parameter_groups(params, groups))


def count_parameters(params: Any, counted: Any = None) -> int:
    """Number of parameters, scale factors aside; of those that ``counted`` marks, where given."""
    marked = jax.tree.map(lambda _: True, params) if counted is None else counted
    sizes = jax.tree.map(lambda leaf, own: math.prod(leaf.shape) if own else 0, params, marked)
    return sum(jax.tree.leaves(sizes))


class ScheduleState(NamedTuple):
    """Number of updates made, and the factor of the rates after plateaus."""

    count: jax.Array
    plateau_scale: jax.Array


def with_plateau_scale(opt_state: Any, scale: float) -> Any:
    """The optimiser's state with another factor of all rates, on the devices where it was."""
    old = optax.tree.get(opt_state, "plateau_scale")
    new = jax.device_put(np.asarray(scale, old.dtype), old.sharding)
    return optax.tree.set(opt_state, plateau_scale=new)


def _scale_by_group(labels: Params, schedules: dict[int, optax.Schedule]):
    """Multiplies each update by minus the learning rate of its group."""

    def init(params: Params) -> ScheduleState:
        del params
        return ScheduleState(jnp.zeros([], jnp.int32), jnp.ones([], jnp.float32))

    def update(updates, state, params=None):
        del params
        rates = {
            label: schedule(state.count) * state.plateau_scale
            for label, schedule in schedules.items()
        }
        scaled = jax.tree.map(
            lambda u, label: -jnp.asarray(rates[label], u.dtype) * u, updates, labels
        )
        return scaled, ScheduleState(state.count + 1, state.plateau_scale)

    return optax.GradientTransformation(init, update)


def _scale_gradients(factors: Params):
    """Multiplies each gradient by a number; those of frozen parameters, by zero, become zero."""
    return optax.stateless(
        lambda updates, _: jax.tree.map(
            lambda u, factor: u if factor == 1 else u * factor if factor else jnp.zeros_like(u),
            updates,
            factors,
        )
    )


def shared_divisors(params: Params, shared: Sequence[tuple[str, int]]) -> Params:
    """Number of blocks that read each parameter."""

    def blocks(path: str) -> int:
        own = path.removeprefix("lora/")
        return next((count for pattern, count in shared if re.search(pattern, own)), 1)

    flat = traverse_util.flatten_dict(params, sep="/")
    return traverse_util.unflatten_dict({path: blocks(path) for path in flat}, sep="/")


def _clip_by_norm(limit: float):
    """``optax.clip_by_global_norm`` with the norm of :func:`tree_norm`."""

    def clipped(updates, _):
        norm = tree_norm(updates)
        return jax.tree.map(
            lambda u: jnp.where(norm < limit, u, u / norm.astype(u.dtype) * limit), updates
        )

    return optax.stateless(clipped)


def make_optimizer(
    settings: TrainSettings,
    params: Params,
    num_steps: int,
    groups: Sequence[GroupSettings],
    shared: Sequence[tuple[str, int]] = (),
) -> optax.GradientTransformation:
    """The optimiser of a run.

    Clipping sees the gradient of all trainable parameters together. Frozen ones (multiplier 0)
    have neither moments nor decay. A group's ``multiplier`` scales its whole schedule; its
    ``final_factor`` replaces the cosine's floor.

    Args:
        settings: settings of the training.
        params: parameters of the model.
        num_steps: length of the run.
        groups: ``all_groups`` of the settings; the first whose pattern is found counts.
        shared: parameters that several blocks read, for ``scale_shared_gradients``; see
            :func:`shared_divisors`.
    """
    labels = parameter_groups(params, groups)
    schedules = {-1: learning_rate_schedule(settings, num_steps)}
    for i, group in enumerate(groups):
        base = learning_rate_schedule(settings, num_steps, final_factor=group.final_factor)
        schedules[i] = _multiplied(base, group.multiplier)
    trainable = trained_parameters(params, groups)
    given = settings.optimizer
    divisors = shared_divisors(params, shared if given.scale_shared_gradients else ())
    factors = jax.tree.map(lambda train, n: 1 / n if train else 0, trainable, divisors)
    steps = [_scale_gradients(factors)]
    if given.clip_value is not None:
        steps.append(optax.clip(given.clip_value))
    if given.clip_norm is not None:
        steps.append(_clip_by_norm(given.clip_norm))
    adamw = optax.chain(
        optax.scale_by_adam(b1=given.beta1, b2=given.beta2, eps=given.epsilon),
        optax.add_decayed_weights(given.weight_decay),
    )
    steps += [optax.masked(adamw, trainable), _scale_by_group(labels, schedules)]
    return optax.chain(*steps)


def _multiplied(schedule: optax.Schedule, multiplier: float) -> optax.Schedule:
    return lambda count: multiplier * schedule(count)


def average_decay(decay: float, updates: jax.Array, *, warmup: bool) -> jax.Array | float:
    """The decay of an exponential moving average at one update.

    Args:
        decay: its value after many updates.
        updates: number of updates, this one included.
        warmup: take (1 + n) / (10 + n) until that reaches ``decay`` (TensorFlow's
            ``ExponentialMovingAverage`` with ``num_updates``): the average then reaches back over
            about the last ninth of the steps, and the initial weights are a millionth of it after
            20.
    """
    return jnp.minimum(decay, (1 + updates) / (10 + updates)) if warmup else decay


def update_average(average: Params, params: Params, decay: jax.Array | float) -> Params:
    """Exponential moving average of the parameters after one more step."""
    return jax.tree.map(lambda a, p: p + decay * (a - p), average, params)
