"""The whole state of a training run as one pytree, and its place on the devices."""

from collections.abc import Sequence
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
from atomjax.training.accumulation import stack_parts

DATA_AXIS = "data"
T = TypeVar("T")


@struct.dataclass
class TrainState:
    """Everything that the next step depends on, besides the batch.

    Attributes:
        step: [] int32, updates made.
        params: trained parameters.
        scale_factors: fitted factors of the model, constant while training.
        opt_state: of the optax optimiser.
        ema_params: exponential moving average of ``params``, which validation and test use.
        rng: [2] uint32 key data; the key of step n is folded from it and n.
    """

    step: Any
    params: Any
    scale_factors: Any
    opt_state: Any
    ema_params: Any
    rng: Any

    @property
    def averaged(self) -> dict[str, Any]:
        """Variables with the averaged parameters."""
        return {"params": self.ema_params, "scale_factors": self.scale_factors}


def create_state(
    variables: dict[str, Any], optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
    """The state before the first step.

    Args:
        variables: {"params", "scale_factors"}.
        optimizer: as given to ``make_train_step``.
        seed: of the dropout keys.

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


def place(tree: T, mesh: Mesh) -> T:
    """Copies a state or variables to every device of the mesh, in buffers of their own."""
    # Donated buffers must not be shared: params and ema_params begin as one array, and arrays
    # restored from disk may lie in memory that numpy owns.
    copy = jax.jit(
        lambda leaves: jax.tree.map(jnp.copy, leaves), out_shardings=NamedSharding(mesh, P())
    )
    return copy(jax.tree.map(np.asarray, tree))


def place_batch(batch: GraphBatch, mesh: Mesh, accumulation: int = 1) -> GraphBatch:
    """Sends a stacked batch to the devices, in order of the leading axis.

    Args:
        batch: leaves [D * accumulation, ...] with D the size of the mesh; of a run with several
            processes, either all rows or only those of this process's devices.
        mesh: of :func:`data_mesh`.
        accumulation: k rows for each device to work through.

    Returns:
        Leaves [D, ...], or [D, k, ...] where k > 1.

    Raises:
        ValueError: if the number of rows is neither.
    """
    sharding = NamedSharding(mesh, P(DATA_AXIS))
    devices = list(mesh.devices.flat)
    own = [i for i, d in enumerate(devices) if d.process_index == jax.process_index()]
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
