"""The EquiformerV2 backbone."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from atomjax.graphs.batch import GraphBatch
from atomjax.models.backbone import Network
from atomjax.models.equiformer_v2.config import EquiformerV2Config
from atomjax.models.equiformer_v2.feed_forward import FeedForward
from atomjax.models.equiformer_v2.heads import EquivariantHead
from atomjax.models.equiformer_v2.interaction import EdgeDegreeEmbedding, GraphAttention
from atomjax.models.equiformer_v2.norm import EquivariantNorm
from atomjax.models.equiformer_v2.so3 import EdgeGeometry, edge_geometry
from atomjax.models.features import Features
from atomjax.models.heads import HeadConfig
from atomjax.models.initializers import standard_normal
from atomjax.models.precision import exact_products
from atomjax.ops import rows, safe_normalize


class TransformerBlock(nn.Module):
    """Attention between atoms, then a feed-forward network, each around a skip connection."""

    config: EquiformerV2Config

    @nn.compact
    def __call__(self, x: jax.Array, geometry: EdgeGeometry, batch: GraphBatch) -> jax.Array:
        """[N, (lmax + 1)², C] → the same, updated."""
        c = self.config
        y = EquivariantNorm(name="norm_1")(x)
        y = GraphAttention(c, c.channels, c.dropout, name="ga")(y, geometry, batch)
        x = x + self.drop_path(y, batch)
        y = EquivariantNorm(name="norm_2")(x)
        return x + self.drop_path(FeedForward(c, c.channels, name="ffn")(y), batch)

    @nn.nowrap
    def drop_path(self, y: jax.Array, batch: GraphBatch) -> jax.Array:
        """Drops a layer's output for whole structures, in training ("stochastic depth")."""
        rate = self.config.drop_path
        if rate == 0 or not self.has_rng("dropout"):
            return y
        shape = batch.graph_mask.shape
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - rate, shape)
        return y * rows(keep / (1 - rate), batch.node_graph).astype(y.dtype)[:, None, None]


class EquiformerV2(Network):
    """EquiformerV2 up to, not including, the heads (Liao et al., 2024)."""

    config: EquiformerV2Config

    @nn.nowrap
    def head(self, config: HeadConfig) -> EquivariantHead:
        """The head of one task."""
        return EquivariantHead(config, self.config)

    @nn.compact
    def __call__(self, batch: GraphBatch, frames: jax.Array | None = None) -> Features:
        """Features of the atoms.

        Args:
            batch: with a graph of the kind "nearest".
            frames: [E, 3, 3] rotations that bring the vector of each edge (see
                ``EquiformerV2Config.edge_direction``) onto the y axis; by default they depend on
                its direction alone.

        Returns:
            Node features [N, (lmax + 1)² * C], coefficient l² + l + m and channel c at
            (l² + l + m) * C + c.

        Raises:
            ValueError: the batch holds the graphs of another model.
        """
        c = self.config
        if batch.swap is not None:
            raise ValueError(
                "EquiformerV2 reads a directed graph of nearest neighbours, but the batch holds "
                'the graphs of GemNet-OC: set graph.kind (GraphConfig.kind) to "nearest".'
            )
        unit, _ = safe_normalize(batch.edge_vectors)
        sign = -1 if c.edge_direction == "source_minus_target" else 1
        with exact_products():
            geometry = edge_geometry(sign * batch.edge_vectors, c.lmax, c.mmax, frames)

        table = self.param("sphere_embedding", standard_normal, (c.num_elements, c.channels))
        # Row Z as a product, whose derivative is no scatter into a few rows.
        numbers = batch.atomic_numbers
        scalars = jax.nn.one_hot(numbers, c.num_elements, dtype=unit.dtype) @ table
        # A compiled function cannot refuse an element without a row, but it must not ignore it.
        scalars = jnp.where(numbers[:, None] < c.num_elements, scalars, jnp.nan)
        surroundings = EdgeDegreeEmbedding(c, name="edge_degree_embedding")(geometry, batch)
        self.sow("intermediates", "edge_degree", surroundings)
        x = jnp.concatenate([surroundings[:, :1] + scalars[:, None], surroundings[:, 1:]], axis=1)
        for i in range(c.num_blocks):
            x = TransformerBlock(c, name=f"blocks_{i}")(x, geometry, batch)
            self.sow("intermediates", f"block{i}", x)
        x = EquivariantNorm(name="norm")(x)
        return Features(
            node=x.reshape(x.shape[0], -1), edge=None, edge_unit=unit, geometry=geometry
        )
