"""Speed of GemNet-OC training steps: structures/s, compile time, memory, share of matmul rate.

python -m benchmarks.step [--model gemnet_oc_small] [--batch molecules] [--repeats 5]

A step is what training runs: forward, gradient, AdamW and the moving average. The machine's matmul
rate is measured between the steps, so that a share means the same on a busy machine. The cost
model counts what the PyTorch original computes: 25.4 GFLOP for a molecule of 12 atoms with 132
main edges through GemNet-OC-S, nearly all of it proportional to the edges.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import ase.build
import jax
import numpy as np

from atomjax.graphs import GraphConfig, pack_structures
from atomjax.models import HeadConfig, build_model, fit_scale_factors, init_variables, predict
from atomjax.structures import Structure
from atomjax.training.losses import Task
from atomjax.training.optimizer import make_optimizer
from atomjax.training.settings import TrainSettings
from atomjax.training.state import create_state, data_mesh, place, place_batch
from atomjax.training.step import make_train_step
from benchmarks.measure import machine, make_matmul_rate, peak_bytes

MOLECULES = (
    *("CH3CH2OH", "C3H8", "trans-butane", "C4H4NH"),
    *("C6H6", "isobutane", "CH3COCH3", "C5H5N"),
)
SLABS = (("Cu", (3, 3, 5)), ("Ag", (3, 5, 5)))
COST_MODEL = {"gemnet_oc_small": 25.4e9 / 132}  # FLOP of a training step for one main edge
BATCHES = ("molecules", "slabs")


def labelled(atoms: ase.Atoms, rng: np.random.Generator, tags: np.ndarray | None) -> Structure:
    """Shaken atoms with random labels: speed does not depend on what they say."""
    return Structure(
        atomic_numbers=atoms.numbers,
        positions=atoms.positions + rng.normal(0, 0.05, atoms.positions.shape),
        cell=atoms.cell.array if atoms.pbc.any() else None,
        pbc=atoms.pbc,
        tags=tags,
        energy=float(rng.normal()),
        forces=rng.normal(size=atoms.positions.shape),
    )


def molecules() -> list[Structure]:
    """Eight molecules of 9 to 14 atoms."""
    rng = np.random.default_rng(0)
    return [labelled(ase.build.molecule(name), rng, None) for name in MOLECULES]


def slabs() -> list[Structure]:
    """Two metal slabs of 46 and 77 atoms with an oxygen atom or carbon monoxide on top."""
    rng = np.random.default_rng(0)
    structures = []
    for i, (metal, size) in enumerate(SLABS):
        atoms = ase.build.fcc111(metal, size, vacuum=8.0, periodic=True)
        guest = ase.Atoms("CO", [(0, 0, 0), (0, 0, 1.15)]) if i % 2 else ase.Atoms("O")
        ase.build.add_adsorbate(atoms, guest, 1.6, "fcc")
        # ASE numbers the layers from the top: 1 is the surface, 0 the adsorbate.
        tags = np.choose(np.minimum(atoms.get_tags(), 2), [2, 1, 0])
        structures.append(labelled(atoms, rng, tags))
    return structures


def measure(model_name: str, kind: str, repeats: int, rate: Callable[[], float]) -> None:
    """Prints one line for each quantity of a training step on one kind of batch."""
    structures = {"molecules": molecules, "slabs": slabs}[kind]()
    batch = pack_structures(structures, GraphConfig())
    num_edges = int(batch.edge_mask.sum())
    model = build_model({"name": model_name}, [HeadConfig(name=kind)])
    variables = init_variables(model, jax.random.key(0), batch)
    variables = fit_scale_factors(model, variables, [batch])

    mesh = data_mesh(jax.devices()[:1])
    settings = TrainSettings(batch_size=len(structures), epochs=1)
    optimizer = make_optimizer(settings, variables["params"], num_steps=1000)
    state = place(create_state(variables, optimizer, seed=0), mesh)
    batch = place_batch(jax.tree.map(lambda x: np.asarray(x)[None], batch), mesh)
    step = make_train_step(functools.partial(predict, model), [Task(name=kind)], optimizer, mesh)

    begin = time.perf_counter()
    lowered = step.lower(state, batch)
    traced = time.perf_counter()
    compiled = lowered.compile()
    compile_seconds = time.perf_counter() - traced
    state, _ = compiled(state, batch)
    times, rates = [], [rate()]
    for _ in range(repeats):
        begin_step = time.perf_counter()
        state, metrics = compiled(state, batch)
        jax.block_until_ready(metrics)
        times.append(time.perf_counter() - begin_step)
        rates.append(rate())
    elapsed, speed = statistics.median(times), statistics.median(rates)
    sizes = ", ".join(str(len(s)) for s in structures)
    print(f"\n{model_name}, {kind}: structures of {sizes} atoms, {num_edges} main edges together")
    print(f"  trace, compile    {traced - begin:.1f} s, {compile_seconds:.1f} s")
    print(f"  peak memory       {peak_bytes(compiled) / 2**30:.2f} GiB")
    print(f"  step              {elapsed:.3f} s, {len(structures) / elapsed:.2f} structures/s")
    print(f"  matmul rate       {speed / 1e9:.0f} GFLOP/s, measured between the steps")
    counts = {"XLA's count": (compiled.cost_analysis() or {}).get("flops", 0.0)}
    if model_name in COST_MODEL:
        counts["cost model"] = COST_MODEL[model_name] * num_edges
    for name, flops in counts.items():
        print(f"  {name:17} {flops / 1e9:.0f} GFLOP, {flops / elapsed / speed:.2f} of that rate")


def main() -> None:
    """Measures the asked batches."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--model", default="gemnet_oc_small")
    parser.add_argument("--batch", choices=BATCHES, action="append", help="default: both")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(machine())
    rate = make_matmul_rate()
    for kind in options.batch or BATCHES:
        measure(options.model, kind, options.repeats, rate)


if __name__ == "__main__":
    main()
