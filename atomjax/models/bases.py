"""Radial and angular basis functions of GemNet (Gasteiger et al., 2021 and 2022)."""

import math

import jax
import jax.numpy as jnp
import numpy as np


def polynomial_envelope(x: jax.Array, exponent: int = 5) -> jax.Array:
    """Smooth cutoff u(x) with u(0) = 1 and zero value, slope and curvature at x = 1.

    Args:
        x: scaled distances d / cutoff, any shape.
        exponent: p of DimeNet (Gasteiger et al., 2020, eq. 8, without the 1/x).

    Returns:
        Same shape as ``x``; zero from x = 1 on.
    """
    p = exponent
    a = -(p + 1) * (p + 2) / 2
    b = p * (p + 2)
    c = -p * (p + 1) / 2
    # Clamping x keeps x**p finite for far padding; the value there is discarded anyway.
    y = jnp.minimum(x, 1)
    return jnp.where(x < 1, 1 + y**p * (a + y * (b + y * c)), 0)


def gaussian_centres(count: int, end: float = 1.0) -> np.ndarray:
    """linspace(0, end, count) as the published checkpoints store it, in float32.

    Counted from the nearer end with one rounding each; these 1e-8 matter to agree to 1e-9.
    """
    step = np.float64(np.float32(end) / np.float32(count - 1))
    i = np.arange(count)
    centres = np.where(i < count // 2, step * i, end - step * (count - 1 - i))
    return centres.astype(np.float32)


def gaussian_basis(x: jax.Array, num_radial: int) -> jax.Array:
    """Gaussians centred on linspace(0, 1, num_radial) of width 1 / (num_radial - 1).

    Returns:
        ``x.shape + (num_radial,)``.
    """
    centres = jnp.asarray(gaussian_centres(num_radial), x.dtype)
    return jnp.exp(-0.5 * (num_radial - 1) ** 2 * (x[..., None] - centres) ** 2)


def radial_basis(
    distance: jax.Array, num_radial: int, cutoff: float, exponent: int = 5
) -> jax.Array:
    """Enveloped Gaussian basis of distances.

    Args:
        distance: Å, any shape.
        num_radial: number of Gaussians R.
        cutoff: Å, where the envelope ends.
        exponent: envelope exponent.

    Returns:
        ``distance.shape + (R,)``.
    """
    x = distance / cutoff
    return polynomial_envelope(x, exponent)[..., None] * gaussian_basis(x, num_radial)


def circular_basis(cosine: jax.Array, num_spherical: int, axis: int = -1) -> jax.Array:
    """Zonal real spherical harmonics Y_l0 = sqrt((2l + 1) / 4π) P_l(cos φ), l < num_spherical.

    Written as the Legendre recurrence in cos φ, so no angle (and no derivative of arccos) appears.

    Args:
        cosine: cos φ, any shape; clamped to [-1, 1].
        num_spherical: number of degrees L.
        axis: position of the new axis of length L.

    Returns:
        ``cosine`` with one more axis of length L.
    """
    x = jnp.clip(cosine, -1, 1)
    legendre = [jnp.ones_like(x), x]
    for degree in range(2, num_spherical):
        previous, last = legendre[-2], legendre[-1]
        legendre.append(((2 * degree - 1) * x * last - (degree - 1) * previous) / degree)
    factors = [math.sqrt((2 * degree + 1) / (4 * math.pi)) for degree in range(num_spherical)]
    return jnp.stack([f * p for f, p in zip(factors, legendre, strict=False)], axis=axis)
