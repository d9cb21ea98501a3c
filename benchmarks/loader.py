"""From a store to padded batches: graph construction alone, and end to end.

python -m benchmarks.loader [--molecules 512] [--slabs 16] [--threads 1]

Graphs have the original's cutoffs and limits: 12 Å, 8 Å for molecules, 30 neighbours, all four
graphs. Times are milliseconds of one core (of the processor's clock, so that they mean the same on
a busy machine), and structures/s is what one core does. Targets: 0.1 ms a molecule, 5 ms a slab.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from atomjax.graphs import BatchLoader, GraphConfig, GraphDataset
from atomjax.graphs.interactions import build_many
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


def measure(name: str, structures: Sequence[Structure], batch_size: int, threads: int) -> None:
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
    target, original = TARGETS[name], ORIGINAL.get(name)
    beside = f", the original {original} ms" if original else ""
    print(f"\n{name}: {count} of {len(structures[0])} and more atoms, batches of {batch_size}")
    print(f"  graphs             {1e3 * graphs / count:.3f} ms (target {target} ms{beside})")
    print(f"  reading the store  {1e3 * read / count:.3f} ms")
    print(f"  store to batch     {1e3 * whole / count:.3f} ms, {count / whole:.0f} structures/s")
    print(f"  real main edges    {report['main_edges']:.2f} of the padded ones")


def main() -> None:
    """Measures molecules and slabs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=__doc__)
    parser.add_argument("--molecules", type=int, default=512)
    parser.add_argument("--slabs", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    measure("molecules", molecules(options.molecules), 64, options.threads)
    measure("slabs", slabs(options.slabs), 4, options.threads)


if __name__ == "__main__":
    main()
