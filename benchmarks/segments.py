"""Sums of rows into few and into many segments: neither may be slow.

    python -m benchmarks.segments [--rows 65536] [--width 256]

Scatter-adds into few segments are up to thousands of times slower than into many with some releases
of jaxlib on GPUs (jax issue 38806). Ours are gathers into dense slots, whose cost is that of the
rows. Prints for 8 and 4,096 segments the time of ours and of ``jax.ops.segment_sum``, and the ratio
of few to many, which should be about one; exits with an error where ours exceeds ``--limit``.
"""

import argparse
import statistics

import jax
import jax.numpy as jnp
import numpy as np

from atomjax.ops import sum_slots
from atomjax.ops.gather import Slots
from benchmarks.measure import machine, seconds

SEGMENTS = (8, 4096)


def main() -> None:
    """Prints both ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.segments", description=__doc__)
    parser.add_argument("--rows", type=int, default=65536)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--limit", type=float, default=10.0)
    options = parser.parse_args()
    print(machine())
    x = jax.random.normal(jax.random.key(0), (options.rows, options.width))
    ours, scatters = [], []
    for count in SEGMENTS:
        index = np.arange(options.rows).reshape(count, -1)
        slots = Slots(index=jnp.asarray(index), position=jnp.arange(options.rows))
        owner = jnp.asarray(np.repeat(np.arange(count), index.shape[1]))
        dense = jax.jit(jax.grad(lambda x, slots=slots: (sum_slots(x, slots) ** 2).sum()))
        scatter = jax.jit(
            jax.grad(
                lambda x, owner=owner, count=count: (
                    jax.ops.segment_sum(x, owner, count) ** 2
                ).sum()
            )
        )
        for function, times in ((dense, ours), (scatter, scatters)):
            seconds(lambda function=function: function(x))
            one = [seconds(lambda function=function: function(x)) for _ in range(options.repeats)]
            times.append(statistics.median(one))
    for name, (few, many) in (("sum_slots", ours), ("segment_sum", scatters)):
        print(
            f"{name:12} forward and backward: {1e3 * few:.2f} ms into {SEGMENTS[0]}, "
            f"{1e3 * many:.2f} ms into {SEGMENTS[1]} segments, ratio {few / many:.2f}"
        )
    if ours[0] / ours[1] > options.limit:
        raise SystemExit(f"sum_slots into few segments is more than {options.limit:g} × slower")


if __name__ == "__main__":
    main()
