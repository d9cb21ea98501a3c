"""Features: the output of every backbone and the input of every head."""

from typing import Any

import jax
from flax import struct


@struct.dataclass
class Features:
    """Features of the last layer of a backbone.

    Attributes:
        node: [N, C] atom features.
        edge: [E, D] main-edge features, or None where the backbone computes none.
        edge_unit: [E, 3] unit vectors of the main edges, sender to receiver.
        geometry: geometry that the heads of this backbone read, or None.
    """

    node: jax.Array
    edge: jax.Array | None
    edge_unit: jax.Array
    geometry: Any = None
