"""Basis functions against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import eval_legendre

from atomjax.models.bases import (
    circular_basis,
    gaussian_basis,
    gaussian_centres,
    polynomial_envelope,
    radial_basis,
)


def test_circular_basis_is_the_zonal_harmonics(x64):
    x = np.linspace(-1, 1, 41)
    basis = circular_basis(jnp.asarray(x), 7)
    degrees = np.arange(7)
    norms = np.sqrt((2 * degrees + 1) / (4 * np.pi))
    np.testing.assert_allclose(basis, norms * eval_legendre(degrees, x[:, None]), atol=1e-14)
    np.testing.assert_array_equal(circular_basis(jnp.asarray(x), 7, axis=0).T, basis)
    # Rounding may carry a cosine beyond 1; it counts as 1.
    np.testing.assert_array_equal(circular_basis(jnp.array(1.0000001), 7), basis[-1])


def test_envelope_ends_smoothly(x64):
    value = jax.vmap(polynomial_envelope)
    slope = jax.vmap(jax.grad(polynomial_envelope))
    curvature = jax.vmap(jax.grad(jax.grad(polynomial_envelope)))
    ends = jnp.array([1 - 1e-9, 1.0, 1.5, 1e6])
    for derivative in (value, slope, curvature):
        np.testing.assert_allclose(derivative(ends), 0, atol=1e-6)
    np.testing.assert_allclose(value(jnp.array([0.0])), 1)
    assert (np.diff(value(jnp.linspace(0, 1, 50))) <= 0).all()


def test_gaussians_stand_on_an_even_grid(x64):
    centres = gaussian_centres(16)
    np.testing.assert_allclose(centres, np.linspace(0, 1, 16), atol=1e-7)
    basis = gaussian_basis(jnp.asarray(centres, jnp.float64), 16)
    np.testing.assert_allclose(np.diag(basis), 1)
    np.testing.assert_allclose(np.diag(basis, 1), np.exp(-0.5), rtol=1e-5)


def test_radial_basis_ends_at_its_cutoff():
    basis = radial_basis(jnp.array([0.0, 6.0, 12.0, 13.0]), 8, 12.0)
    assert basis.shape == (4, 8)
    assert float(basis[0].max()) == 1.0
    np.testing.assert_array_equal(basis[2:], 0)
