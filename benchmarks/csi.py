"""Speed of the CSI: a table of distances against SciPy, streaming statistics, peak memory.

python -m benchmarks.csi [--dimensions 512 1024 3200] [--nodes 1000000] [--only table stream peak]

The table is of 4 upstream and 6 downstream sets in float64. SciPy takes the square root of the
product of two covariances, as the original code of the CSI does; where a pair takes long, it is
run for a few pairs only, and its time for the table is extrapolated, as printed. Both use the same
cores and the same LAPACK in the same run. Compilation is printed apart.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import scipy.linalg

from atomjax.similarity.measures.frechet import Gaussians, frechet_terms, stack_gaussians
from atomjax.similarity.measures.statistics import Statistics, host_float64
from atomjax.similarity.measures.stream import StatisticsStream
from benchmarks.measure import machine, seconds
from benchmarks.rows import add_option, show

UPSTREAM, DOWNSTREAM = 4, 6
SCIPY_PAIRS = {512: 6, 1024: 2, 3200: 1}
PIECE = 1000  # rows of a batch, about what 64 molecules have
GIB = 2**30


def make_statistics(dimension: int, seed: int) -> Statistics:
    """A set of 2 d rows, with standard deviations that fall by two decades in random order."""
    rng = np.random.default_rng(seed)
    scales = rng.permutation(10 ** -np.linspace(0, 2, dimension))
    stream = StatisticsStream(dimension)
    for _ in range(2):
        stream.add(rng.normal(size=(dimension, dimension)) * scales + 0.1 * scales)
    return stream.result()


def scipy_distance(first: Gaussians, second: Gaussians, i: int, j: int) -> float:
    """One entry of the table as the original computes it."""
    a, b = np.asarray(first.covariance[i]), np.asarray(second.covariance[j])
    gap = np.asarray(first.mean[i] - second.mean[j])
    root = scipy.linalg.sqrtm(a @ b)
    return float(gap @ gap + np.trace(a) + np.trace(b) - 2 * np.trace(root).real)


def measure_table(dimension: int, out: Path | None) -> None:
    """Shows the time of the table and of SciPy's, and their relative difference."""
    sets = [make_statistics(dimension, seed) for seed in range(UPSTREAM + DOWNSTREAM)]
    with host_float64():
        first, second = stack_gaussians(sets[:UPSTREAM]), stack_gaussians(sets[UPSTREAM:])
        begin = time.perf_counter()
        compiled = jax.jit(frechet_terms).lower(first, second).compile()
        compilation = time.perf_counter() - begin
        begin = time.perf_counter()
        table = jax.device_get(compiled(first, second))
        ours = time.perf_counter() - begin
    total = UPSTREAM * DOWNSTREAM
    pairs = min(SCIPY_PAIRS.get(dimension, 1), total)
    error, begin = 0.0, time.perf_counter()
    for n in range(pairs):
        i, j = n % UPSTREAM, n % DOWNSTREAM
        reference = scipy_distance(first, second, i, j)
        error = max(error, abs(table.distance[i, j] / reference - 1))
    per_pair = (time.perf_counter() - begin) / pairs
    show(
        out,
        f"CSI table of {UPSTREAM} × {DOWNSTREAM} sets, {dimension} features",
        table_s=ours,
        compile_s=compilation,
        scipy_table_s=per_pair * total,
        scipy_pairs_run=f"{pairs} of {total}",
        times_scipy=per_pair * total / ours,
        largest_relative_difference=error,
    )


def memory_bandwidth() -> float:
    """Bytes per second of a copy, read and written."""
    source = np.ones(2**25)
    target = np.empty_like(source)
    return 2 * source.nbytes / min(seconds(lambda: np.copyto(target, source)) for _ in range(4))


def float64_rate(size: int = 1536) -> float:
    """FLOP/s of a float64 matrix product."""
    with host_float64():
        matrix = jax.numpy.ones((size, size))
        multiply = jax.jit(lambda x: x @ x).lower(matrix).compile()
        return 2 * size**3 / min(seconds(lambda: multiply(matrix)) for _ in range(3))


def pieces(dimension: int, nodes: int) -> Iterator[np.ndarray]:
    """Float32 features in pieces, made from a few so that making them costs nothing."""
    rng = np.random.default_rng(0)
    few = [rng.normal(size=(PIECE, dimension)).astype(np.float32) for _ in range(4)]
    for i in range(nodes // PIECE):
        yield few[i % 4]


def measure_stream(dimension: int, out: Path | None) -> None:
    """Shows the rows/s of streaming statistics beside the machine's limit."""
    nodes = max(20 * PIECE, int(4e10 / dimension**2) // PIECE * PIECE)
    nodes = min(nodes, 200 * PIECE)
    stream = StatisticsStream(dimension)
    for rows in pieces(dimension, 5 * PIECE):
        stream.add(rows)
    begin = time.perf_counter()
    for rows in pieces(dimension, nodes):
        stream.add(rows)
    stream.result()
    rate = nodes / (time.perf_counter() - begin)
    bandwidth, flops = memory_bandwidth(), float64_rate()
    # Products use the symmetry: d² multiply-adds a row are d² + O(d · block) operations.
    show(
        out,
        f"streaming statistics, {dimension} features",
        rows_per_s=rate,
        share_of_memory_bandwidth=rate * 4 * dimension / bandwidth,
        bandwidth_gb_per_s=bandwidth / 1e9,
        share_of_float64_product=rate * dimension**2 / flops,
        float64_product_gflops=flops / 1e9,
    )


def measure_peak(dimension: int, nodes: int, out: Path | None) -> None:
    """Shows the largest memory of this process before and after streaming a set."""
    stream = StatisticsStream(dimension)
    for rows in pieces(dimension, 5 * PIECE):
        stream.add(rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for rows in pieces(dimension, nodes):
        stream.add(rows)
    stream.result()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    show(
        out,
        f"memory of streaming {nodes:,} nodes, {dimension} features",
        peak_gib=after / GIB,
        added_by_streaming_gib=(after - before) / GIB,
        features_in_float32_gib=4 * nodes * dimension / GIB,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.csi", description=__doc__)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[512, 1024, 3200])
    parser.add_argument("--nodes", type=int, default=1_000_000, help="for the peak memory")
    parts = ("table", "stream", "peak")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    add_option(parser)
    options = parser.parse_args()
    if options.peak:
        measure_peak(options.peak, options.nodes, options.rows)
        return
    print(machine())
    for dimension in options.dimensions if "table" in options.only else ():
        measure_table(dimension, options.rows)
    for dimension in options.dimensions if "stream" in options.only else ():
        measure_stream(dimension, options.rows)
    if "peak" not in options.only:
        return
    # In a process of its own, whose largest memory nothing else has raised.
    command = [sys.executable, "-m", "benchmarks.csi", "--nodes", str(options.nodes)]
    command += ["--rows", str(options.rows)] if options.rows else []
    subprocess.run([*command, "--peak", str(min(options.dimensions))], check=True)


if __name__ == "__main__":
    main()
