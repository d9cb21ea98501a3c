"""Shared tools of the benchmarks: clocks, the machine's matmul rate, and its description."""

import platform
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.hlo import Program
from benchmarks.machine import processor


def machine() -> str:
    """Device, count, JAX and Python versions in one line."""
    device = jax.devices()[0]
    name = device.device_kind if device.platform != "cpu" else processor()
    return (
        f"{jax.device_count()} × {name} ({device.platform}), jax {jax.__version__}, "
        f"Python {platform.python_version()}"
    )


def seconds(function: Callable[[], Any]) -> float:
    """Wall-clock seconds of one call, device work included."""
    begin = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - begin


def used() -> tuple[int, float]:
    """Page faults and CPU seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt, usage.ru_utime + usage.ru_stime


def make_matmul_rate(size: int = 2048) -> Callable[[], float]:
    """A function that measures the device's float32 matmul rate in FLOP/s, at JAX's precision.

    Args:
        size: rows and columns of the square matrices.
    """
    matrix = jnp.ones((size, size), jnp.float32)
    multiply = jax.jit(lambda x: x @ x).lower(matrix).compile()
    repeats = 3 if jax.default_backend() == "cpu" else 100

    def rate() -> float:
        def several():
            product = matrix
            for _ in range(repeats):
                product = multiply(matrix)
            return product

        return repeats * 2 * size**3 / seconds(several)

    rate()
    return rate


def peak_bytes(compiled: Any) -> int:
    """Bytes that a compiled function needs at its peak: arguments, results and temporaries."""
    memory = compiled.memory_analysis()
    total = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return total + memory.temp_size_in_bytes - memory.alias_size_in_bytes


def kernel_count(compiled: Any) -> int:
    """Kernels that one call of a compiled function starts; bodies of loops count once."""
    return len(list(Program(compiled.as_text()).kernels()))


def cost(compiled: Any) -> tuple[float, float]:
    """FLOP and bytes that XLA counts for one call; bytes are read and written by kernels."""
    analysis = compiled.cost_analysis() or {}
    return analysis.get("flops", 0.0), analysis.get("bytes accessed", 0.0)
