"""SO(2) convolutions: linear maps of messages in the frame of their edge.

There a rotation about the edge turns the pair of orders m and -m like a complex number, so an
equivariant linear map is a complex matrix for every m (Passaro and Zitnick, 2023, eSCN).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from atomjax.models.equiformer_v2.linear import Dense
from atomjax.models.initializers import uniform_fan_in


def num_weights(lmax: int, mmax: int, channels: int) -> int:
    """Radial weights of a convolution: one for every |m|, degree and input channel."""
    return sum(lmax + 1 - m for m in range(mmax + 1)) * channels


class ComplexDense(nn.Module):
    """(A + iB)(x₊ + ix₋) for the orders m and -m."""

    features: int

    @nn.compact
    def __call__(self, plus: jax.Array, minus: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Two [E, inputs] → two [E, features]."""
        shape = (plus.shape[-1], 2 * self.features)
        # Either output sums two products, hence the smaller start.
        kernel = self.param("kernel", uniform_fan_in(0.5**0.5), shape).astype(plus.dtype)
        real, imaginary = jnp.split(kernel, 2, axis=1)
        # Three products instead of four (Gauss).
        both = (plus + minus) @ real
        return (
            both - minus @ (real + imaginary),
            both + plus @ (imaginary - real),
        )


class SO2Convolution(nn.Module):
    """A linear map for every order.

    Attributes:
        features: width of the output.
        lmax: highest degree.
        mmax: highest order.
        scalars: further outputs of order 0.
    """

    features: int
    lmax: int
    mmax: int
    scalars: int = 0

    @nn.compact
    def __call__(
        self, x: jax.Array, weights: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Convolves.

        Args:
            x: [E, rows, C] in the order of ``rows_by_order``.
            weights: [E, ``num_weights``] to multiply the inputs with, or None.

        Returns:
            [E, rows, features], and [E, scalars].
        """
        edges, _, width = x.shape
        row = used = 0
        outputs = []
        extra = jnp.zeros((edges, 0), x.dtype)
        for m in range(self.mmax + 1):
            count = self.lmax + 1 - m
            size = count * width
            weight = None if weights is None else weights[:, used : used + size]
            used += size
            parts = []
            for _ in range(1 if m == 0 else 2):
                part = x[:, row : row + count].reshape(edges, size)
                parts.append(part if weight is None else part * weight)
                row += count
            if m == 0:
                width_0 = self.scalars + count * self.features
                y = Dense(width_0, dtype=parts[0].dtype, name="m0")(*parts)
                extra, y = y[:, : self.scalars], y[:, self.scalars :]
                mapped = (y,)
            else:
                mapped = ComplexDense(count * self.features, name=f"m{m}")(*parts)
            outputs += [y.reshape(edges, count, self.features) for y in mapped]
        return jnp.concatenate(outputs, axis=1), extra
