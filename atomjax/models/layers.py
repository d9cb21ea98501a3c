"""Dense, residual and scaling layers of GemNet.

Training mode is the presence of a ``dropout`` random stream: a model applied without one is
deterministic, whatever its dropout rates.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from atomjax.models.initializers import he_orthogonal
from atomjax.models.precision import widened
from atomjax.ops import stored

INV_SQRT_2 = 1 / math.sqrt(2)


def scaled_silu(x: jax.Array) -> jax.Array:
    """silu(x) / 0.6, which about preserves the variance of a standard normal input."""
    return nn.silu(x) / 0.6


class Dense(nn.Module):
    """Linear map without bias, optional activation, dropout in training.

    Attributes:
        features: outputs.
        activation: applied to the outputs, or None.
        dropout: rate, active only where the module is given a ``dropout`` stream.
    """

    features: int
    activation: Callable[[jax.Array], jax.Array] | None = None
    dropout: float = 0.0

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., inputs] → [..., features]."""
        return self.finish(x @ self.kernel(x.shape[-1]).astype(x.dtype))

    @nn.compact
    def kernel(self, inputs: int) -> jax.Array:
        """[inputs, features], for callers that contract its parts one by one."""
        return self.param("kernel", he_orthogonal, (inputs, self.features))

    def finish(self, y: jax.Array) -> jax.Array:
        """Activation and dropout."""
        if self.activation is not None:
            y = self.activation(y)
        return drop(self, y, self.dropout)


def drop(module: nn.Module, x: jax.Array, rate: float) -> jax.Array:
    """Dropout of ``rate`` with the module's ``dropout`` stream; identity where it has none."""
    if rate == 0 or not module.has_rng("dropout"):
        return x
    keep = jax.random.bernoulli(module.make_rng("dropout"), 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)


class ResidualLayer(nn.Module):
    """(x + MLP(x)) / sqrt(2) with ``depth`` activated dense layers of the input's width."""

    dropout: float = 0.0
    depth: int = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., C] → [..., C]."""
        y = x
        for i in range(self.depth):
            y = Dense(x.shape[-1], scaled_silu, self.dropout, name=f"dense_{i}")(y)
        return stored((x + y) * INV_SQRT_2)


def masked_variance(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Variance over the rows that ``mask`` keeps, averaged over channels, and their number.

    Args:
        x: mask.shape + [C].
        mask: bool, any shape.
    """
    x = widened(x)
    axes = tuple(range(mask.ndim))
    weight = mask[..., None].astype(x.dtype)
    count = weight.sum()
    mean = (x * weight).sum(axes) / jnp.maximum(count, 1)
    square = (weight * (x - mean) ** 2).sum(axes) / jnp.maximum(count - 1, 1)
    return square.mean(), count


class ScaleFactor(nn.Module):
    """Multiplies by a fitted constant, so that the output varies as much as its reference.

    The factor lives in the ``scale_factors`` collection and starts at zero, which means "not
    fitted": the layer is then the identity and ``atomjax.models.check_fitted`` refuses the model.
    Applied with ``scale_factors`` mutable, the layer fits: it adds the variances it sees to the
    ``scale_statistics`` collection and multiplies by the factor fitted so far, so that the layers
    after it see what they will see in use.
    """

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array,
        reference: jax.Array,
        reference_mask: jax.Array | None = None,
    ) -> jax.Array:
        """Scales ``x``.

        Args:
            x: mask.shape + [C] values to scale.
            mask: the rows of ``x`` that are real.
            reference: rows whose variance ``x`` shall have.
            reference_mask: the rows of ``reference`` that are real; default: ``mask``.
        """
        factor = self.variable("scale_factors", "scale_factor", jnp.zeros, ())
        if self.is_initializing():
            return x
        if self.is_mutable_collection("scale_factors"):
            total = self.variable("scale_statistics", "total", jnp.zeros, (2,))
            out, count = masked_variance(x, mask)
            ref, _ = masked_variance(reference, mask if reference_mask is None else reference_mask)
            # A batch without the term (no quadruplets, say) has no variance to count.
            seen = (count > 1) & (out > 0) & (ref > 0)
            total.value += jnp.where(seen, count * jnp.stack([ref, out]), 0)
            fitted = total.value[1] > 0
            ratio = total.value[0] / jnp.where(fitted, total.value[1], 1)
            factor.value = jnp.where(fitted, jnp.sqrt(ratio), 0).astype(factor.value.dtype)
            return x * jnp.where(fitted, factor.value, 1).astype(x.dtype)
        return x * factor.value.astype(x.dtype)
