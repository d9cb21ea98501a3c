"""Feed-forward network of an atom: an MLP on a grid over the sphere."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from atomjax.models.equiformer_v2.config import EquiformerV2Config
from atomjax.models.equiformer_v2.grid import feature_grid, on_grid
from atomjax.models.equiformer_v2.linear import DegreeLinear, Dense


class GridMLP(nn.Module):
    """Three linear layers with activations between, at every point."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., C] → [..., features]."""
        for i in range(3):
            layer = Dense(self.features, use_bias=False, dtype=x.dtype, name=f"dense_{i}")
            x = layer(x)
            x = nn.silu(x) if i < 2 else x
        return x


class FeedForward(nn.Module):
    """Linear, MLP on the grid with degree 0 apart ("separable"), linear.

    Attributes:
        config: config of the model.
        features: width of the output.
    """

    config: EquiformerV2Config
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, (lmax + 1)², C] → [N, (lmax + 1)², features]."""
        c = self.config
        y = DegreeLinear(c.ffn_hidden, name="so3_linear_1")(x)
        y = on_grid(GridMLP(c.ffn_hidden, name="grid_mlp"), y, feature_grid(c))
        scalars = nn.silu(Dense(c.ffn_hidden, dtype=x.dtype, name="scalar_mlp")(x[:, :1]))
        y = jnp.concatenate([scalars, y[:, 1:]], axis=1)
        return DegreeLinear(self.features, name="so3_linear_2")(y)
