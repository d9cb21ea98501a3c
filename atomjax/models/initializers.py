"""Initial weights, drawn with NumPy.

JAX would compile a program for every shape, a quarter of a minute for a small network. Weights
drawn on the host are also the same on every kind of device.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

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


def evaluate_init(init: Callable[..., Any], key: jax.Array, *inputs: Any) -> Any:
    """``init(key, *inputs)``, of which only what its result depends on is computed.

    Flax's ``lazy_init`` compiles an empty program for every function of the forward pass, 200 of
    them for a small network. This goes through the traced operations instead; those that
    :func:`drawn_on_host` left are called as they are.

    Args:
        init: ``model.init``.
        key: random key.
        inputs: arrays, or their shapes where no variable depends on their values.
    """
    if isinstance(key, Tracer):  # in jax.eval_shape and jax.jit
        return init(key, *inputs)
    closed, shapes = jax.make_jaxpr(init, return_shape=True)(key, *inputs)
    found = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves((key, *inputs)))
    return jax.tree.unflatten(jax.tree.structure(shapes), [jnp.asarray(x) for x in found])


def _evaluate(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """The results of traced operations, computing only what these depend on."""
    needed = {var for var in jaxpr.outvars if not isinstance(var, Literal)}
    kept = []
    for equation in reversed(jaxpr.eqns):
        if not needed.isdisjoint(equation.outvars):
            kept.append(equation)
            needed |= {var for var in equation.invars if not isinstance(var, Literal)}
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    values |= dict(zip(jaxpr.invars, inputs, strict=True))

    def value(var: Any) -> Any:
        # What is not needed may depend on shapes alone; it has no value.
        return var.val if isinstance(var, Literal) else values.get(var)

    for equation in reversed(kept):
        if equation.primitive.name == "pure_callback":
            made = equation.params["callback"](*(np.asarray(value(v)) for v in equation.invars))
        elif equation.primitive.name in ("checkpoint", "remat", "remat2"):
            # A recomputed block: its forward pass is in it, beside its weights.
            body = equation.params["jaxpr"]
            wanted = [
                inner if outer in needed else Literal(np.float32(0), inner.aval)
                for inner, outer in zip(body.outvars, equation.outvars, strict=True)
            ]
            made = _evaluate(
                body.replace(outvars=wanted), (), [value(var) for var in equation.invars]
            )
        else:
            read = [var for var in equation.invars if not isinstance(var, Literal)]
            alone = jaxpr.replace(
                constvars=[], invars=read, outvars=equation.outvars, eqns=[equation]
            )
            made = jaxpr_as_fun(ClosedJaxpr(alone, ()))(*map(value, read))
        values |= dict(zip(equation.outvars, made, strict=True))
    return [value(var) for var in jaxpr.outvars]
