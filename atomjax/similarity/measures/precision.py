"""Arithmetic on statistics, in float64 on the host's processor."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def host_float64() -> Iterator[None]:
    """Context in which jax computes in float64 on the host's processor.

    An accelerator may have no float64 at all, and one eigendecomposition of 3200 features compiles
    for minutes on a TPU and takes seconds on a processor. Arrays made inside belong to the inside:
    take them out with ``jax.device_get``.

    Raises:
        RuntimeError: jax was told not to use the processor.
    """
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise RuntimeError(
            "statistics are computed on the host's processor, which jax may not use here; add it "
            "to the platforms, for instance JAX_PLATFORMS=cuda,cpu"
        ) from error
    with jax.enable_x64(True), jax.default_device(host):
        yield
