"""Large sets: memory of an epoch over a store, its index, and planning over many structures.

python -m benchmarks.scale memory [--count 1000000] [--folder DIR]
python -m benchmarks.scale index [--count 100000000]
python -m benchmarks.scale plans [--count 10000000]

"memory" writes a store of water molecules, goes through all of its batches once in a process of its
own and prints by how much that process grew from the moment the loader was asked for: anonymous
memory, which is its own, and all of its resident memory, with the mapped index, whose pages the
system takes back when it needs them. "index" writes the index of a store without its records, with
a class for every hundred structures, and opens it. "plans" has sizes alone, mapped from a file, and
prints how long it takes until the first step is known, and a step in the middle of the run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from atomjax.batching.epochs import WINDOW, EpochPlans
from atomjax.batching.size_table import JoinedSizes, SizeTable
from atomjax.graphs.capacity import FIELDS
from atomjax.structures import Structure
from atomjax.structures.store import Store, write_store
from atomjax.structures.store.merge import FORMAT, GROUPS, MANIFEST
from atomjax.structures.store.shards import COLUMNS, INDEX, OFFSET
from atomjax.structures.store.writing import SHARD_SIZE

# Bytes of a record of 80 atoms.
_RECORD = 2193

_EPOCH = """
import io, sys, time
from pathlib import Path
from rich.console import Console
from atomjax.batching import BatchLoader
from atomjax.graphs import GraphConfig
from atomjax.graphs.config import limits_in_proportion
from atomjax.runtime.run import Run
from atomjax.data.store_view import StoredDataset
from atomjax.structures.store import Store

def memory():
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return [int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "VmRSS")]

store = Store(sys.argv[1])
run = Run(Path(sys.argv[1] + "-run"), console=Console(file=io.StringIO()))
graph = GraphConfig(cutoff=5.0, **limits_in_proportion(4))
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


def measure_index(count: int, folder: Path) -> None:
    """Prints the time to open an index, and its memory."""
    write_index(folder, count, max(count // 100, 1))
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    before, begin = anonymous_memory(), time.process_time()
    store = Store(folder)
    opened, grown = time.process_time() - begin, anonymous_memory() - before
    print(
        f"{len(store):,} structures, {size / 1e9:.2f} GB: opened in {opened:.1f} s, {grown:.0f} MB"
    )
    begin = time.process_time()
    classes = len(store.class_keys)
    several = store.class_ids[: 1 << 16]
    sought, grown = time.process_time() - begin, anonymous_memory() - before
    print(
        f"{classes:,} classes, {len(np.unique(several)):,} of the first {len(several):,} structures"
    )
    print(f"classes of all in {sought:.1f} s, {grown:.0f} MB")


def write_index(folder: Path, count: int, classes: int) -> None:
    """Writes all of a store but its records, in the image of OC20."""
    (folder / INDEX).mkdir()
    rng = np.random.default_rng(0)
    values = {
        "n_atom": lambda rows: rng.integers(20, 226, len(rows)),
        "energy": lambda rows: rng.normal(size=len(rows)),
        "group": lambda rows: rng.integers(0, classes, len(rows)),
        "offset": lambda rows: rows * _RECORD,
    }
    for name, dtype in {**COLUMNS, "offset": OFFSET}.items():
        length = count + (name == "offset")
        file = folder / INDEX / f"{name}.npy"
        column = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=(length,))
        for start in range(0, length, 1 << 20):
            rows = np.arange(start, min(start + (1 << 20), length))
            column[rows[0] : rows[-1] + 1] = values.get(name, np.zeros_like)(rows)
        column.flush()
    groups = [
        [f"slab {i // 80}, adsorbate {i % 80}", "oc20", "data.\0.lmdb:\0:sid\0:fid\0", []]
        for i in range(classes)
    ]
    (folder / INDEX / GROUPS).write_text(json.dumps(groups))
    shards = [
        {"name": f"0000-{i:06d}", "structures": len(part), "bytes": len(part) * _RECORD}
        for i, part in enumerate(
            range(start, min(start + SHARD_SIZE, count)) for start in range(0, count, SHARD_SIZE)
        )
    ]
    manifest = {"format": FORMAT, "precision": "float32", "shards": shards}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def anonymous_memory() -> float:
    """MB of this process that are no mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def measure_plans(count: int, folder: Path) -> None:
    """Prints the time of plans over mapped sizes."""
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
    """Runs the measurement that the first argument names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("what", choices=("memory", "index", "plans"))
    parser.add_argument("--count", type=int)
    parser.add_argument(
        "--folder", type=Path, help="folder for the files; by default a temporary one"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        if options.what == "memory":
            measure_memory(options.count or 1_000_000, Path(made))
        elif options.what == "index":
            measure_index(options.count or 100_000_000, Path(made))
        else:
            measure_plans(options.count or 10_000_000, Path(made))


if __name__ == "__main__":
    main()
