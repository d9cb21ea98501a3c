"""Aggregation of the features of atoms to the rows whose distribution is compared."""

import jax
import jax.numpy as jnp
from flax import struct

from atomjax.graphs.batch import GraphBatch
from atomjax.ops import to_slots

AGGREGATIONS = ("flat", "mean", "sum", "max")


@struct.dataclass
class Rows:
    """Feature rows of a batch; R is N for the aggregation "flat" and G otherwise.

    Attributes:
        values: [R, C].
        mask: [R] bool, true for rows of real atoms or structures; others hold zeros.
        structure: [R] structure of the batch that each row belongs to.
    """

    values: jax.Array
    mask: jax.Array
    structure: jax.Array


def aggregate(features: jax.Array, batch: GraphBatch, aggregation: str = "flat") -> Rows:
    """The rows of a batch.

    Args:
        features: [N, C] atom features.
        batch: batch that the features were computed from.
        aggregation: "flat", every atom one row (that of arXiv:2502.11085); or "mean", "sum" or
            "max" over the atoms of a structure, every structure one row.

    Raises:
        ValueError: the aggregation is unknown, or the features are not one row per atom.
    """
    if aggregation not in AGGREGATIONS:
        raise ValueError(
            f"aggregation={aggregation!r} is not known; use one of {', '.join(AGGREGATIONS)}"
        )
    if features.ndim != 2 or len(features) != len(batch.node_graph):
        raise ValueError(
            f"an extractor must return one row for each of the {len(batch.node_graph)} atoms of "
            f"a batch, [N, C], padding included; it returned {features.shape}"
        )
    if aggregation == "flat":
        values = jnp.where(batch.node_mask[:, None], features, 0)
        return Rows(values, batch.node_mask, batch.node_graph)
    slots = to_slots(features, batch.atoms)
    if aggregation == "max":
        filled = batch.atoms.index < len(features)
        values = jnp.where(filled[..., None], slots, -jnp.inf).max(axis=1)
    else:
        values = slots.sum(axis=1)
    if aggregation == "mean":
        values = values / jnp.maximum(batch.num_atoms, 1)[:, None].astype(values.dtype)
    mask = batch.graph_mask
    return Rows(jnp.where(mask[:, None], values, 0), mask, jnp.arange(len(mask)))
