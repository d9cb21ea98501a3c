"""Atom updates and outputs of GemNet-OC blocks."""

import flax.linen as nn
import jax

from atomjax.graphs.batch import GraphBatch
from atomjax.models.gemnet_oc.config import GemNetOCConfig
from atomjax.models.layers import INV_SQRT_2, Dense, ResidualLayer, ScaleFactor, scaled_silu
from atomjax.ops import sum_slots


def residual_mlp(x: jax.Array, features: int, depth: int, dropout: float, name: str) -> jax.Array:
    """A dense layer where the width changes, then ``depth`` residual layers, [..., features].

    Layers are named ``{name}_{i}`` in order, as the original numbers them.
    """
    layer = 0
    if x.shape[-1] != features:
        x = Dense(features, scaled_silu, dropout, name=f"{name}_{layer}")(x)
        layer += 1
    for i in range(layer, layer + depth):
        x = ResidualLayer(dropout, name=f"{name}_{i}")(x)
    return x


def gather_edges(m: jax.Array, basis: jax.Array, batch: GraphBatch, dropout: float) -> jax.Array:
    """Sum over the incoming edges of each atom, weighted by the radial basis, [N, C]."""
    weight = Dense(m.shape[-1], dropout=dropout, name="dense_rbf")(basis)
    return sum_slots(m * weight, batch.slots)


class AtomUpdate(nn.Module):
    """Edge embeddings gathered on atoms."""

    config: GemNetOCConfig

    @nn.compact
    def __call__(self, m: jax.Array, basis: jax.Array, batch: GraphBatch) -> jax.Array:
        """[E, C] edges → [N, emb_size_atom]."""
        c = self.config
        x = gather_edges(m, basis, batch, c.dropout)
        x = ScaleFactor(name="scale_sum")(x, batch.node_mask, m, batch.edge_mask)
        return residual_mlp(x, c.emb_size_atom, c.num_atom, c.dropout, "layers")


class OutputBlock(nn.Module):
    """Contribution of one block to the energy (atoms) and force (edges) features."""

    config: GemNetOCConfig

    @nn.compact
    def __call__(
        self, h: jax.Array, m: jax.Array, basis: jax.Array, batch: GraphBatch
    ) -> tuple[jax.Array, jax.Array | None]:
        """[N, C] atoms and [E, D] edges → [N, C] and [E, D] (None without edge output)."""
        c = self.config
        x = gather_edges(m, basis, batch, c.dropout)
        if c.edge_dropout > 0 and self.has_rng("dropout"):
            x = x / (1 - c.edge_dropout)  # the loader dropped that fraction of the edges
        x = ScaleFactor(name="scale_sum")(x, batch.node_mask, m, batch.edge_mask)
        x = residual_mlp(x, c.emb_size_atom, c.num_atom, c.dropout, "seq_energy_pre")
        if c.num_output_afteratom > 0:
            x = (x + h) * INV_SQRT_2
            x = residual_mlp(x, c.emb_size_atom, c.num_output_afteratom, c.dropout, "seq_energy2")
        if not c.edge_output:
            return x, None
        y = residual_mlp(m, c.emb_size_edge, c.num_atom, c.dropout, "seq_forces")
        weight = Dense(c.emb_size_edge, dropout=c.dropout, name="dense_rbf_F")(basis)
        return x, ScaleFactor(name="scale_rbf_F")(y * weight, batch.edge_mask, y)
