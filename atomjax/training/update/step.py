"""One optimisation step on all devices, as a pure function of state and batch.

Each device holds a copy of the parameters and its own padded part of the batch. Loss terms are
divided by label counts of the whole batch before they are summed over the devices, so D devices
with b structures each make the same step as one device with D·b, to rounding, whatever the padding.
Likewise a device that works through its part in k smaller batches, one after the other, adds up
the gradient of them all: memory is that of the smaller batch, the step that of the whole.

The optimiser's state is held whole by every device, or in parts. In parts, XLA does what ZeRO-1
does: it sums the gradients in parts, each device updates its own, and the updated parameters are
gathered. Both are one program, whose arrays have different shardings.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from atomjax.graphs.batch import GraphBatch
from atomjax.models import Prediction
from atomjax.ops import compiler_options
from atomjax.training.running.metrics import error_sums
from atomjax.training.update.accumulation import part_keys, summed
from atomjax.training.update.losses import (
    Reduction,
    Terms,
    label_counts,
    loss_sums,
    mean_terms,
    named_terms,
    prediction_errors,
    total,
)
from atomjax.training.update.norms import tree_norm
from atomjax.training.update.optimizer import average_decay, update_average
from atomjax.training.update.state import DATA_AXIS, TrainState, axis_spec, shard_axes
from atomjax.training.update.tasks import Task


class Apply(Protocol):
    """A model as a pure function; ``functools.partial(atomjax.models.predict, model)``."""

    def __call__(
        self,
        variables: Any,
        batch: GraphBatch,
        *,
        train: bool = False,
        rngs: dict[str, jax.Array] | None = None,
    ) -> dict[str, Prediction]:
        """Predictions of every head for one unstacked batch."""
        ...


def differentiated(apply: Apply, trained: Any, merge: Callable[[Any], Any]) -> Apply:
    """A model of the parameters of a state, without derivatives by those that are not trained.

    Args:
        apply: the model.
        trained: whether each parameter of the state is.
        merge: parameters of the state → parameters of the model.
    """

    def applied(variables: Any, batch: GraphBatch, **options: Any) -> dict[str, Prediction]:
        params = jax.tree.map(
            lambda leaf, is_trained: leaf if is_trained else jax.lax.stop_gradient(leaf),
            variables["params"],
            trained,
        )
        return apply({**variables, "params": merge(params)}, batch, **options)

    return applied


class CountedFunction:
    """A jit-compiled function that counts how often it was compiled.

    Attributes:
        num_compilations: distinct shapes seen so far.
        compile_seconds: wall time of the calls that were compiled.
    """

    def __init__(self, function: Callable[..., Any], **options: Any):
        self.num_compilations = 0
        self.compile_seconds = 0.0
        self._shapes: Any = None

        def traced(*args):
            # Runs once for each compilation: later calls never come back to Python.
            self.num_compilations += 1
            return function(*args)

        self._compiled = jax.jit(traced, compiler_options=compiler_options(), **options)

    def __call__(self, *args: Any) -> Any:
        """Calls the compiled function."""
        began, compilations = time.perf_counter(), self.num_compilations
        shapes = self._shapes or jax.tree.map(_placed_shape, args)
        result = self._compiled(*args)
        if self.num_compilations > compilations:
            self.compile_seconds += time.perf_counter() - began
            self._shapes = shapes
        return result

    @property
    def temporary_bytes(self) -> int | None:
        """Memory of the first compiled program beside arguments and results; None before."""
        if self._shapes is None:
            return None
        # What was compiled is found, not compiled again.
        analysis = self.lower(*self._shapes).compile().memory_analysis()
        return None if analysis is None else int(analysis.temp_size_in_bytes)

    def lower(self, *args: Any) -> jax.stages.Lowered:
        """The traced function; compiled, it gives cost and memory."""
        return self._compiled.lower(*args)


def _placed_shape(leaf: Any) -> Any:
    """Shape, type and sharding of an array; other arguments as they are."""
    if not isinstance(leaf, jax.Array):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def over_devices(function: Callable[..., Any], mesh: Mesh, out_specs: Any) -> Callable[..., Any]:
    """``function(replicated, batch)`` on every device of the mesh, with its own batch [1, ...]."""

    def unstacked(replicated, batch):
        return function(replicated, jax.tree.map(lambda x: x[0], batch))

    # Without the check of varying axes, a derivative inside is the device's own and is summed by
    # hand, and models need not mark which of their constants differ between devices.
    return jax.shard_map(
        unstacked, mesh=mesh, in_specs=(P(), P(DATA_AXIS)), out_specs=out_specs, check_vma=False
    )


def _dropout_key(rng: jax.Array, step: jax.Array) -> jax.Array:
    """A key for this step and device."""
    key = jax.random.fold_in(jax.random.wrap_key_data(rng), step)
    return jax.random.fold_in(key, jax.lax.axis_index(DATA_AXIS))


def _metrics(loss: jax.Array, terms: Terms, norm: jax.Array, sums: Any) -> dict[str, Any]:
    return {
        "loss": loss,
        **named_terms(terms),
        "gradient_norm": norm,
        "finite": jnp.isfinite(loss) & jnp.isfinite(norm),
        "errors": sums,
    }


def _sum_in_parts(leaf: jax.Array, axis: int) -> jax.Array:
    """The sum over devices: all of it where ``axis`` is -1, else this device's part along it."""
    if axis < 0:
        return jax.lax.psum(leaf, DATA_AXIS)
    return jax.lax.psum_scatter(leaf, DATA_AXIS, scatter_dimension=axis, tiled=True)


