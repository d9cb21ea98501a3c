"""From a store to padded batches: graph construction alone, and end to end.

python -m benchmarks.loader [--molecules 512] [--slabs 16] [--threads 1]

Graphs have the original's cutoffs and limits: 12 Å, 8 Å for molecules, 30 neighbours, all four
graphs. The last lines are wall time: on threads of this process, and by grain's worker processes,
started before the clock is. Other times are milliseconds of one core (of the processor's clock, so
that they mean the same on a busy machine), and structures/s is what one core does. Targets: 0.1 ms
a molecule, 5 ms a slab.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from atomjax.graphs import BatchLoader, GraphConfig, GraphDataset
from atomjax.graphs.interactions import build_many
from atomjax.graphs.planning import Fill
from atomjax.structures import Structure
from atomjax.structures.store import write_store
from benchmarks.sets import molecules, slabs

TARGETS = {"molecules": 0.1, "slabs": 5.0}
# Graphs and collation of a molecule in the PyTorch original, ms.
ORIGINAL = {"molecules": 3.4}
CONFIG = GraphConfig()


def core_seconds(function: Callable[[], Any]) -> float:
    """Processor seconds of a call, the median of three."""
    times = []
    for _ in range(3):
        begin = time.process_time()
        function()
        times.append(time.process_time() - begin)
    return statistics.median(times)


def measure(
    name: str, structures: Sequence[Structure], batch_size: int, threads: int, workers: bool
) -> None:
    """Prints the times of one kind of structures."""
    count = len(structures)
    build_many(structures[:batch_size], CONFIG)
    blocks = range(0, count, batch_size)
    graphs = core_seconds(
        lambda: [build_many(structures[i : i + batch_size], CONFIG) for i in blocks]
    )
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "store", structures)
        read = core_seconds(lambda: list(store))
        data = GraphDataset(name, store, CONFIG, cache_bytes=0)
        loader = BatchLoader([data], batch_size=batch_size, num_threads=threads)
        whole = core_seconds(lambda: list(loader))
        report = loader.padding_report()
        rates = {n: wall_rate([data], batch_size, n) for n in (0, 1, 2)} if workers else {}
    target, original = TARGETS[name], ORIGINAL.get(name)
    beside = f", the original {original} ms" if original else ""
    print(f"\n{name}: {count} of {len(structures[0])} and more atoms, batches of {batch_size}")
    print(f"  graphs             {1e3 * graphs / count:.3f} ms (target {target} ms{beside})")
    print(f"  reading the store  {1e3 * read / count:.3f} ms")
    print(f"  store to batch     {1e3 * whole / count:.3f} ms, {count / whole:.0f} structures/s")
    print(f"  real main edges    {report['main_edges']:.2f} of the padded ones")
    for number, rate in rates.items():
        means = f"{number} worker processes" if number else "2 threads"
        print(f"  {means:18} {rate:.0f} structures/s of wall time")


def wall_rate(data: Sequence[GraphDataset], batch_size: int, workers: int) -> float:
    """Structures a second from store to batch, once the loader runs."""
    loader = BatchLoader(data, batch_size=batch_size, num_workers=workers, prefetch=2, epochs=8)
    batches = loader.batches()
    # Each worker has sent what it holds ready.
    for _ in range(4 * max(workers, 1)):
        next(batches)
    begin = time.perf_counter()
    steps = sum(1 for _ in batches)
    return steps * batch_size / (time.perf_counter() - begin)


def measure_mixed(structures: Sequence[Structure], batch_size: int) -> None:
    """Prints what share of the batches of molecules and slabs together is real."""
    data = GraphDataset("mixed", structures, CONFIG)
    ways: tuple[tuple[Fill | Literal["auto"], int], ...] = (("count", 1), ("size", 1), ("auto", 0))
    for fill, buckets in ways:
        loader = BatchLoader([data], batch_size=batch_size, fill=fill, num_buckets=buckets)
        report = loader.padding_report()
        print(
            f"  by {loader.plans.fill}, {len(loader.capacities)} shapes: "
            f"{report['main_edges']:.2f} of main edges, {report['atoms']:.2f} of atoms real; "
            f"{report['batch_size']:.1f} structures a step, {report['batch_size_min']} to "
            f"{report['batch_size_max']}"
        )


def main() -> None:
    """Measures molecules and slabs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=__doc__)
    parser.add_argument("--molecules", type=int, default=512)
    parser.add_argument("--slabs", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", action="store_true", help="measure worker processes too")
    options = parser.parse_args()
    small, large = molecules(options.molecules), slabs(options.slabs)
    measure("molecules", small, 64, options.threads, options.workers)
    measure("slabs", large, 4, options.threads, options.workers)
    print(f"\nmixed: {len(small)} molecules and {len(large)} slabs, batches of 5")
    measure_mixed([*small, *large], 5)


if __name__ == "__main__":
    main()
