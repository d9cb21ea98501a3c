"""Edge vectors as functions of displaced atoms and strained cells.

Models read edge vectors, never positions or cells, so forces are derivatives with respect to a
displacement that is zero, and stresses with respect to a strain that is zero.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from atomjax.graphs.batch import GraphBatch
from atomjax.ops import rows, take, take_inside


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


def strained(batch: GraphBatch, strain: jax.Array | None) -> GraphBatch:
    """The batch with every edge vector v turned into v (1 + ε) of its structure.

    Straining all vectors, those to periodic images among them, strains atoms and cell alike.

    Args:
        batch: any batch.
        strain: [G, 3, 3] ε, of which the symmetric part counts, or None. Edges stay those of the
            batch.
    """
    if strain is None:
        return batch
    symmetric = (strain + strain.swapaxes(1, 2)) / 2
    of_atom = take(symmetric, batch.node_graph, batch.atoms.index)
    of_edge = take_inside(of_atom, batch.receivers, batch.slots.index)
    edges = {"vector": stretch(batch.edge_vectors, of_edge), "image": batch.edge_images}
    batch = replace(batch, graph=batch.graph._replace(edges=edges))
    if (ae := batch.a2ee2a) is not None:
        receivers = ae.slots.position // ae.slots.index.shape[1]
        of_edge = take(of_atom, receivers, ae.slots.index)
        batch = replace(batch, a2ee2a=replace(ae, vector=stretch(ae.vector, of_edge)))
    if (aa := batch.a2a) is not None:
        batch = replace(batch, a2a=replace(aa, vector=stretch(aa.vector, of_atom[:, None])))
    if (qd := batch.quadruplets) is not None:
        of_middle = take(of_atom, qd.atom, qd.inverse[:, None])[:, None]
        batch = replace(batch, quadruplets=replace(qd, vector=stretch(qd.vector, of_middle)))
    return batch


def stretch(vectors: jax.Array, strain: jax.Array) -> jax.Array:
    """Vectors [..., 3] times 1 + strain [..., 3, 3]."""
    # Not a matrix product, which accelerators would round to half precision.
    return vectors + (vectors[..., :, None] * strain).sum(axis=-2)


def main_sender_readers(batch: GraphBatch) -> jax.Array:
    """[N, R] the main edges that each atom sends; E where it sends fewer."""
    if batch.reverse is not None:
        return batch.reverse
    assert batch.swap is not None  # one of the two is there
    # In a symmetric graph they are the reverses of the edges that the atom receives.
    return rows(batch.swap, batch.slots.index, batch.swap.shape[0])
