"""Evaluation of a model's initialisation without its forward pass."""

import flax.linen as nn
import jax
import numpy as np

from atomjax.models.initializers import evaluate_init, uniform_fan_in


class Network(nn.Module):
    """Weights of ours, of Flax's, of numbers alone and of the data."""

    @nn.compact
    def __call__(self, x):
        mean = self.param("mean", lambda _: x.mean())
        x = nn.Dense(3, kernel_init=uniform_fan_in())(x - mean)
        factor = self.variable("factors", "one", lambda: np.float32(1.0))
        return nn.Dense(2)(nn.silu(x)) * factor.value


def equal(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_weights_are_those_of_init():
    key, x = jax.random.key(3), np.arange(10, dtype=np.float32).reshape(2, 5)
    variables = evaluate_init(Network().init, key, x)
    assert variables["params"]["mean"] == 4.5
    equal(variables, Network().init(key, x))


def test_the_weights_of_recomputed_blocks():
    key, x = jax.random.key(3), np.ones((2, 5), np.float32)
    network = nn.remat(Network)()
    equal(network.init(key, x), evaluate_init(network.init, key, x))


def test_in_a_traced_function_it_is_init():
    key, x = jax.random.key(3), np.ones((2, 5), np.float32)
    shapes = jax.eval_shape(lambda: evaluate_init(Network().init, jax.random.key(3), x))
    assert shapes["params"]["Dense_0"]["kernel"].shape == (5, 3)
    equal(jax.jit(Network().init)(key, x), evaluate_init(Network().init, key, x))


def test_the_forward_pass_is_not_computed():
    def init(key, x):
        jax.debug.callback(lambda _: ran.append(1), x)
        return {"weights": uniform_fan_in()(key, (4, 2))}

    ran: list[int] = []
    shape = jax.ShapeDtypeStruct((2,), np.float32)
    assert evaluate_init(init, jax.random.key(0), shape)["weights"].shape == (4, 2)
    assert not ran
