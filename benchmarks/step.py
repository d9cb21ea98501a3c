"""Speed of GemNet-OC training steps: structures/s, compile time, memory, fraction of matmul rate.

    python -m benchmarks.step [--model gemnet_oc_small] [--batch molecules] [--copies 1]
        [--precision bfloat16] [--remat] [--original module:function]

A step is what training runs: forward, gradient, AdamW and the moving average. Batches are those of
``benchmarks.workloads``; ``--copies`` enlarges them to sizes that suit an accelerator. The
machine's matmul rate is measured between the steps, so that a fraction means the same on a busy
machine. Beside the times stand machine-independent numbers: FLOP, bytes and kernels of a step.

The cost model counts what the PyTorch original computes: 25.4 GFLOP for a molecule of 12 atoms
with 132 main edges through GemNet-OC-S, nearly all of it proportional to the edges.
"""

import argparse
import statistics
from collections.abc import Callable

import jax

from benchmarks.measure import (
    cost,
    device_peak,
    kernel_count,
    machine,
    make_matmul_rate,
    peak_bytes,
    queue,
    seconds,
    used,
)
from benchmarks.original import Original, load_original
from benchmarks.rows import add_option, show
from benchmarks.targets import bound_seconds
from benchmarks.turns import wait_for_turn
from benchmarks.workloads import KINDS, training

COST_MODEL = {"gemnet_oc_small": 25.4e9 / 132}  # FLOP of a training step for one main edge
MODELS = ("gemnet_oc_small", "gemnet_oc_large")


def measure(
    kind: str,
    options: argparse.Namespace,
    name: str,
    rate: Callable[[], float],
    original: Original | None,
) -> None:
    """Shows the figures of a training step on one kind of batch."""
    config = {"name": name, "precision": options.precision, "remat": options.remat}
    made = training(kind, config, options.copies)
    theirs = original and original("train", name, made.structures)
    wait_for_turn()
    seconds(made.run)
    if theirs:
        theirs()
    times, others, rates, costs = [], [], [rate()], []
    lone = []
    for _ in range(options.repeats):
        before = used()
        times.append(seconds(made.run, queue()))
        if queue() > 1:
            lone.append(seconds(made.run))
        costs.append([(now - then) / queue() for now, then in zip(used(), before, strict=True)])
        if theirs:
            others.append(seconds(theirs))
        rates.append(rate())
    elapsed, speed = statistics.median(times), statistics.median(rates)
    count = len(made.structures)
    flops, moved = cost(made.compiled)
    faults, busy = (statistics.median(column) for column in zip(*costs, strict=True))
    modelled = COST_MODEL[name] * made.num_edges if name in COST_MODEL else None
    modelled = None if kind == "dynamics" else modelled
    # The original is waited for at every call, and so are these calls of ours.
    alone = statistics.median(lone) if lone else elapsed
    theirs_took = statistics.median(others) if others else None
    bounded = bound_seconds(made.compiled, options.precision or "tensorfloat32")
    show(
        options.rows,
        f"step of {name} on {kind}, {options.precision or 'float32'}",
        structures=count,
        atoms=sum(len(s) for s in made.structures),
        main_edges=made.num_edges,
        forces="conservative" if kind == "dynamics" else "direct",
        parameters=made.parameters,
        trace_s=made.trace_seconds,
        compile_s=made.compile_seconds,
        peak_gib=peak_bytes(made.compiled) / 2**30,
        device_peak_gib=device_peak(),
        kernels=kernel_count(made.compiled),
        moved_gb=moved / 1e9,
        step_s=elapsed,
        step_least_s=min(times),
        step_most_s=max(times),
        step_alone_s=alone,
        bound_s=bounded,
        share_of_bound=bounded and bounded / elapsed,
        structures_per_s=count / elapsed,
        cpu_s=busy,
        page_faults=faults,
        original_step_s=theirs_took,
        times_original=theirs_took and theirs_took / alone,
        matmul_gflops=speed / 1e9,
        gflop=flops / 1e9,
        share_of_matmul_rate=flops / elapsed / speed,
        gflop_of_cost_model=modelled and modelled / 1e9,
        share_by_cost_model=modelled and modelled / elapsed / speed,
    )


def main() -> None:
    """Measures the asked models and batches."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", action="append", help=f"default: {' and '.join(MODELS)}")
    parser.add_argument("--batch", choices=KINDS, action="append", help="default: all")
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=("float32", "tensorfloat32", "bfloat16"))
    parser.add_argument("--remat", action="store_true")
    parser.add_argument("--original", help="see benchmarks/original.py")
    add_option(parser)
    options = parser.parse_args()
    print(machine())
    with jax.default_matmul_precision(
        None if options.precision == "bfloat16" else options.precision
    ):
        rate = make_matmul_rate()
        for name in options.model or MODELS:
            for kind in options.batch or KINDS:
                measure(kind, options, name, rate, load_original(options.original))


if __name__ == "__main__":
    main()
