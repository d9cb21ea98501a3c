"""Shared tools of the benchmarks: clocks, the machine's matmul rate, and its description."""

import platform
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.hlo import kernels_of
from benchmarks.machine import processor


def machine() -> str:
    """Device, count, JAX and Python versions in one line."""
    device = jax.devices()[0]
    name = device.device_kind if device.platform != "cpu" else processor()
    return (
        f"{jax.device_count()} × {name} ({device.platform}), jax {jax.__version__}, "
        f"Python {platform.python_version()}"
    )


def seconds(function: Callable[[], Any], calls: int = 1) -> float:
    """Wall-clock seconds of one call, device work included.

    Args:
        function: returns arrays that it may still be computing.
        calls: made one after the other before the device is waited for, as a training makes them.
    """
    begin = time.perf_counter()
    result = None
    for _ in range(calls):
        result = function()
    jax.block_until_ready(result)
    return (time.perf_counter() - begin) / calls


def queue() -> int:
    """Calls to time together: one on a CPU, several where the device works on its own."""
    return 1 if jax.default_backend() == "cpu" else 10


def used() -> tuple[int, float]:
    """Page faults and CPU seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt, usage.ru_utime + usage.ru_stime


def make_matmul_rate() -> Callable[[], float]:
    """A function that measures the device's float32 matmul rate in FLOP/s, at JAX's precision."""
    size, repeats = (2048, 3) if jax.default_backend() == "cpu" else (8192, 10)
    # Random, since a product of constants takes less power and runs at a higher clock.
    matrix = jax.random.normal(jax.random.key(0), (size, size), jnp.float32)
    multiply = jax.jit(lambda x: x @ x).lower(matrix).compile()

    def rate() -> float:
        return 2 * size**3 / seconds(lambda: multiply(matrix), repeats)

    rate()
    return rate


def peak_bytes(compiled: Any) -> int:
    """Bytes that a compiled function needs at its peak: arguments, results and temporaries."""
    memory = compiled.memory_analysis()
    total = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return total + memory.temp_size_in_bytes - memory.alias_size_in_bytes


def device_peak() -> float | None:
    """GiB that the process has held of the device's memory at most; None where it does not tell."""
    held = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return None if held is None else held / 2**30


def kernel_count(compiled: Any) -> int | None:
    """Kernels that one call of a compiled function starts; bodies of loops count once."""
    kernels = kernels_of(compiled)
    return None if kernels is None else len(kernels)


def cost(compiled: Any) -> tuple[float, float]:
    """FLOP and bytes that XLA counts for one call; bytes are read and written by kernels."""
    analysis = compiled.cost_analysis() or {}
    return analysis.get("flops", 0.0), analysis.get("bytes accessed", 0.0)
