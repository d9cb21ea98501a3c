"""The norm of a tree."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from atomjax.training.update.norms import TOGETHER, tree_norm
from benchmarks.hlo import Program


def test_is_the_norm_of_all_numbers(x64):
    rng = np.random.default_rng(0)
    shapes = [(3, 4)] * (2 * TOGETHER + 1) + [(), (5,), (0, 2)]
    tree = {str(i): jnp.asarray(rng.normal(size=shape)) for i, shape in enumerate(shapes)}
    tree["single"] = jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)
    expected = np.sqrt(sum(float((np.asarray(x, np.float64) ** 2).sum()) for x in tree.values()))
    np.testing.assert_allclose(tree_norm(tree), expected, rtol=1e-6)
    del tree["single"]
    np.testing.assert_allclose(tree_norm(tree), optax.tree.norm(tree), rtol=1e-14)


def test_takes_few_kernels():
    def count(function):
        tree = [jax.ShapeDtypeStruct((64, 64), jnp.float32)] * (4 * TOGETHER)
        text = jax.jit(function).lower(tree).compile().as_text()
        return len(list(Program(text).kernels()))

    assert count(tree_norm) <= 10 < TOGETHER < count(optax.tree.norm)


def test_infinities_and_nans_show():
    assert not jnp.isfinite(tree_norm([jnp.ones(3), jnp.array([1.0, jnp.nan, 0.0])]))
    assert not jnp.isfinite(tree_norm([jnp.ones(3), jnp.array([1.0, jnp.inf, 0.0])]))
