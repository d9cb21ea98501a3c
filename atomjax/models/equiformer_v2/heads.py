"""Heads that read equivariant features."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from atomjax.graphs.batch import GraphBatch
from atomjax.models.equiformer_v2.config import EquiformerV2Config
from atomjax.models.equiformer_v2.feed_forward import FeedForward
from atomjax.models.equiformer_v2.interaction import GraphAttention
from atomjax.models.features import Features
from atomjax.models.heads import HeadConfig, Prediction, TargetConfig, pooled_prediction
from atomjax.models.layers import drop


class EquivariantHead(nn.Module):
    """The head of one task: a feed-forward network for scalars, an attention layer for forces.

    Contributions that are summed are divided by ``avg_num_nodes``, as in the original.

    Attributes:
        config: config of the head.
        model: config of the backbone.
    """

    config: HeadConfig
    model: EquiformerV2Config

    @nn.compact
    def __call__(self, features: Features, batch: GraphBatch) -> Prediction:
        """Predictions, but for what is a derivative of the energy."""
        c = self.config
        model = dataclasses.replace(
            self.model,
            ffn_hidden=c.hidden_channels or self.model.ffn_hidden,
            attention_hidden=c.force_hidden_channels or self.model.attention_hidden,
        )
        x = features.node.reshape(-1, (model.lmax + 1) ** 2, model.channels)

        def contributions(name: str, target: TargetConfig | None) -> jax.Array:
            classes = 0 if target is None else target.num_classes
            # All orders of a channel are dropped together, which turns with the structure.
            kept = drop(self, jnp.ones_like(x[:, :1]), 0.0 if target is None else target.dropout)
            outputs = FeedForward(model, classes or 1, name=name)(x * kept)[:, 0]
            return outputs if classes else outputs[:, 0]

        prediction = pooled_prediction(c, contributions, batch, model.avg_num_nodes)
        if not c.direct_forces:
            return prediction
        # Degree 1 is a vector; its orders -1, 0, 1 are x, y, z.
        vectors = GraphAttention(model, 1, name="forces")(x, features.geometry, batch)
        return dataclasses.replace(prediction, forces=vectors[:, 1:4, 0])
