"""The platform that a program is traced for, where the best program depends on it."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

_CHOSEN: ContextVar[str | None] = ContextVar("platform", default=None)


def platform() -> str:
    """The platform to trace for, "cpu", "gpu" or "tpu": JAX's own unless chosen otherwise."""
    return _CHOSEN.get() or jax.default_backend()


@contextlib.contextmanager
def tracing_for(name: str) -> Iterator[None]:
    """Traces for another platform than JAX's own, to compile for a device that is not here.

    JAX keeps its traces: a function that was traced before, outside, is not traced again.

    Args:
        name: "cpu", "gpu" or "tpu".
    """
    token = _CHOSEN.set(name)
    try:
        yield
    finally:
        _CHOSEN.reset(token)
