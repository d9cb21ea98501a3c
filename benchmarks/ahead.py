"""Compilation of training and extraction for an accelerator, without an accelerator.

    pip install "jax[cuda12]"       # or libtpu: of the version of JAX, no driver needed
    python -m benchmarks.ahead [--target h100] [--model gemnet_oc_small] [--batch molecules]
        [--copies 16] [--precision tensorfloat32] [--devices 8] [--extract] [--parts 12]

The program is compiled for the device and never run. Its text tells the kernels, the bytes that
each reads and writes, and the FLOP of its matrix products; the compiler tells the memory. From
these follows a bound: every kernel takes at least what its bytes take at the memory's bandwidth,
what its products take at the device's rate, and what any kernel takes. The second bound grants
each 70 % of that, which large kernels reach. Real steps take longer than the first and may take
longer than the second: neither waits, conflicts nor small products are in it.
"""

import argparse
import time
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from atomjax.graphs import pack_structures
from atomjax.models import HeadConfig, build_model, features, find_backbone, init_variables
from atomjax.ops import tracing_for
from atomjax.structures import Structure
from atomjax.training.update.state import DATA_AXIS, initial_state
from benchmarks.hlo import Instruction, Program, arrays
from benchmarks.measure import peak_bytes
from benchmarks.profile import part_of
from benchmarks.targets import TARGETS, Target, bound
from benchmarks.workloads import KINDS, structures_of, workload

REACHED = 0.7
COLLECTIVES = ("all-reduce", "reduce-scatter", "all-gather")


def shapes(tree: Any, sharding: NamedSharding, lead: tuple[int, ...] = ()) -> Any:
    """The arrays of a tree as shapes with a place, with leading axes added."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((*lead, *np.shape(x)), x.dtype, sharding=sharding), tree
    )


def lower_training(
    model: dict[str, Any], kind: str, copies: int, mesh: Mesh
) -> tuple[list[Structure], Any]:
    """The structures on a device, and the training step, traced for the mesh."""
    made = workload(kind, model, copies)
    variables = jax.eval_shape(lambda: init_variables(made.network, jax.random.key(0), made.batch))
    optimizer, step = made.step(variables["params"], mesh)
    state = jax.eval_shape(lambda v: initial_state(v, optimizer, seed=0), variables)
    placed = shapes(made.batch, NamedSharding(mesh, P(DATA_AXIS)), (mesh.size,))
    lowered = step.lower(shapes(state, NamedSharding(mesh, P())), placed)
    return made.structures, lowered


def lower_extraction(
    model: dict[str, Any], kind: str, copies: int, mesh: Mesh
) -> tuple[list[Structure], Any]:
    """The structures on a device, and the extraction of node features, traced for the mesh."""
    structures = structures_of(kind, copies)
    network = build_model(model, [HeadConfig(name="task", kind="energy")])
    batch = pack_structures(structures, find_backbone(model).published_graph)
    variables = jax.eval_shape(lambda: init_variables(network, jax.random.key(0), batch))
    everywhere = NamedSharding(mesh, P())
    extract = jax.jit(lambda v, b: features(network, v, b).node)
    lowered = extract.lower(shapes(variables, everywhere), shapes(batch, everywhere))
    return structures, lowered


def covered(program: Program, target: Target, rate: float) -> list[str]:
    """Bytes of each collective, and the kernels that run between its start and its end."""
    schedule = program.computations[program.entry]
    kernels = {k.name: k for k in program.kernels()}
    names = list(schedule)
    lines = []
    for i, name in enumerate(names):
        it = schedule[name]
        if not it.opcode.startswith(COLLECTIVES) or it.opcode.endswith("-done"):
            continue
        end = next((j for j in range(i + 1, len(names)) if _ends(schedule[names[j]], name)), i)
        between = [kernels[other] for other in names[i + 1 : end] if other in kernels]
        size = sum(size for size, _ in arrays(it.result))
        lines.append(
            f"  {it.opcode}: {size / 1e6:.1f} MB, "
            f"{1e3 * bound(between, target, rate, 1.0):.2f} ms of other kernels before its end"
        )
    return lines


def _ends(it: Instruction, start: str) -> bool:
    return it.opcode.endswith("-done") and start in it.operands


def report(name: str, options: argparse.Namespace, model: dict[str, Any], kind: str) -> None:
    """Prints cost and memory of one program."""
    target = TARGETS[name]
    mesh = Mesh(np.array(target.devices(options.devices)), (DATA_AXIS,))
    lower = lower_extraction if options.extract else lower_training
    begin = time.perf_counter()
    with tracing_for(target.platform):
        structures, lowered = lower(model, kind, options.copies, mesh)
    traced = time.perf_counter()
    compiled = lowered.compile(compiler_options=dict(target.options))
    took = time.perf_counter() - traced
    program = Program(compiled.as_text())
    kernels = list(program.kernels())
    count, atoms = len(structures), sum(len(s) for s in structures)
    flops = (compiled.cost_analysis() or {}).get("flops") or sum(k.flops * k.times for k in kernels)
    moved = sum(k.moved * k.times for k in kernels)
    rate = target.flops[options.precision]
    peak = peak_bytes(compiled)
    what = "extraction" if options.extract else "training step"
    print(f"\n{model['name']}, {what}, {options.precision}, for {options.devices} × {name}")
    print(f"  batch on a device   {kind}: {count} structures, {atoms} atoms")
    print(f"  trace, compile      {traced - begin:.1f} s, {took:.1f} s")
    print(f"  memory              {peak / 1e9:.2f} GB at its peak, {target.memory / 1e9:.0f} there")
    print(f"  kernels             {sum(k.times for k in kernels)}")
    print(f"  moved, products     {moved / 1e9:.1f} GB, {flops / 1e9:.0f} GFLOP")
    for reached in (1.0, REACHED):
        # Where the text does not show the products of a kernel, those of all are a bound.
        least = max(bound(kernels, target, rate, reached), flops / rate / reached)
        speed = f"{1e3 * least:.1f} ms, {count / least:,.0f} structures/s"
        print(f"  at {reached:4.0%} of limits   {speed}")
    for line in covered(program, target, rate):
        print(line)
    parts: dict[str, float] = {}
    for kernel in kernels:
        part = part_of(kernel.source)
        parts[part] = parts.get(part, 0.0) + bound([kernel], target, rate, 1.0)
    for part in sorted(parts, key=lambda part: -parts[part])[: options.parts]:
        print(f"  {1e3 * parts[part]:7.2f} ms  {part}", flush=True)


def main() -> None:
    """Compiles the chosen programs and prints their cost and memory."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ahead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--target", choices=TARGETS, default="h100")
    parser.add_argument("--model", action="append", help="default: gemnet_oc_small")
    parser.add_argument("--batch", choices=KINDS, action="append", help="default: molecules")
    parser.add_argument("--copies", type=int, default=16)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--precision", default="tensorfloat32")
    parser.add_argument("--remat", action="store_true")
    parser.add_argument("--extract", action="store_true", help="features instead of training")
    parser.add_argument("--parts", type=int, default=0, help="parts of the model to list")
    options = parser.parse_args()
    print(f"compiled ahead of time, nothing was run; jax {jax.__version__}")
    for name in options.model or ["gemnet_oc_small"]:
        model = {"name": name, "precision": options.precision}
        for kind in options.batch or ["molecules"]:
            report(
                options.target, options, model | ({"remat": True} if options.remat else {}), kind
            )


if __name__ == "__main__":
    main()
