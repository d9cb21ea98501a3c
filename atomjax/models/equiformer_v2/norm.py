"""Layer norm of equivariant features ("layer_norm_sh" of the original)."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from atomjax.models.equiformer_v2.harmonics import degrees
from atomjax.models.equiformer_v2.linear import LAYER_NORM_EPSILON, LayerNorm


class EquivariantNorm(nn.Module):
    """Degree 0 is layer-normed; all others are divided by their common size.

    The size of an atom's higher degrees is the root of their mean square over degrees, orders and
    channels, in which every degree counts alike (Liao et al., 2024, section 4.3).
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, (lmax + 1)², C] → the same."""
        lmax = math.isqrt(x.shape[1]) - 1
        affine = self.param("affine", nn.initializers.ones, (lmax, x.shape[-1])).astype(x.dtype)
        scalars = LayerNorm(name="norm_l0")(x[:, :1])
        rest = x[:, 1:]
        degree = degrees(lmax)[1:]
        # Rounded as the checkpoints store them; these 1e-8 matter to agree to 1e-9.
        weight = (1 / (2 * degree + 1)).astype(np.float32) / np.float32(lmax)
        square = jnp.einsum("nic,nic,i->n", rest, rest, weight.astype(x.dtype)) / x.shape[-1]
        scale = jax.lax.rsqrt(square + LAYER_NORM_EPSILON)
        gain = jnp.repeat(
            affine, 2 * np.arange(1, lmax + 1) + 1, axis=0, total_repeat_length=len(degree)
        )
        return jnp.concatenate([scalars, rest * scale[:, None, None] * gain], axis=1)
