"""Values that XLA shall compute once and store.

XLA's CPU compiler fuses cheap elementwise producers into every consumer. Along a chain of residual
layers each consumer then recomputes the sum from its beginning, reading all terms again: work and
memory traffic that grow with the square of the depth (half of all bytes that a training step of
GemNet-OC-S reads and writes, see docs/performance.md). An optimisation barrier cuts the chain,
forward and, transposed, backward. Compilers of accelerators weigh such a recomputation and need
no hint.
"""

import jax

from atomjax.ops.platform import platform

# The CPU compiler removes barriers before it fuses, by a pass of this name. Where a release of XLA
# has no pass of that name, barriers are without effect and nothing else changes.
_BARRIER_REMOVAL = {"xla_disable_hlo_passes": "cse_barrier_expander"}
# LLVM's later passes take a quarter of the compilation and make no step faster.
_LIGHT_OPTIMIZATION = {"xla_backend_optimization_level": "1"}


def stored(x: jax.Array) -> jax.Array:
    """``x``, computed once for all its readers; takes :func:`barrier_options` to have an effect."""
    return jax.lax.optimization_barrier(x) if platform() == "cpu" else x


def compiler_options() -> dict[str, str] | None:
    """Options of ``jax.jit`` for programs of a model, under which :func:`stored` has its effect."""
    if platform() != "cpu":
        return None
    # An option given here would count before this setting, under which nothing is optimised.
    light = {} if jax.config.values["jax_disable_most_optimizations"] else _LIGHT_OPTIMIZATION
    return {**_BARRIER_REMOVAL, **light}
