"""The whole state of a training run as one pytree, and its place on the devices."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from atomjax.graphs.batch import GraphBatch
from atomjax.models import check_fitted
from atomjax.training.update.accumulation import stack_parts

DATA_AXIS = "data"
T = TypeVar("T")


@struct.dataclass
class TrainState:
    """Everything that the next step depends on, besides the batch."""

    step: Any  # [] int32, updates made
    params: Any  # trained parameters
    scale_factors: Any  # fitted factors of the model, constant while training
    opt_state: Any  # state of the optax optimiser
    ema_params: Any  # exponential moving average of ``params``, which validation and test use
    rng: Any  # [2] uint32 key data; the key of step n is folded from it and n

    @property
    def averaged(self) -> dict[str, Any]:
        """Variables with the averaged parameters."""
        return {"params": self.ema_params, "scale_factors": self.scale_factors}


def create_state(
    variables: dict[str, Any], optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
    """The state before the first step.

    Raises:
        ScaleFactorError: if a scale factor is not fitted.
    """
    check_fitted(variables)
    return initial_state(variables, optimizer, seed)


def initial_state(
    variables: dict[str, Any], optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
    """As :func:`create_state`, without the check: also for shapes, under ``jax.eval_shape``."""
    params = variables["params"]
    return TrainState(
        step=jnp.zeros([], jnp.int32),
        params=params,
        scale_factors=variables["scale_factors"],
        opt_state=optimizer.init(params),
        ema_params=params,
        rng=jax.random.key_data(jax.random.key(seed)),
    )


def data_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of one axis, "data", over the given devices or all devices of all processes."""
    return Mesh(np.asarray(devices or jax.devices()), (DATA_AXIS,))


def own_rows(mesh: Mesh, parts: int = 1) -> list[int]:
    """Rows of a stacked batch that belong to this process's devices of the mesh.

    Args:
        mesh: result of :func:`data_mesh`.
        parts: consecutive rows of each device.
    """
    rows = np.arange(mesh.size * parts).reshape(mesh.size, parts)
    process = jax.process_index()
    own = [i for i, d in enumerate(mesh.devices.flat) if d.process_index == process]
    return rows[own].ravel().tolist()


def shard_axes(params: Any, mesh: Mesh) -> Any:
    """Axis along which the optimiser state of each parameter is divided over the mesh.

    Returns:
        A tree like ``params``: the longest axis that the devices divide evenly, or -1 where there
        is none and the state stays whole on every device (biases and scalars, mostly).
    """

    def longest(leaf: Any) -> int:
        axes = [axis for axis, n in enumerate(leaf.shape) if n and n % mesh.size == 0]
        return max(axes, key=lambda axis: leaf.shape[axis], default=-1)

    return jax.tree.map(longest, params)


def axis_spec(axis: int) -> P:
    """The specification of an array that is divided along one axis, or whole where it is -1."""
    return P() if axis < 0 else P(*[None] * axis, DATA_AXIS)


def state_shardings(state: TrainState, mesh: Mesh, *, shard_optimizer: bool) -> TrainState:
    """Sharding of each array of a state.

    Args:
        state: the state or its shapes.
        mesh: result of :func:`data_mesh`.
        shard_optimizer: divide the moments of the optimiser and the averaged parameters over the
            devices (the first stage of ZeRO, Rajbhandari et al., arXiv:1910.02054). Shapes, and so
            checkpoints, stay what they are.
    """
    whole = NamedSharding(mesh, P())
    everywhere = jax.tree.map(lambda _: whole, state)
    if not shard_optimizer:
        return everywhere

    def divided(leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, axis_spec(shard_axes(leaf, mesh)))

    return dataclasses.replace(
        everywhere,
        opt_state=jax.tree.map(divided, state.opt_state),
        ema_params=jax.tree.map(divided, state.ema_params),
    )


def place(tree: T, mesh: Mesh, shardings: Any = None) -> T:
    """Copies a state or variables to the devices of the mesh, in buffers of their own.

    Args:
        tree: tree of arrays, whole in every process.
        mesh: result of :func:`data_mesh`.
        shardings: result of :func:`state_shardings`; None puts all of it on every device.
    """
    # Donated buffers must not be shared: params and ema_params begin as one array, and arrays
    # restored from disk may lie in memory that numpy owns.
    shardings = NamedSharding(mesh, P()) if shardings is None else shardings
    places, structure = jax.tree.flatten(shardings)
    return _copier(tuple(places), structure)(jax.tree.map(np.asarray, tree))


def gather(tree: T, mesh: Mesh) -> T:
    """All of a tree of placed arrays on every device."""
    return _gatherer(NamedSharding(mesh, P()))(tree)


# A function that is made anew is traced and compiled anew.
@functools.cache
def _copier(places: tuple[NamedSharding, ...], structure: Any) -> Callable[[Any], Any]:
    return jax.jit(
        lambda leaves: jax.tree.map(jnp.copy, leaves), out_shardings=structure.unflatten(places)
    )


@functools.cache
def _gatherer(everywhere: NamedSharding) -> Callable[[Any], Any]:
    return jax.jit(lambda leaves: leaves, out_shardings=everywhere)


def place_batch(batch: GraphBatch, mesh: Mesh, accumulation: int = 1) -> GraphBatch:
    """Sends a stacked batch to the devices, in order of the leading axis.

    Args:
        batch: leaves [D * accumulation, ...] with D the size of the mesh; of a run with several
            processes, either all rows or only those of this process's devices.
        mesh: result of :func:`data_mesh`.
        accumulation: k rows for each device to work through.

    Returns:
        Leaves [D, ...], or [D, k, ...] where k > 1.

    Raises:
        ValueError: if the number of rows is neither.
    """
    sharding = NamedSharding(mesh, P(DATA_AXIS))
    devices = list(mesh.devices.flat)
    own = own_rows(mesh)
    rows = jax.tree.leaves(batch)[0].shape[0]
    if rows not in (len(devices) * accumulation, len(own) * accumulation):
        parts = f" in {accumulation} accumulated parts" if accumulation > 1 else ""
        raise ValueError(
            f"the batch has {rows} rows for {len(devices)} devices, {len(own)} of them here{parts};"
            " build the loader with num_devices equal to the size of the mesh times the parts"
        )
    batch = stack_parts(batch, accumulation)
    rows //= accumulation
    if len(own) == len(devices):
        return jax.device_put(batch, sharding)

    def place(x):
        local = x[np.asarray(own)] if rows == len(devices) else x
        return jax.make_array_from_process_local_data(
            sharding, np.asarray(local), (len(devices), *x.shape[1:])
        )

    return jax.tree.map(place, batch)
