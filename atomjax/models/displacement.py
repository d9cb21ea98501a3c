"""Edge vectors as functions of displaced atoms, through which forces are derivatives.

Models read edge vectors, never positions, so derivatives with respect to positions are taken with
respect to a displacement that is zero.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from atomjax.graphs.batch import GraphBatch
from atomjax.ops import rows, take


def displaced(batch: GraphBatch, displacement: jax.Array | None) -> GraphBatch:
    """The batch with every edge vector moved along with its atoms.

    Args:
        batch: any batch.
        displacement: [N, 3] Å added to the positions, or None. Edges stay those of the batch.
    """
    if displacement is None:
        return batch
    u, graph = displacement, batch.graph
    sender_readers = main_sender_readers(batch)
    vector = (
        batch.edge_vectors
        + take(u, batch.receivers, batch.slots.index)
        - take(u, batch.senders, sender_readers)
    )
    batch = replace(
        batch, graph=graph._replace(edges={"vector": vector, "image": batch.edge_images})
    )
    if (ae := batch.a2ee2a) is not None:
        receivers = ae.slots.position // ae.slots.index.shape[1]
        moved = take(u, receivers, ae.slots.index) - take(u, ae.senders, ae.reverse)
        batch = replace(batch, a2ee2a=replace(ae, vector=ae.vector + moved))
    if (aa := batch.a2a) is not None:
        real = (aa.senders < u.shape[0])[..., None]
        moved = jnp.where(real, u[:, None] - take(u, aa.senders, aa.reverse), 0)
        batch = replace(batch, a2a=replace(aa, vector=aa.vector + moved))
    if (qd := batch.quadruplets) is not None:
        real = (qd.senders < u.shape[0])[..., None]
        at_a = take(u, qd.atom, qd.inverse[:, None])
        moved = jnp.where(real, at_a[:, None] - take(u, qd.senders, qd.reverse), 0)
        batch = replace(batch, quadruplets=replace(qd, vector=qd.vector + moved))
    return batch


def main_sender_readers(batch: GraphBatch) -> jax.Array:
    """[N, R] the main edges that each atom sends; E where it sends fewer."""
    if batch.reverse is not None:
        return batch.reverse
    assert batch.swap is not None  # one of the two is there
    # In a symmetric graph they are the reverses of the edges that the atom receives.
    return rows(batch.swap, batch.slots.index, batch.swap.shape[0])
