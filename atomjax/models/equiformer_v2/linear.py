"""Linear layers and the radial network."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from atomjax.models.bases import gaussian_centres
from atomjax.models.initializers import uniform_fan_in

LAYER_NORM_EPSILON = 1e-5


# Calls give `dtype`, that of the input: without it Flax takes the wider one of input and weights.
Dense = partial(nn.Dense, kernel_init=uniform_fan_in())


class DegreeLinear(nn.Module):
    """A linear map of the channels for every degree; the bias goes to degree 0."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, (lmax + 1)², C] → [N, (lmax + 1)², features]."""
        count = math.isqrt(x.shape[1])
        kernel = self.param("kernel", uniform_fan_in(), (count, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        parts = [
            x[:, degree * degree : (degree + 1) ** 2] @ kernel[degree].astype(x.dtype)
            for degree in range(count)
        ]
        parts[0] += bias.astype(x.dtype)
        return jnp.concatenate(parts, axis=1)


class LayerNorm(nn.Module):
    """Layer norm over the channels, in the precision of its input."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., C] → [..., C]."""
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, shape).astype(x.dtype)
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + LAYER_NORM_EPSILON) * scale + bias


class RadialNetwork(nn.Module):
    """Weights from the scalars of an edge: two normalised layers, then a linear one."""

    hidden: int
    features: int

    @nn.compact
    def __call__(self, scalars: jax.Array) -> jax.Array:
        """[E, inputs] → [E, features]."""
        x = scalars
        for i in range(2):
            x = Dense(self.hidden, dtype=x.dtype, name=f"dense_{i}")(x)
            x = nn.silu(LayerNorm(name=f"norm_{i}")(x))
        return Dense(self.features, dtype=x.dtype, name="dense_2")(x)


def gaussians(distance: jax.Array, count: int, cutoff: float) -> jax.Array:
    """Gaussians centred on linspace(0, cutoff, count), of twice their spacing's width.

    Args:
        distance: [E] Å.
        count: number of Gaussians.
        cutoff: Å.

    Returns:
        [E, count].
    """
    centres = gaussian_centres(count, cutoff).astype(np.float64)
    exponent = -0.5 / (2 * (centres[1] - centres[0])) ** 2
    shifted = distance[:, None] - jnp.asarray(centres, distance.dtype)
    return jnp.exp(exponent * shifted * shifted)
