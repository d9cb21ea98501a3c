"""The messages of one GemNet-OC block: triplets, quadruplets and atom pairs.

Every sum over neighbours is a batched product of a geometric kernel, shared by all blocks, with
messages in dense slots. The wide work (dense layers) stays on flat edges, where little is padding.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from atomjax.graphs.batch import AtomToAtomGraph, GraphBatch
from atomjax.models.displacement import main_sender_readers
from atomjax.models.gemnet_oc.basis import QuadrupletBasis, TripletBasis
from atomjax.models.layers import INV_SQRT_2, Dense, ScaleFactor, scaled_silu
from atomjax.ops import (
    Slots,
    TieredSlots,
    from_slots,
    from_tiers,
    product,
    rows,
    take,
    to_slots,
    to_tiers,
)


def real_slots(slots: Slots) -> jax.Array:
    """[N, K] true where a slot holds an edge."""
    return slots.index < slots.position.shape[0]


def flat_products(x: jax.Array) -> jax.Array:
    """[..., I, C] → [..., I * C]."""
    return x.reshape(*x.shape[:-2], -1)


def up_project_symmetric(
    x: jax.Array, batch: GraphBatch, features: int, dropout: float
) -> jax.Array:
    """Adds a message to its edge c→a and to the reverse edge a→c, [E, C] → [E, features]."""
    # The activation acts entry by entry, so the narrow input can be swapped, not the wide output.
    swap = batch.swap
    assert swap is not None  # the backbone has checked that the graph is symmetric
    swapped = take(x, swap, swap[:, None])
    forward = Dense(features, scaled_silu, dropout, name="up_projection_ca")(x)
    backward = Dense(features, scaled_silu, dropout, name="up_projection_ac")(swapped)
    return (forward + backward) * INV_SQRT_2


class TripletInteraction(nn.Module):
    """Messages of the edges b→a to the edges c→a, or to the atom a itself.

    Attributes:
        features: width of the output.
        emb_size_in: width of a message before the bilinear layer.
        emb_size_out: and after it.
        dropout: rate.
    """

    features: int
    emb_size_in: int
    emb_size_out: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        basis: TripletBasis,
        incoming: TieredSlots,
        batch: GraphBatch,
        senders: tuple[jax.Array, jax.Array] | None = None,
    ) -> jax.Array:
        """Sums the messages.

        Args:
            x: [rows, C] embeddings of the incoming edges, or of the atoms that send them.
            basis: radial embedding [rows in, R] and kernels of the tiers, [N_t, K, I, J] to send to
                the main edges or [N_t, I, J] to send to the atoms.
            incoming: [N_t, J] slots of the incoming edges.
            batch: the batch, for its tiers.
            senders: (senders, readers) of the incoming edges if ``x`` belongs to atoms.

        Returns:
            [E, features] or [N, features].
        """
        tiers = batch.tiers
        assert tiers is not None  # the bases were computed from them
        mask = incoming.position < incoming.size
        x = Dense(x.shape[-1], scaled_silu, self.dropout, name="dense_ba")(x)
        if senders is not None:
            x = take(x, *senders)
        radial = Dense(x.shape[-1], dropout=self.dropout, name="mlp_rbf")(basis.radial)
        x = ScaleFactor(name="scale_rbf")(x * radial, mask, x)
        x = Dense(self.emb_size_in, scaled_silu, self.dropout, name="down_projection")(x)

        to_edges = basis.kernels[0].ndim == 4
        products = []
        for kernel, messages in zip(basis.kernels, to_tiers(x, incoming), strict=True):
            channels, width = kernel.shape[-2:]
            y = product(kernel.reshape(len(kernel), -1, width), messages)
            products.append(y.reshape(-1, channels * self.emb_size_in))
        y = jnp.concatenate(products)
        y = Dense(self.emb_size_out, dropout=self.dropout, name="mlp_cbf")(y)
        if to_edges:
            real = tiers.main.flat < batch.edge_mask.size
        else:
            real = rows(batch.node_mask, tiers.atoms)
        y = ScaleFactor(name="scale_cbf_sum")(y, real, x, mask)
        if to_edges:
            y = from_tiers(y, tiers.main)
            return up_project_symmetric(y, batch, self.features, self.dropout)
        y = take(y, tiers.place, tiers.atoms[:, None])
        return Dense(self.features, scaled_silu, self.dropout, name="up_projection_ca")(y)


class QuadrupletInteraction(nn.Module):
    """Messages of the edges d→b to the edges c→a over the middle edges b→a.

    Attributes:
        features: width of the output.
        emb_size_in: width of a message before the bilinear layer.
        emb_size_out: and after it.
        dropout: rate.
    """

    features: int
    emb_size_in: int
    emb_size_out: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, m: jax.Array, basis: QuadrupletBasis, batch: GraphBatch) -> jax.Array:
        """[E, C] main edges → [E, features]."""
        graph = batch.quadruplets
        assert graph is not None  # the bases were computed from it
        x = Dense(m.shape[-1], scaled_silu, self.dropout, name="dense_db")(m)
        radial = Dense(m.shape[-1], dropout=self.dropout, name="mlp_rbf")(basis.radial)
        x = ScaleFactor(name="scale_rbf")(x * radial, batch.edge_mask, x)
        x = Dense(self.emb_size_in, scaled_silu, self.dropout, name="down_projection")(x)

        x = take(to_slots(x, batch.slots), graph.senders, graph.reverse)  # d→b: [Q, B, K, C]
        slots = real_slots(batch.slots)
        mask = rows(slots, graph.senders, False)
        circular = Dense(self.emb_size_in, dropout=self.dropout, name="mlp_cbf")(basis.circular)
        x = ScaleFactor(name="scale_cbf")(x * circular, mask, x)

        # Over d first, then over b: the dihedral basis is an outer product (see gemnet_oc.basis).
        inner = jnp.einsum("qbklj,qbjc->qkblc", basis.inner, x)
        products = jnp.einsum("qkibl,qkblc->qkic", basis.outer, inner)
        y = Dense(self.emb_size_out, dropout=self.dropout, name="mlp_sbf")(flat_products(products))
        out_mask = rows(slots, graph.atom, False)
        y = ScaleFactor(name="scale_sbf_sum")(y, out_mask, x, mask)
        y = take(y, graph.inverse, graph.atom[:, None])  # atoms without middle edges: zero
        return up_project_symmetric(from_slots(y, batch.slots), batch, self.features, self.dropout)


class PairInteraction(nn.Module):
    """Messages of atoms to atoms over the a2a graph.

    Attributes:
        emb_size_in: width of a message before the bilinear layer.
        emb_size_out: and after it.
        dropout: rate.
    """

    emb_size_in: int
    emb_size_out: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, h: jax.Array, kernel: jax.Array, graph: AtomToAtomGraph, node_mask: jax.Array
    ) -> jax.Array:
        """[N, C] atoms, [N, I, P] kernel → [N, C]."""
        x = Dense(self.emb_size_in, scaled_silu, self.dropout, name="down_projection")(h)
        x = take(x, graph.senders, graph.reverse)  # [N, P, emb_size_in]
        products = jnp.einsum("nip,npc->nic", kernel, x)
        y = Dense(self.emb_size_out, dropout=self.dropout, name="bilinear")(flat_products(products))
        y = ScaleFactor(name="scale_rbf_sum")(y, node_mask, x, graph.senders < h.shape[0])
        return Dense(h.shape[-1], scaled_silu, self.dropout, name="up_projection")(y)


class EdgeEmbedding(nn.Module):
    """Edges from their two atoms and a feature of their own: act(W [h_sender, h_receiver, m]).

    The product with the atoms is taken before they are expanded to edges: the same sum with N
    instead of E rows of work.
    """

    features: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, h: jax.Array, m: jax.Array, batch: GraphBatch) -> jax.Array:
        """[N, C] atoms, [E, D] edges → [E, features]."""
        dense = Dense(self.features, scaled_silu, self.dropout, name="dense")
        width = h.shape[-1]
        kernel = dense.kernel(2 * width + m.shape[-1]).astype(h.dtype)
        graph = batch.graph
        from_sender = take(h @ kernel[:width], graph.senders, main_sender_readers(batch))
        from_receiver = take(h @ kernel[width : 2 * width], graph.receivers, batch.slots.index)
        return dense.finish(from_sender + from_receiver + m @ kernel[2 * width :])
