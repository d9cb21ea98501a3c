"""Products of small matrices, and their derivatives of any order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atomjax.ops import compiler_options, product

# Each derivative transposes the smaller of two matrices: once the one, once the other.
SHAPES = (3, 2, 5, 4), (3, 2, 4, 6)
TALL = (3, 2, 7, 6), (3, 2, 6, 2)


def plain(x, y):
    return jnp.einsum("...il,...lj->...ij", x, y)


def forces_loss(multiply):
    """A loss of first derivatives, as training on conservative forces has."""

    def energy(x, y):
        return jnp.sum(jnp.sin(multiply(x, y)))

    def loss(x, y):
        first = jax.grad(energy, argnums=(0, 1))(x, y)
        return energy(x, y) + sum(jnp.sum(jnp.cos(one) ** 2) for one in first)

    return loss


@pytest.mark.parametrize("shapes", [SHAPES, TALL])
def test_products_and_derivatives_are_those_of_einsum(shapes):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, y = (jnp.asarray(rng.normal(size=shape)) for shape in shapes)
        np.testing.assert_allclose(product(x, y), plain(x, y), rtol=1e-14)
        options = compiler_options()
        ours, theirs = (
            jax.jit(jax.grad(forces_loss(f), argnums=(0, 1)), compiler_options=options)(x, y)
            for f in (product, plain)
        )
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_third_derivatives():
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        x, y = (jnp.asarray(rng.normal(size=shape)) for shape in SHAPES)

        def third(multiply):
            def squared(x, y):
                second = jax.grad(forces_loss(multiply), argnums=(0, 1))(x, y)
                return sum(jnp.sum(one**2) for one in second)

            return jax.jit(jax.grad(squared, argnums=(0, 1)))(x, y)

        for a, b in zip(third(product), third(plain), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)


def test_derivatives_have_the_precision_of_the_product():
    def energy(x, y):
        with jax.default_matmul_precision("float32"):
            return jnp.sum(jnp.sin(product(x, y)))

    def loss(x, y):
        return sum(jnp.sum(jnp.sin(one)) for one in jax.grad(energy, argnums=(0, 1))(x, y))

    x, y = (jnp.ones(shape) for shape in SHAPES)
    program = str(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(x, y))
    exact = program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)")
    assert exact == program.count("dot_general") > 3
