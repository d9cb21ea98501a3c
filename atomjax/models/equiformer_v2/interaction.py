"""Graph attention over the edges into an atom, and the embedding of an atom's surroundings."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from atomjax.graphs.batch import GraphBatch
from atomjax.models.bases import polynomial_envelope
from atomjax.models.displacement import main_sender_readers
from atomjax.models.equiformer_v2.config import EquiformerV2Config
from atomjax.models.equiformer_v2.grid import message_grid, on_grid
from atomjax.models.equiformer_v2.harmonics import degree_weights
from atomjax.models.equiformer_v2.linear import DegreeLinear, LayerNorm, RadialNetwork, gaussians
from atomjax.models.equiformer_v2.so2 import SO2Convolution, num_weights
from atomjax.models.equiformer_v2.so3 import EdgeGeometry
from atomjax.models.initializers import uniform, uniform_fan_in
from atomjax.models.layers import drop
from atomjax.ops import from_slots, platform, sum_slots, take_inside, to_slots
from atomjax.ops.gather import Slots


@struct.dataclass
class EdgeInputs:
    """Inputs of the messages of some edges.

    Attributes:
        features: [E, (lmax + 1)², 2C] of the sender, then of the receiver.
        elements: [E, 2 edge_channels] embeddings of both elements.
        geometry: distances and frames.
    """

    features: jax.Array
    elements: jax.Array
    geometry: EdgeGeometry


def smooth_leaky_relu(x: jax.Array) -> jax.Array:
    """Leaky ReLU of slope 0.2 with a smooth kink."""
    return 0.6 * x + 0.4 * x * (2 * jax.nn.sigmoid(x) - 1)


class ElementPairs(nn.Module):
    """Embeddings of the elements of both ends of an edge."""

    config: EquiformerV2Config

    @nn.compact
    def __call__(self, batch: GraphBatch, dtype: Any) -> jax.Array:
        """[E, 2 edge_channels], sender first."""
        c = self.config
        shape, init = (c.num_elements, c.edge_channels), uniform(0.001)
        # Rows Z as a product, whose derivative is no scatter into a few rows.
        chosen = jax.nn.one_hot(batch.atomic_numbers, c.num_elements, dtype=dtype)
        source = chosen @ self.param("source", init, shape).astype(dtype)
        target = chosen @ self.param("target", init, shape).astype(dtype)
        return gather_ends(source, target, batch)


def gather_ends(source: jax.Array, target: jax.Array, batch: GraphBatch) -> jax.Array:
    """Rows of the senders and of the receivers side by side, two [N, ..., C] → [E, ..., 2C]."""
    sent = take_inside(source, batch.senders, main_sender_readers(batch))
    received = take_inside(target, batch.receivers, batch.slots.index)
    return jnp.concatenate([sent, received], axis=-1)


def radial_weights(
    config: EquiformerV2Config, distance: jax.Array, elements: jax.Array, features: int
) -> jax.Array:
    """[E, features] of a radial network named "radial", to be called in a compact method."""
    basis = gaussians(distance, config.num_gaussians, config.cutoff)
    scalars = jnp.concatenate([basis, elements], axis=-1)
    return RadialNetwork(config.edge_channels, features, name="radial")(scalars)


def envelope(config: EquiformerV2Config, distance: jax.Array) -> jax.Array | None:
    """[E] weight of each edge, zero from the cutoff on; None for a model without."""
    if config.envelope_exponent is None:
        return None
    return polynomial_envelope(distance / config.cutoff, config.envelope_exponent)


class Messages(nn.Module):
    """Values and attention logits of edges, each from that edge alone."""

    config: EquiformerV2Config

    @nn.compact
    def __call__(self, carry: Any, edges: EdgeInputs) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        """Computes messages.

        Args:
            carry: handed through, for scans.
            edges: some edges.

        Returns:
            ``carry``, and (logits [E, H], values [E, rows, H * value_channels]).
        """
        c = self.config
        x = jnp.einsum("erj,ejc->erc", edges.geometry.wigner, edges.features)
        weights = radial_weights(
            c, edges.geometry.distance, edges.elements, num_weights(c.lmax, c.mmax, x.shape[-1])
        )
        hidden, num_alpha = c.attention_hidden, c.num_heads * c.alpha_channels
        x, scalars = SO2Convolution(
            hidden, c.lmax, c.mmax, scalars=num_alpha + hidden, name="so2_conv_1"
        )(x, weights)
        alpha, gate = scalars[:, :num_alpha], scalars[:, num_alpha:]
        x = on_grid(nn.silu, x, message_grid(c))
        x = jnp.concatenate([nn.silu(gate)[:, None], x[:, 1:]], axis=1)
        values, _ = SO2Convolution(
            c.num_heads * c.value_channels, c.lmax, c.mmax, name="so2_conv_2"
        )(x)

        alpha = alpha.reshape(-1, c.num_heads, c.alpha_channels)
        alpha = smooth_leaky_relu(LayerNorm(name="alpha_norm")(alpha))
        dot = self.param("alpha_dot", uniform_fan_in(axis=-1), (c.num_heads, c.alpha_channels))
        return carry, (jnp.einsum("eha,ha->eh", alpha, dot.astype(x.dtype)), values)


class GraphAttention(nn.Module):
    """Messages summed over the edges into each atom, weighted by a softmax over them.

    Attributes:
        config: config of the model.
        features: width of the output.
        dropout: rate on the attention weights, in training.
    """

    config: EquiformerV2Config
    features: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, geometry: EdgeGeometry, batch: GraphBatch) -> jax.Array:
        """[N, (lmax + 1)², C] → [N, (lmax + 1)², features]."""
        c = self.config
        edges = EdgeInputs(
            features=gather_ends(x, x, batch),
            elements=ElementPairs(c, name="elements")(batch, x.dtype),
            geometry=geometry,
        )
        logits, values = self.messages(edges)
        ends = envelope(c, geometry.distance)
        weights = drop(self, attention_weights(logits, ends, batch.slots), self.dropout)
        weights = jnp.repeat(weights, c.value_channels, axis=-1)
        y = jnp.einsum("erj,erc->ejc", geometry.wigner, values * weights[:, None])
        y = sum_slots(y, batch.slots)
        y = y * jnp.asarray(degree_weights(c.lmax, c.mmax), y.dtype)[:, None]
        return DegreeLinear(self.features, name="proj")(y)

    @nn.nowrap
    def messages(self, edges: EdgeInputs) -> tuple[jax.Array, jax.Array]:
        """Logits and values of all edges, computed chunk by chunk."""
        count = edges.elements.shape[0]
        num_chunks = -(-count // (self.config.edge_chunk or _default_chunk()))
        if num_chunks <= 1:
            return Messages(self.config, name="messages")(None, edges)[1]
        size = -(-count // num_chunks)

        def split(leaf):
            padding = [(0, num_chunks * size - count)] + [(0, 0)] * (leaf.ndim - 1)
            return jnp.pad(leaf, padding).reshape(num_chunks, size, *leaf.shape[1:])

        # What lies between inputs and outputs is many times larger, so it is computed again in
        # the backward pass.
        scanned = nn.scan(
            nn.remat(Messages, prevent_cse=False),
            variable_broadcast="params",
            split_rngs={"params": False},
        )
        _, outputs = scanned(self.config, name="messages")(None, jax.tree.map(split, edges))
        return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:])[:count], outputs)


def attention_weights(logits: jax.Array, ends: jax.Array | None, slots: Slots) -> jax.Array:
    """Softmax over the edges into each atom.

    With an envelope every exponential is multiplied by it, and so that the last neighbour can fade,
    too, a neighbour of logit 0 that sends nothing takes part.

    Args:
        logits: [E, H].
        ends: [E] envelope of the edges, or None.
        slots: slots of the edges at their receivers.

    Returns:
        [E, H]; zero for padding edges.
    """
    real = (slots.index < logits.shape[0])[..., None]
    values = jnp.where(real, to_slots(logits, slots), -jnp.inf)
    lowest = -1e30 if ends is None else 0.0
    highest = jax.lax.stop_gradient(jnp.max(values, axis=1, keepdims=True, initial=lowest))
    exponential = jnp.where(real, jnp.exp(values - highest), 0)
    if ends is None:
        total = exponential.sum(axis=1, keepdims=True)
        return from_slots(exponential / jnp.where(total > 0, total, 1), slots)
    exponential *= to_slots(ends[:, None], slots)
    total = exponential.sum(axis=1, keepdims=True) + jnp.exp(-highest)
    return from_slots(exponential / total, slots)


def _default_chunk() -> int:
    """Edges to compute at once: few enough for a CPU's caches, or enough for an accelerator."""
    return 128 if platform() == "cpu" else 4096


class EdgeDegreeEmbedding(nn.Module):
    """Embedding of an atom's neighbourhood: a radial function of order 0 summed over its edges."""

    config: EquiformerV2Config

    @nn.compact
    def __call__(self, geometry: EdgeGeometry, batch: GraphBatch) -> jax.Array:
        """[N, (lmax + 1)², C]."""
        c = self.config
        elements = ElementPairs(c, name="elements")(batch, geometry.wigner.dtype)
        weights = radial_weights(c, geometry.distance, elements, (c.lmax + 1) * c.channels)
        weights = weights.reshape(-1, c.lmax + 1, c.channels)
        if (ends := envelope(c, geometry.distance)) is not None:
            weights = weights * ends[:, None, None]
        y = jnp.einsum("erj,erc->ejc", geometry.wigner[:, : c.lmax + 1], weights)
        y = sum_slots(y, batch.slots)
        share = 1 - c.edge_dropout if self.has_rng("dropout") else 1  # of the edges that are left
        scale = degree_weights(c.lmax, c.mmax) / (c.avg_degree * share)
        return y * jnp.asarray(scale, y.dtype)[:, None]
