"""One optimisation step on all devices, as a pure function of state and batch.

Each device holds a copy of the state and its own padded part of the batch. Loss terms are divided
by label counts of the whole batch before they are summed over the devices, so D devices with b
structures each make the same step as one device with D·b, to rounding, whatever the padding.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from atomjax.graphs.batch import GraphBatch
from atomjax.models import Prediction
from atomjax.training.losses import (
    Reduction,
    Task,
    label_counts,
    loss_sums,
    mean_terms,
    prediction_errors,
    total,
)
from atomjax.training.metrics import error_sums
from atomjax.training.optimizer import update_average
from atomjax.training.state import DATA_AXIS, TrainState


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


class CountedFunction:
    """A jit-compiled function that counts how often it was compiled.

    Attributes:
        num_compilations: distinct shapes seen so far.
        compile_seconds: wall time of the calls that were compiled.
    """

    def __init__(self, function: Callable[..., Any], **options: Any):
        self.num_compilations = 0
        self.compile_seconds = 0.0

        def traced(*args):
            # Runs once for each compilation: later calls never come back to Python.
            self.num_compilations += 1
            return function(*args)

        self._compiled = jax.jit(traced, **options)

    def __call__(self, *args: Any) -> Any:
        """Calls the compiled function."""
        began, compilations = time.perf_counter(), self.num_compilations
        result = self._compiled(*args)
        if self.num_compilations > compilations:
            self.compile_seconds += time.perf_counter() - began
        return result

    def lower(self, *args: Any) -> jax.stages.Lowered:
        """The traced function, which tells its cost and memory once compiled."""
        return self._compiled.lower(*args)


def over_devices(function: Callable[..., Any], mesh: Mesh, out_specs: Any) -> Callable[..., Any]:
    """``function(replicated, batch)`` on every device of the mesh, with its own batch [1, ...]."""

    def unstacked(replicated, batch):
        return function(replicated, jax.tree.map(lambda x: x[0], batch))

    # Without the check of varying axes, a derivative inside is the device's own and is summed by
    # hand, and models need not mark which of their constants differ between devices.
    return jax.shard_map(
        unstacked, mesh=mesh, in_specs=(P(), P(DATA_AXIS)), out_specs=out_specs, check_vma=False
    )


def _dropout_key(state: TrainState) -> jax.Array:
    """A key for this step and device."""
    key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
    return jax.random.fold_in(key, jax.lax.axis_index(DATA_AXIS))


def make_train_step(
    apply: Apply,
    tasks: Sequence[Task],
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    reduction: Reduction = "structure",
    ema_decay: float = 0.99,
) -> CountedFunction:
    """The compiled step ``(state, batch) -> (state, metrics)``; it consumes the state given.

    Args:
        apply: the model.
        tasks: task i serves dataset index i.
        optimizer: of :func:`atomjax.training.optimizer.make_optimizer`.
        mesh: of :func:`atomjax.training.state.data_mesh`.
        reduction: of the force loss, see ``atomjax.training.losses``.
        ema_decay: of the averaged parameters.

    Returns:
        A function of a placed state and batch. ``metrics`` holds "loss", its terms "loss_<term>",
        "gradient_norm" (before clipping), "finite", and "errors" (``metrics.error_sums``).
    """

    def device_step(state: TrainState, batch: GraphBatch):
        key = _dropout_key(state)
        counts = jax.lax.psum(label_counts(batch, tasks, reduction), DATA_AXIS)

        def own_share_of_loss(params):
            variables = {"params": params, "scale_factors": state.scale_factors}
            predictions = apply(variables, batch, train=True, rngs={"dropout": key})
            errors = prediction_errors(predictions, batch, tasks)
            terms = mean_terms(loss_sums(errors, batch, tasks, reduction), counts)
            return total(terms), (terms, error_sums(errors, batch, tasks))

        gradient = jax.value_and_grad(own_share_of_loss, has_aux=True)
        (loss, (terms, sums)), grads = jax.lax.psum(gradient(state.params), DATA_AXIS)
        norm = optax.tree.norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": loss,
            "loss_energy": terms.energy,
            "loss_forces": terms.forces,
            "loss_value": terms.value,
            "loss_stress": terms.stress,
            "gradient_norm": norm,
            "finite": jnp.isfinite(loss) & jnp.isfinite(norm),
            "errors": sums,
        }
        state = dataclasses.replace(
            state,
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            ema_params=update_average(state.ema_params, params, ema_decay),
        )
        return state, metrics

    return CountedFunction(over_devices(device_step, mesh, P()), donate_argnums=0)
