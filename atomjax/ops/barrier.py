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


def stored(x: jax.Array) -> jax.Array:
    """``x``, computed once for all its readers; has an effect under :func:`compiler_options`."""
    return jax.lax.optimization_barrier(x) if platform() == "cpu" else x
