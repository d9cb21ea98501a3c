"""Hints to XLA: options to compile the programs of a model under, and values to compute once.

XLA's CPU compiler fuses cheap elementwise producers into every consumer. Along a chain of residual
layers each consumer then recomputes the sum from its beginning, reading all terms again: work and
memory traffic that grow with the square of the depth (half of all bytes that a training step of
GemNet-OC-S reads and writes, see docs/performance.md). An optimisation barrier cuts the chain,
forward and, transposed, backward. Compilers of accelerators weigh such a recomputation and need
no hint.
"""

import os

import jax

from atomjax.ops.platform import platform

Options = dict[str, str | int | bool]

# The CPU compiler removes barriers before it fuses, by a pass of this name. Where a release of XLA
# has no pass of that name, barriers are without effect and nothing else changes.
_BARRIER_REMOVAL: Options = {"xla_disable_hlo_passes": "cse_barrier_expander"}
# LLVM's later passes take a quarter of the compilation and make no step faster.
_LIGHT_OPTIMIZATION: Options = {"xla_backend_optimization_level": "1"}
# XLA would write kernels of its own in many variants for each of a thousand products and time them
# all: on an H200 a training step of GemNet-OC-S was not compiled after five minutes. Library calls
# need no compilation.
_LIBRARY_PRODUCTS: Options = {"xla_gpu_enable_triton_gemm": False}


def compiler_options() -> Options | None:
    """Options of ``jax.jit`` for the platform, as functions of a model are compiled with them.

    On a CPU :func:`stored` has its effect under them; on a GPU matrix products are library calls.
    What ``XLA_FLAGS`` in the environment says of a GPU's option counts before.
    """
    if platform() == "gpu":
        flags = os.environ.get("XLA_FLAGS", "")
        return {name: value for name, value in _LIBRARY_PRODUCTS.items() if name not in flags}
    if platform() != "cpu":
        return None
    # An option given here would count before this setting, under which nothing is optimised.
    light = {} if jax.config.values["jax_disable_most_optimizations"] else _LIGHT_OPTIMIZATION
    return {**_BARRIER_REMOVAL, **light}


def stored(x: jax.Array) -> jax.Array:
    """``x``, computed once for all its readers; has an effect under :func:`compiler_options`."""
    return jax.lax.optimization_barrier(x) if platform() == "cpu" else x
