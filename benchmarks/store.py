"""Stores: bytes, writing and random reading beside ArrayRecord and mapped columns.

python -m benchmarks.store [--count 3000]

All three hold the same structures; the first two the same bytes of each. Times are of the
processor, so that they mean the same on a busy machine, and "raw" are float32 positions, forces
and energies with one byte for each atomic number. ArrayRecord (package array-record) is left out
with a line where it is not installed.
"""

import argparse
import importlib
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.structures import Structure
from atomjax.structures.store import write_store
from atomjax.structures.store.records import decode, encode
from benchmarks.sets import molecules, slabs

Reader = Callable[[int], Structure]


def raw_bytes(structures: Sequence[Structure]) -> int:
    """Bytes of the bare arrays in float32."""
    return sum(25 * len(s) + 4 for s in structures)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def in_store(folder: Path, structures: Sequence[Structure]) -> Reader:
    """This project's store."""
    return write_store(folder, structures).__getitem__


def in_array_record(folder: Path, structures: Sequence[Structure]) -> Reader:
    """The store's records in an ArrayRecord file, one to a group for random access."""
    module: Any = importlib.import_module("array_record.python.array_record_module")
    writer = module.ArrayRecordWriter(str(folder / "set"), "group_size:1")
    rows = []
    for structure in structures:
        *row, record = encode(structure, "float32")
        writer.write(record)
        rows.append(row)
    writer.close()
    options = "readahead_buffer_size:0"
    reader = module.ArrayRecordReader(str(folder / "set"), options=options)
    return lambda i: decode(reader.read([i])[0], rows[i][0], rows[i][1], "float32")


def in_columns(folder: Path, structures: Sequence[Structure]) -> Reader:
    """One mapped ``.npy`` file for each field, atoms of all structures one after the other."""
    parts = {
        "positions": np.concatenate([s.positions for s in structures]).astype(np.float32),
        "forces": np.concatenate([np.asarray(s.forces) for s in structures]).astype(np.float32),
        "numbers": np.concatenate([s.atomic_numbers for s in structures]).astype(np.uint8),
        "tags": np.concatenate([s.tags for s in structures]).astype(np.uint8),
        "fixed": np.concatenate([s.fixed for s in structures]),
        "cell": np.array([s.cell for s in structures]),
        "pbc": np.array([s.pbc for s in structures]),
        "energy": np.array([s.energy for s in structures]),
        "end": np.cumsum([0, *map(len, structures)]),
    }
    for name, array in parts.items():
        np.save(folder / f"{name}.npy", array)
    c = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in parts}

    def read(i: int) -> Structure:
        atoms = slice(c["end"].item(i), c["end"].item(i + 1))
        return Structure.unchecked(
            atomic_numbers=c["numbers"][atoms].astype(np.int32),
            positions=c["positions"][atoms].astype(np.float64),
            cell=c["cell"][i].copy(),
            pbc=c["pbc"][i].copy(),
            tags=c["tags"][atoms].astype(np.int32),
            fixed=c["fixed"][atoms].copy(),
            energy=c["energy"].item(i),
            forces=c["forces"][atoms].astype(np.float64),
            targets={},
            class_key="",
            source="",
            identifier="",
        )

    return read


FORMATS = {"store": in_store, "ArrayRecord": in_array_record, "columns": in_columns}


def measure(name: str, structures: Sequence[Structure]) -> None:
    """Prints a line for each format."""
    raw, count = raw_bytes(structures), len(structures)
    order = np.random.default_rng(0).permutation(count).tolist()
    print(f"\n{name}: {count} structures, {raw / count:.0f} raw bytes each")
    for label, write in FORMATS.items():
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            try:
                begin = time.process_time()
                read = write(folder, structures)
            except ModuleNotFoundError as error:
                print(f"  {label:12} left out: {error}")
                continue
            written = time.process_time()
            size = folder_bytes(folder)
            for i in order:
                read(i)
            done = time.process_time()
            print(
                f"  {label:12} {size / count:6.0f} bytes ({size / raw:.2f} of raw), "
                f"{(written - begin) / count * 1e6:5.0f} us to write, "
                f"{(done - written) / count * 1e6:5.0f} us to read at random"
            )


def main() -> None:
    """Measures molecules and slabs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--count", type=int, default=3000)
    count = parser.parse_args().count
    measure("molecules of 9 to 21 atoms", molecules(count))
    measure("slabs of 80 atoms", slabs(max(count // 5, 1)))


if __name__ == "__main__":
    main()
