"""Heads that read equivariant features."""

import flax.linen as nn
import jax

from atomjax.graphs.batch import GraphBatch
from atomjax.models.equiformer_v2.config import EquiformerV2Config
from atomjax.models.equiformer_v2.feed_forward import FeedForward
from atomjax.models.equiformer_v2.interaction import GraphAttention
from atomjax.models.features import Features
from atomjax.models.heads import HeadConfig, pool


class EquivariantHead(nn.Module):
    """The head of one task: a feed-forward network for scalars, an attention layer for forces.

    Contributions that are summed are divided by ``avg_num_nodes``, as in the original.
    ``HeadConfig.num_layers`` does not apply: the depth of these networks is fixed.

    Attributes:
        config: config of the head.
        model: config of the backbone.
    """

    config: HeadConfig
    model: EquiformerV2Config

    @nn.compact
    def __call__(
        self, features: Features, batch: GraphBatch
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Atom contributions [N], their pool [G], and direct forces [N, 3] or None."""
        c, model = self.config, self.model
        x = features.node.reshape(-1, (model.lmax + 1) ** 2, model.channels)
        name = "value" if c.kind == "scalar" else "energy"
        contributions = FeedForward(model, 1, name=name)(x)[:, 0, 0]
        if c.pooling == "sum":
            contributions = contributions / model.avg_num_nodes
        pooled = pool(contributions, batch, c.pooling)
        forces = None
        if c.direct_forces:
            # Degree 1 is a vector; its orders -1, 0, 1 are x, y, z.
            vectors = GraphAttention(model, 1, name="forces")(x, features.geometry, batch)
            forces = vectors[:, 1:4, 0]
        return contributions, pooled, forces
