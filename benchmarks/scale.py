"""Large sets: memory of an epoch over a store, and planning over many structures.

python -m benchmarks.scale memory [--count 1000000] [--folder DIR]
python -m benchmarks.scale plans [--count 10000000]

"memory" writes a store of water molecules, goes through all of its batches once in a process of its
own and prints by how much that process grew from the moment the loader was asked for: anonymous
memory, which is its own, and all of its resident memory, with the mapped index, whose pages the
system takes back when it needs them. "plans" has sizes alone, mapped from a file, and prints how
long it takes until the first step is known, and a step in the middle of the run.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from atomjax.graphs.capacity import FIELDS
from atomjax.graphs.epochs import WINDOW, EpochPlans
from atomjax.graphs.size_table import JoinedSizes, SizeTable
from atomjax.structures import Structure
from atomjax.structures.store import write_store

_EPOCH = """
import io, sys, time
from pathlib import Path
from rich.console import Console
from atomjax.graphs import BatchLoader, GraphConfig
from atomjax.run import Run
from atomjax.stored import StoredDataset
from atomjax.structures.store import Store

def memory():
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return [int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "VmRSS")]

store = Store(sys.argv[1])
run = Run(Path(sys.argv[1] + "-run"), console=Console(file=io.StringIO()))
graph = GraphConfig.from_base(5.0, 4)
data = StoredDataset("set", store, graph, run=run, workers=1, references=store.references())
data.size_table()
before, began = memory(), time.process_time()
most, count = before, 0
for step, batch in BatchLoader([data], batch_size=500, num_threads=1):
    count += int((batch.targets.structure >= 0).sum())
    if step % 100 == 0:
        most = [max(pair) for pair in zip(most, memory())]
seconds = time.process_time() - began
print(f"{count:,} structures: {most[0] - before[0]:.0f} MB anonymous, "
      f"{most[1] - before[1]:.0f} MB resident growth; {1e6 * seconds / count:.0f} us each")
"""


def measure_memory(count: int, folder: Path) -> None:
    """Prints the growth of a process that goes through a store."""
    rng = np.random.default_rng(0)
    atoms = {"atomic_numbers": [8, 1, 1], "energy": -1.0, "forces": np.zeros((3, 3))}
    places = np.diag([1.0, 2.0, 3.0]) + rng.normal(scale=0.1, size=(100, 3, 3))
    water = [Structure(positions=positions, **atoms) for positions in places]
    write_store(folder / "store", (water[i % 100] for i in range(count)))
    subprocess.run([sys.executable, "-c", _EPOCH, str(folder / "store")], check=True)


def measure_plans(count: int, folder: Path) -> None:
    """Prints how long plans over mapped sizes take."""
    rng = np.random.default_rng(0)
    table = np.lib.format.open_memmap(
        folder / "sizes.npy", mode="w+", dtype=np.int32, shape=(count, len(FIELDS))
    )
    table[:] = 1
    for start in range(0, count, 1 << 20):
        part = table[start : start + (1 << 20)]
        atoms = rng.integers(8, 127, len(part))
        part[:, FIELDS.index("n_node")] = part[:, FIELDS.index("max_atoms")] = atoms
        part[:, FIELDS.index("n_edge")] = atoms * np.minimum(atoms - 1, 30)
    table.flush()
    mapped = np.load(folder / "sizes.npy", mmap_mode="r")
    begin = time.process_time()
    plans = EpochPlans(
        JoinedSizes([SizeTable(np.asarray(mapped))]),
        [count],
        batch_size=64,
        seed=0,
        epochs=10,
        num_devices=1,
        num_buckets=1,
        shuffle=True,
        fill="auto",
        dropped=0.0,
        capacity=None,
        identify=str,
    )
    fitted = time.process_time()
    plans.step(0)
    first = time.process_time()
    plans.step(7 * plans.steps_per_epoch + plans.steps_per_epoch // 2)
    middle = time.process_time()
    print(
        f"{count:,} structures: shapes {fitted - begin:.1f} s, first step {first - fitted:.2f} s, "
        f"a step in the middle of epoch 8 {middle - first:.2f} s (a window of {WINDOW:,}, "
        f"{1e6 * (middle - first) / WINDOW:.1f} us a structure)"
    )


def main() -> None:
    """Measures what the first argument says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("what", choices=("memory", "plans"))
    parser.add_argument("--count", type=int)
    parser.add_argument(
        "--folder", type=Path, help="where the files go; by default a temporary one"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        if options.what == "memory":
            measure_memory(options.count or 1_000_000, Path(made))
        else:
            measure_plans(options.count or 10_000_000, Path(made))


if __name__ == "__main__":
    main()