def _device_gradients(
    axes: Any,
    given: Any,
    batch: GraphBatch,
    *,
    apply: Apply,
    tasks: Sequence[Task],
    reduction: Reduction,
    accumulation: int,
) -> tuple[Any, Any]:
    """Loss and its terms of the whole batch, and this device's part of the gradients.

    ``axes`` tells along which axis each gradient is divided; ``given`` holds the parameters, scale
    factors, key data and number of the step.
    """
    params, scale_factors, rng, number = given
    count = functools.partial(label_counts, tasks=tasks, reduction=reduction)
    counts = jax.lax.psum(summed(count, accumulation)(batch), DATA_AXIS)

    def share_of_loss(params, batch: GraphBatch, key: jax.Array):
        variables = {"params": params, "scale_factors": scale_factors}
        predictions = apply(variables, batch, train=True, rngs={"dropout": key})
        errors = prediction_errors(predictions, batch, tasks)
        terms = mean_terms(loss_sums(errors, batch, tasks, reduction), counts)
        return total(terms), (terms, error_sums(errors, batch, tasks))

    gradient = functools.partial(jax.value_and_grad(share_of_loss, has_aux=True), params)
    keys = part_keys(_dropout_key(rng, number), accumulation)
    values, grads = summed(gradient, accumulation)(batch, keys)
    return jax.lax.psum(values, DATA_AXIS), jax.tree.map(_sum_in_parts, grads, axes)


def _update(
    state: TrainState,
    grads: Any,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    ema_warmup: bool,
) -> TrainState:
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    decay = average_decay(ema_decay, state.step + 1, warmup=ema_warmup)
    return dataclasses.replace(
        state,
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        ema_params=update_average(state.ema_params, params, decay),
    )


def make_train_step(
    apply: Apply,
    tasks: Sequence[Task],
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    reduction: Reduction = "structure",
    ema_decay: float = 0.99,
    ema_warmup: bool = True,
    accumulation: int = 1,
    shardings: TrainState | None = None,
) -> CountedFunction:
    """The compiled step ``(state, batch) -> (state, metrics)``; it consumes the state given.

    Args:
        apply: the model.
        tasks: task i serves dataset index i.
        optimizer: result of :func:`atomjax.training.update.optimizer.make_optimizer`.
        mesh: result of :func:`atomjax.training.update.state.data_mesh`.
        reduction: reduction of the force loss, see ``atomjax.training.update.losses``.
        ema_decay: decay of the averaged parameters.
        ema_warmup: see :func:`atomjax.training.update.optimizer.average_decay`.
        accumulation: parts that each device works through in a step, see ``place_batch``.
        shardings: result of ``state_shardings`` where the optimiser's state is divided over the
            devices; None keeps all of it on each.

    Returns:
        A function of a placed state and batch. ``metrics`` holds "loss", its terms "loss_<term>",
        "gradient_norm" (before clipping), "finite", and "errors" (``metrics.error_sums``).
    """
    device_gradients = functools.partial(
        _device_gradients, apply=apply, tasks=tasks, reduction=reduction, accumulation=accumulation
    )

    def step(state: TrainState, batch: GraphBatch):
        whole = jax.tree.map(lambda _: -1, state.params)
        axes = whole if shardings is None else shard_axes(state.params, mesh)
        gradients = over_devices(
            functools.partial(device_gradients, axes), mesh, (P(), jax.tree.map(axis_spec, axes))
        )
        given = (state.params, state.scale_factors, state.rng, state.step)
        (loss, (terms, sums)), grads = gradients(given, batch)
        norm = tree_norm(grads)
        new = _update(state, grads, optimizer, ema_decay, ema_warmup)
        return new, _metrics(loss, terms, norm, sums)

    everywhere = NamedSharding(mesh, P())
    places = (everywhere if shardings is None else shardings, everywhere)
    return CountedFunction(step, donate_argnums=0, out_shardings=places)
