"""Initial weights, drawn with NumPy.

JAX would compile a program for every shape, a quarter of a minute for a small network. Weights
drawn on the host are also the same on every kind of device.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

Initializer = Callable[..., jax.Array]


def drawn_on_host(draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]):
    """An initialiser for Flax from a function that draws an array of a shape."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        def values(words: jax.Array) -> np.ndarray:
            return draw(np.random.default_rng(np.asarray(words)), shape).astype(dtype)

        words = jax.random.key_data(key)
        if isinstance(words, Tracer):  # in jax.eval_shape and jax.jit
            return jax.pure_callback(values, jax.ShapeDtypeStruct(shape, dtype), words)
        return jnp.asarray(values(words))

    return init


def uniform(bound: float) -> Initializer:
    """U(-bound, bound)."""
    return drawn_on_host(lambda random, shape: random.uniform(-bound, bound, shape))


def uniform_fan_in(scale: float = 1.0, axis: int = -2) -> Initializer:
    """U(-scale/√fan_in, scale/√fan_in), by default for kernels [..., fan_in, outputs]."""

    def draw(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        bound = scale / math.sqrt(shape[axis])
        return random.uniform(-bound, bound, shape)

    return drawn_on_host(draw)


@drawn_on_host
def standard_normal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """N(0, 1)."""
    return random.standard_normal(shape)


@drawn_on_host
def he_orthogonal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Orthogonal kernel [inputs, outputs], standardised over its inputs, times 1 / √inputs.

    The initialisation of GemNet (Gasteiger et al., 2021, appendix).
    """
    inputs, outputs = shape
    kernel = _orthogonal(random, outputs, inputs)
    if inputs > 1:  # a variance over a single input does not exist
        kernel = _standardize(kernel, axis=1)
    return (kernel / math.sqrt(inputs)).T


@drawn_on_host
def he_orthogonal_angular(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """He-orthogonal kernel [R, I, L], drawn and standardised as the original's [R, L, I]."""
    num_radial, features, num_spherical = shape
    kernel = _orthogonal(random, num_radial, num_spherical * features)
    kernel = _standardize(kernel.reshape(num_radial, num_spherical, features), axis=(0, 1))
    return (kernel / math.sqrt(num_radial * num_spherical)).reshape(shape)


def _orthogonal(random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Orthonormal columns, or rows where these are fewer, distributed uniformly."""
    q, r = np.linalg.qr(random.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diagonal(r))
    return q if rows >= columns else q.T


def _standardize(kernel: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Zero mean and unit (unbiased) variance over the fan-in ``axis``."""
    variance = kernel.var(axis=axis, keepdims=True, ddof=1)
    return (kernel - kernel.mean(axis=axis, keepdims=True)) / np.sqrt(variance + 1e-6)
