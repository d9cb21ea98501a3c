"""What fits on an accelerator: atoms a batch for training and extraction, from XLA's analysis.

    python -m benchmarks.memory [--gigabytes 80]

Compiles each workload at two sizes, without running it, and takes the memory that the compiled
program needs as a line in the number of atoms. Compiled for a CPU this is a proxy: an accelerator's
compiler fuses and schedules otherwise, and a tenth of the card is left to it.
"""

import argparse
from typing import Any

import jax

from atomjax.graphs import pack_structures
from atomjax.models import HeadConfig, build_model, default_graph, features, init_variables
from benchmarks.measure import machine, peak_bytes
from benchmarks.workloads import structures_of, training

USABLE = 0.9


def training_bytes(model: dict[str, Any], kind: str, copies: int) -> tuple[int, int]:
    """Atoms and peak bytes of a training step."""
    made = training(kind, model, copies)
    return sum(len(s) for s in made.structures), peak_bytes(made.compiled)


def extraction_bytes(model: dict[str, Any], kind: str, copies: int) -> tuple[int, int]:
    """Atoms and peak bytes of feature extraction."""
    structures = structures_of(kind, copies)
    network = build_model(model, [HeadConfig(name="task", kind="energy")])
    batch = pack_structures(structures, default_graph(model))
    variables = jax.eval_shape(lambda: init_variables(network, jax.random.key(0), batch))
    extract = jax.jit(lambda v, b: features(network, v, b).node)
    return sum(len(s) for s in structures), peak_bytes(extract.lower(variables, batch).compile())


def main() -> None:
    """Prints the table, row by row."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=80.0)
    parser.add_argument("--model", action="append", help="default: both GemNet-OC, EquiformerV2")
    parser.add_argument("--batch", action="append", choices=("molecules", "slabs"))
    parser.add_argument("--remat", action="store_true", help="rows with recomputed blocks as well")
    options = parser.parse_args()
    print(machine())
    print("| model | what | batch | fixed | a 1,000 atoms | atoms that fit |")
    names = ("gemnet_oc_small", "gemnet_oc_large", "equiformer_v2_31M")
    for name in options.model or names:
        gemnet = name.startswith("gemnet")
        rows: list[tuple[str, Any, dict[str, Any]]] = [("extraction", extraction_bytes, {})]
        if gemnet:
            rows.insert(0, ("training", training_bytes, {}))
        if gemnet and options.remat:
            rows.insert(1, ("training, remat", training_bytes, {"remat": True}))
        for kind in options.batch or ("molecules", "slabs"):
            for label, measure, changes in rows:
                config = {"name": name, **changes}
                (small, low), (large, high) = (measure(config, kind, n) for n in (1, 3))
                slope = (high - low) / (large - small)
                fixed = low - slope * small
                fits = (USABLE * options.gigabytes * 1e9 - fixed) / slope
                print(
                    f"| {name} | {label} | {kind} | {fixed / 1e9:.2f} GB "
                    f"| {1e3 * slope / 1e9:.1f} GB | {fits:,.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
