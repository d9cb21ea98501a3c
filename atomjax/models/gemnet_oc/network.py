"""The GemNet-OC backbone."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from atomjax.graphs.batch import GraphBatch
from atomjax.models.backbone import Network
from atomjax.models.features import Features
from atomjax.models.gemnet_oc.basis import Bases, BasisEmbedding
from atomjax.models.gemnet_oc.config import GemNetOCConfig
from atomjax.models.gemnet_oc.geometry import compute_geometry
from atomjax.models.gemnet_oc.interaction import (
    EdgeEmbedding,
    PairInteraction,
    QuadrupletInteraction,
    TripletInteraction,
)
from atomjax.models.gemnet_oc.update import AtomUpdate, OutputBlock
from atomjax.models.initializers import uniform
from atomjax.models.layers import INV_SQRT_2, Dense, ResidualLayer, scaled_silu
from atomjax.models.precision import exact_products, feature_dtype
from atomjax.ops import stored


class InteractionBlock(nn.Module):
    """Messages between edges and atoms, then the updates of both."""

    config: GemNetOCConfig

    @nn.compact
    def __call__(
        self, h: jax.Array, m: jax.Array, bases: Bases, batch: GraphBatch
    ) -> tuple[jax.Array, jax.Array]:
        """[N, C] atoms and [E, D] edges → the same, updated."""
        c = self.config
        x, num_edge_terms = self.edge_messages(h, m, bases, batch)
        h, num_atom_terms = self.atom_messages(h, m, bases, batch)
        x = stored(x / math.sqrt(num_edge_terms))
        h = stored(h / math.sqrt(num_atom_terms))

        for i in range(c.num_before_skip):
            x = ResidualLayer(c.dropout, name=f"layers_before_skip_{i}")(x)
        m = stored((m + x) * INV_SQRT_2)
        for i in range(c.num_after_skip):
            m = ResidualLayer(c.dropout, name=f"layers_after_skip_{i}")(m)

        for i in range(c.num_atom_emb_layers):
            h = ResidualLayer(c.dropout, name=f"atom_emb_layers_{i}")(h)
        h = h + AtomUpdate(c, name="atom_update")(m, bases.atom_update, batch)
        h = stored(h * INV_SQRT_2)

        m2 = EdgeEmbedding(c.emb_size_edge, c.dropout, name="concat_layer")(h, m, batch)
        for i in range(c.num_concat):
            m2 = ResidualLayer(c.dropout, name=f"residual_m_{i}")(m2)
        return h, stored((m + m2) * INV_SQRT_2)

    @nn.nowrap
    def edge_messages(self, h, m, bases: Bases, batch: GraphBatch) -> tuple[jax.Array, int]:
        """Sum of the skip connection and the messages to edges, and the number of terms."""
        c, tiers = self.config, batch.tiers
        assert tiers is not None  # the bases were computed from them
        x = Dense(c.emb_size_edge, scaled_silu, c.dropout, name="dense_ca")(m)
        x += TripletInteraction(
            c.emb_size_edge, c.emb_size_trip_in, c.emb_size_trip_out, c.dropout,
            name="trip_interaction",
        )(m, bases.edge_to_edge, tiers.main, batch)  # fmt: skip
        terms = 2
        if bases.quadruplets is not None:
            x += QuadrupletInteraction(
                c.emb_size_edge, c.emb_size_quad_in, c.emb_size_quad_out, c.dropout,
                name="quad_interaction",
            )(m, bases.quadruplets, batch)  # fmt: skip
            terms += 1
        if bases.atom_to_edge is not None:
            graph = batch.a2ee2a
            assert graph is not None
            assert tiers.a2ee2a is not None
            senders = (graph.senders, graph.reverse)
            x += TripletInteraction(
                c.emb_size_edge, c.emb_size_trip_in, c.emb_size_trip_out, c.dropout,
                name="atom_edge_interaction",
            )(h, bases.atom_to_edge, tiers.a2ee2a, batch, senders)  # fmt: skip
            terms += 1
        return x, terms

    @nn.nowrap
    def atom_messages(self, h, m, bases: Bases, batch: GraphBatch) -> tuple[jax.Array, int]:
        """Sum of the atoms and the messages to them, and the number of terms."""
        c = self.config
        x, terms = h, 1
        if bases.edge_to_atom is not None:
            assert batch.tiers is not None  # the bases were computed from them
            x += TripletInteraction(
                c.emb_size_atom, c.emb_size_trip_in, c.emb_size_trip_out, c.dropout,
                name="edge_atom_interaction",
            )(m, bases.edge_to_atom, batch.tiers.main, batch)  # fmt: skip
            terms += 1
        if bases.atom_to_atom is not None:
            assert batch.a2a is not None  # the bases were computed from it
            x += PairInteraction(
                c.emb_size_aint_in, c.emb_size_aint_out, c.dropout, name="atom_interaction"
            )(h, bases.atom_to_atom, batch.a2a, batch.node_mask)
            terms += 1
        return x, terms


class OutputMLP(nn.Module):
    """Merges the outputs of all blocks."""

    features: int
    depth: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, outputs: list[jax.Array]) -> jax.Array:
        """Blocks of [rows, C] → [rows, features]."""
        x = jnp.concatenate(outputs, axis=-1)
        x = Dense(self.features, scaled_silu, self.dropout, name="layers_0")(x)
        for i in range(self.depth):
            x = ResidualLayer(self.dropout, name=f"layers_{i + 1}")(x)
        return x


class GemNetOC(Network):
    """GemNet-OC up to, not including, the heads (Gasteiger et al., 2022; JMP, section 4.1)."""

    config: GemNetOCConfig

    @nn.compact
    def __call__(self, batch: GraphBatch) -> Features:
        """Node features [N, emb_size_atom] and edge features [E, emb_size_edge]."""
        c = self.config
        if batch.swap is None:
            raise ValueError(
                "GemNet-OC reads four interaction graphs, but the batch holds a directed graph of "
                'nearest neighbours alone: set graph.kind (GraphConfig.kind) to "gemnet_oc".'
            )
        numbers = batch.atomic_numbers
        # U(-√3, √3): unit variance.
        shape = (c.num_elements, c.emb_size_atom)
        table = self.param("embedding", uniform(math.sqrt(3)), shape)
        with exact_products():
            geometry = compute_geometry(batch, c.quad_interaction)
        bases = BasisEmbedding(c, name="bases")(batch, geometry)
        dtype = feature_dtype(c.precision, geometry.unit.dtype)
        bases: Bases = jax.tree.map(lambda x: x.astype(dtype), bases)
        # Row Z - 1 as a product, whose derivative is no scatter into a few rows; padding reads 0.
        h = jax.nn.one_hot(numbers - 1, c.num_elements, dtype=dtype) @ table.astype(dtype)
        m = EdgeEmbedding(c.emb_size_edge, c.dropout, name="edge_emb")(h, bases.radial, batch)

        block = nn.remat(InteractionBlock) if c.remat else InteractionBlock
        outputs = [OutputBlock(c, name="out_blocks_0")(h, m, bases.output, batch)]
        for i in range(c.num_blocks):
            h, m = block(c, name=f"int_blocks_{i}")(h, m, bases, batch)
            self.sow("intermediates", f"h_block{i}", h)
            self.sow("intermediates", f"m_block{i}", m)
            outputs.append(OutputBlock(c, name=f"out_blocks_{i + 1}")(h, m, bases.output, batch))

        node = OutputMLP(c.emb_size_atom, c.num_global_out_layers, name="out_mlp_energy")(
            [x for x, _ in outputs]
        )
        edge = None
        if c.edge_output:
            edge = OutputMLP(
                c.emb_size_edge, c.num_global_out_layers, c.dropout, name="out_mlp_forces"
            )([y for _, y in outputs if y is not None])
        return Features(node=node, edge=edge, edge_unit=geometry.unit)
