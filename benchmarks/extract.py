"""Structures per second of feature extraction with EquiformerV2, and the memory that it takes.

    python -m benchmarks.extract [--original module:function]

The share is of the machine's matmul rate, measured beside. ``--original`` times the original
(fairchem v1 in PyTorch) in turn, where you have it; see ``benchmarks.original``.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import ase.build
import jax

from atomjax.graphs import pack_structures
from atomjax.models import HeadConfig, build_model, features, find_backbone, init_variables
from atomjax.structures import Structure
from benchmarks.measure import device_peak, machine, make_matmul_rate, queue, seconds
from benchmarks.original import Original, load_original
from benchmarks.profile import show_kernels
from benchmarks.rows import add_option, show
from benchmarks.targets import bound_seconds
from benchmarks.turns import wait_for_turn


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
    options: argparse.Namespace,
    rate: Callable[[], float],
    original: Original | None,
) -> None:
    """Shows speed and memory of one batch."""
    config = {"name": options.model}
    if options.edge_chunk is not None:
        config["edge_chunk"] = options.edge_chunk
    model = build_model(config, [HeadConfig(name="task", kind="energy")])
    batch = jax.device_put(pack_structures(structures, find_backbone(config).published_graph))
    variables = init_variables(model, jax.random.key(0), batch)
    extract = jax.jit(lambda variables, batch: features(model, variables, batch).node)
    compiled = extract.lower(variables, batch).compile()
    # XLA counts the body of a loop once, so count the program without its loop over chunks.
    whole = build_model({**config, "edge_chunk": 10**9}, [HeadConfig(name="task", kind="energy")])
    unrolled = jax.jit(lambda variables, batch: features(whole, variables, batch).node)
    flops = (unrolled.lower(variables, batch).cost_analysis() or {}).get("flops", 0.0)
    wait_for_turn()
    jax.block_until_ready(compiled(variables, batch))
    theirs = original and original("extract", options.model, structures)
    if theirs:
        theirs()
    times, lone, busy, others, rates = [], [], [], [], []
    for _ in range(options.repeats):
        before = time.process_time()
        times.append(seconds(lambda: compiled(variables, batch), queue()))
        busy.append((time.process_time() - before) / queue())
        rates.append(rate())
        if queue() > 1:
            lone.append(seconds(lambda: compiled(variables, batch)))
        if theirs:
            others.append(seconds(theirs))
    elapsed, memory = statistics.median(times), compiled.memory_analysis()
    bounded = bound_seconds(compiled, "tensorfloat32")
    # The original is waited for at every call, and so are these calls of ours.
    alone = statistics.median(lone) if lone else elapsed
    theirs_took = statistics.median(others) if others else None
    count = len(structures)
    show(
        options.rows,
        f"extraction with {options.model} from {name}",
        structures=count,
        atoms=sum(map(len, structures)),
        edges=int(batch.edge_mask.sum()),
        extraction_s=elapsed,
        extraction_least_s=min(times),
        extraction_most_s=max(times),
        extraction_alone_s=alone,
        bound_s=bounded,
        share_of_bound=bounded and bounded / elapsed,
        structures_per_s=count / elapsed,
        cpu_s=statistics.median(busy),
        original_s=theirs_took,
        times_original=theirs_took and theirs_took / alone,
        matmul_gflops=statistics.median(rates) / 1e9,
        gflop=flops / 1e9 if flops else None,
        share_of_matmul_rate=flops / elapsed / statistics.median(rates) if flops else None,
        buffers_gb=memory.temp_size_in_bytes / 1e9 if memory is not None else None,
        device_peak_gib=device_peak(),
        process_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    )
    if options.profile:
        show_kernels(lambda: compiled(variables, batch), compiled, 6, options.profile)


def main() -> None:
    """Measures molecules and slabs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="equiformer_v2_31M")
    parser.add_argument("--edge-chunk", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--copies", type=int, default=1, help="times the size of the batches")
    parser.add_argument("--only", help="batches with this word in their names")
    parser.add_argument("--profile", type=Path, help="kernels; folder for the trace")
    parser.add_argument("--original", help="see benchmarks/original.py")
    add_option(parser)
    options = parser.parse_args()
    original, rate = load_original(options.original), make_matmul_rate()
    print(machine())
    batches = {
        "molecules": molecules(32 * options.copies),
        "slabs of 14 atoms": [slab((2, 2, 3))] * (4 * options.copies),
        "slabs of 82 atoms": [slab((4, 4, 5))] * options.copies,
    }
    for name, structures in batches.items():
        if options.only is None or options.only in name.split():
            measure(name, structures, options, rate, original)


if __name__ == "__main__":
    main()
