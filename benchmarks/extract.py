"""Structures per second of feature extraction with EquiformerV2, and the memory that it takes.

    python -m benchmarks.extract [--original module:function]

The share is of the machine's matmul rate, measured beside. The original (fairchem v1 in PyTorch, 2
CPU cores) extracts 5.6 molecules of 6 to 10 atoms, and 1.5 slabs of 14 atoms and 280 edges, in a
second; ``--original`` times yours in turn (see ``benchmarks.original``).
"""

import argparse
import resource
import time
from collections.abc import Callable

import ase.build
import jax
import numpy as np

from atomjax.graphs import pack_structures
from atomjax.models import HeadConfig, build_model, features, find_backbone, init_variables
from atomjax.structures import Structure
from benchmarks.measure import make_matmul_rate
from benchmarks.measure import seconds as elapsed
from benchmarks.original import Original, load_original

ORIGINAL = {"molecules": 5.6, "slab of 14 atoms": 1.5}  # structures a second


def molecules(count: int) -> list[Structure]:
    """Molecules of 6 to 10 atoms."""
    names = ["CH3OH", "CH3CH2OH", "C2H6", "C3H4_C2v", "CH3COOH", "C2H4"]
    return [from_ase(ase.build.molecule(names[i % len(names)]), seed=i) for i in range(count)]


def slab(size: tuple[int, int, int]) -> Structure:
    """A copper slab with carbon monoxide on it."""
    atoms = ase.build.fcc111("Cu", size, vacuum=8.0, periodic=True)
    ase.build.add_adsorbate(atoms, ase.build.molecule("CO"), 1.8, "fcc")
    return from_ase(atoms)


def from_ase(atoms: ase.Atoms, seed: int = 0) -> Structure:
    """An ASE structure, its atoms moved a little."""
    atoms.rattle(0.05, seed=seed)
    return Structure(
        atomic_numbers=atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell.array if atoms.pbc.any() else None,
        pbc=atoms.pbc,
    )


def measure(
    name: str,
    structures: list[Structure],
    config: dict,
    repeats: int,
    rate: Callable[[], float],
    original: Original | None,
) -> None:
    """Prints speed and memory of one batch."""
    model = build_model(config, [HeadConfig(name="task", kind="energy")])
    batch = jax.device_put(pack_structures(structures, find_backbone(config).published_graph))
    variables = init_variables(model, jax.random.key(0), batch)
    extract = jax.jit(lambda variables, batch: features(model, variables, batch).node)
    compiled = extract.lower(variables, batch).compile()
    # XLA counts the body of a loop once, so count the program without its loop over chunks.
    whole = build_model({**config, "edge_chunk": 10**9}, [HeadConfig(name="task", kind="energy")])
    unrolled = jax.jit(lambda variables, batch: features(whole, variables, batch).node)
    flops = (unrolled.lower(variables, batch).cost_analysis() or {}).get("flops", 0.0)
    memory = compiled.memory_analysis()
    jax.block_until_ready(compiled(variables, batch))
    theirs = original and original("extract", config["name"], structures)
    seconds, busy, others, rates = [], [], [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        jax.block_until_ready(compiled(variables, batch))
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - used)
        rates.append(rate())
        if theirs:
            others.append(elapsed(theirs))
    speed = len(structures) / min(seconds)
    share = flops / min(seconds) / max(rates)
    line = f"{name:<20} {len(structures):3d} structures {int(batch.edge_mask.sum()):6d} edges "
    line += f"{speed:8.2f} structures/s, {share:.2f} of the matmul rate"
    if others:
        line += f" ({min(others) / min(seconds):.2f} × the original in turn)"
    elif name in ORIGINAL:
        line += f" ({speed / ORIGINAL[name]:.2f} × the original's figure)"
    # What other processes on the machine do not change much.
    line += f"  {min(busy) / len(structures):.3f} s of CPU each"
    if memory is not None:
        line += f"  buffers {memory.temp_size_in_bytes / 1e6:.0f} MB"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{line}, process at most {peak:.2f} GB so far", flush=True)


def main() -> None:
    """Measures molecules and slabs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="equiformer_v2_31M")
    parser.add_argument("--edge-chunk", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("molecules", "slabs"), default=None)
    parser.add_argument("--original", help="see benchmarks/original.py")
    options = parser.parse_args()
    original, rate = load_original(options.original), make_matmul_rate()
    config = {"name": options.model}
    if options.edge_chunk is not None:
        config["edge_chunk"] = options.edge_chunk
    print(f"{options.model}, {jax.devices()[0]}, numpy {np.__version__}, jax {jax.__version__}")
    if options.only != "slabs":
        measure("molecules", molecules(32), config, options.repeats, rate, original)
    if options.only != "molecules":
        small, large = [slab((2, 2, 3))] * 4, [slab((4, 4, 5))]
        measure("slab of 14 atoms", small, config, options.repeats, rate, original)
        measure("slab of 82 atoms", large, config, options.repeats, rate, original)


if __name__ == "__main__":
    main()
