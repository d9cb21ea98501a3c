"""From a store to padded batches: graph construction alone, and end to end.

python -m benchmarks.loader [--molecules 512] [--slabs 16] [--threads 1] [--workers] [--padding]

Graphs have the original's cutoffs and limits: 12 Å, 8 Å for molecules, 30 neighbours, all four
graphs. The last lines are wall time: on threads of this process, and by grain's worker processes,
started before the clock is. Other times are milliseconds of one core (of the processor's clock, so
that they mean the same on a busy machine), and structures/s is what one core does. Targets: 0.1 ms
a molecule, 5 ms a slab. Then follows what share of the padded batches of several streams is real,
which `--padding` prints alone.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from atomjax.batching import BatchLoader, GraphDataset
from atomjax.batching.planning import Fill
from atomjax.graphs.interactions import build_many
from atomjax.models.gemnet_oc import PUBLISHED_GRAPH
from atomjax.structures import Structure
from atomjax.structures.store import write_store
from benchmarks.rows import add_option, show
from benchmarks.sets import molecules, slabs, spread_slabs

TARGETS = {"molecules": 0.1, "slabs": 5.0}
CONFIG = PUBLISHED_GRAPH
# On threads or in processes of grain's.
WAYS: dict[str, dict[str, Any]] = {
    "when asked for": {"prefetch": 0},
    "1 thread": {"num_threads": 1},
    "2 threads": {"num_threads": 2},
    "1 worker process": {"num_workers": 1, "prefetch": 2},
    "2 worker processes": {"num_workers": 2, "prefetch": 2},
}
# Epochs of the runs whose padding is measured; longer runs may have another shape.
EPOCHS = 5


def core_seconds(function: Callable[[], Any]) -> float:
    """Processor seconds of a call, the median of three."""
    times = []
    for _ in range(3):
        begin = time.process_time()
        function()
        times.append(time.process_time() - begin)
    return statistics.median(times)


def measure(
    name: str, structures: Sequence[Structure], batch_size: int, options: argparse.Namespace
) -> None:
    """Shows the times of one kind of structures."""
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
        loader = BatchLoader([data], batch_size=batch_size, num_threads=options.threads)
        whole = core_seconds(lambda: list(loader))
        report = loader.padding_report()
        rates = wall_rates([data], batch_size) if options.workers else {}
    show(
        options.rows,
        f"loader, {name} of {min(map(len, structures))} and more atoms",
        structures=count,
        batch_size=batch_size,
        graph_ms=1e3 * graphs / count,
        target_graph_ms=TARGETS[name],
        reading_ms=1e3 * read / count,
        store_to_batch_ms=1e3 * whole / count,
        structures_per_core_second=count / whole,
        real_main_edges=float(report["main_edges"]),
        **{f"structures_per_s, {means}": rate for means, rate in rates.items()},
    )


def wall_rates(data: Sequence[GraphDataset], batch_size: int) -> dict[str, float]:
    """Structures a second from store to batch, once the loader runs, for each way to run it."""
    options: dict[str, Any] = {"batch_size": batch_size, "epochs": 8, "fill": "count"}
    rates = {}
    for means, settings in WAYS.items():
        loader = BatchLoader(data, **options, **settings)
        # Each worker has sent its prefetched batches before the clock starts.
        ahead = 4 * max(loader.num_workers, 1)
        rates[means] = batch_size * rate_of(loader.batches(), ahead)
    loader = BatchLoader(data, **options)
    with ThreadPoolExecutor(2) as pool:
        built = pool.map(loader.build, range(loader.num_steps))
        rates["2 plain threads"] = batch_size * rate_of(built, 4)
    return rates


def rate_of(batches: Iterator[Any], ahead: int) -> float:
    """Batches a second, those after the first `ahead`."""
    for _ in range(ahead):
        next(batches)
    begin = time.perf_counter()
    steps = sum(1 for _ in batches)
    return steps / (time.perf_counter() - begin)


def measure_padding(
    title: str, sets: Sequence[Sequence[Structure]], batch_size: int, out: Path | None
) -> None:
    """Shows the real fraction of the batches of a stream.

    Args:
        title: name of the stream.
        sets: sets of structures; an epoch takes all of each.
        batch_size: structures of a step.
        out: file to append to, or None.
    """
    data = [GraphDataset(str(i), structures, CONFIG) for i, structures in enumerate(sets)]
    ways: tuple[tuple[Fill | Literal["auto"], int], ...] = (("count", 1), ("size", 1), ("auto", 0))
    for fill, buckets in ways:
        loader = BatchLoader(
            data, batch_size=batch_size, fill=fill, num_buckets=buckets, epochs=EPOCHS
        )
        report = loader.padding_report()
        show(
            out,
            f"padding of {title}, batches of {batch_size}, fill={fill}",
            filled_by=loader.plans.fill,
            shapes=len(loader.capacities),
            real_main_edges=float(report["main_edges"]),
            real_atoms=float(report["atoms"]),
            mean_batch_size=float(report["batch_size"]),
            least_batch_size=report["batch_size_min"],
            largest_batch_size=report["batch_size_max"],
        )


def measure_streams(count: int, out: Path | None) -> None:
    """Streams in the image of the pretraining sets, about `count` structures of each."""
    small, large, spread = molecules(count), slabs(max(count // 32, 1)), spread_slabs(count // 2)
    measure_padding("molecules", [small], 5, out)
    for batch_size in (1, 4):
        measure_padding("slabs of 20 to 200 atoms", [spread], batch_size, out)
    # The shares of ANI-1x and Transition-1x, OC20 and OC22 in JMP's pretraining.
    share = round(len(spread) * 0.26 / 0.74)
    for batch_size in (5, 20):
        title = f"{share} molecules and {len(spread)} slabs of 20 to 200 atoms, as JMP mixes them"
        measure_padding(title, [small[:share], spread], batch_size, out)
    measure_padding(f"{len(small)} molecules and {len(large)} slabs of 80", [small, large], 5, out)


def main() -> None:
    """Measures molecules and slabs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=__doc__)
    parser.add_argument("--molecules", type=int, default=512)
    parser.add_argument("--slabs", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", action="store_true", help="measure worker processes too")
    parser.add_argument("--padding", action="store_true", help="real fractions of batches alone")
    add_option(parser)
    options = parser.parse_args()
    if not options.padding:
        small, large = molecules(options.molecules), slabs(options.slabs)
        measure("molecules", small, 64, options)
        measure("slabs", large, 4, options)
    measure_streams(options.molecules, options.rows)


if __name__ == "__main__":
    main()
