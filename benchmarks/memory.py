"""Largest batches that fit on an accelerator, in atoms, for training and extraction.

    python -m benchmarks.memory [--target h100] [--gigabytes 80] [--remat]

Compiles each workload at two sizes, without running it, and takes the memory that the program
needs at its peak as a line in the number of atoms. ``--target`` compiles for an accelerator that
need not be there (see ``benchmarks.ahead``); without it, for JAX's own device, which on a CPU is a
proxy. A tenth of the memory is left to the runtime.
"""

import argparse
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from atomjax.ops import platform, tracing_for
from atomjax.training.update.state import DATA_AXIS
from benchmarks.ahead import lower_extraction, lower_training
from benchmarks.measure import peak_bytes
from benchmarks.targets import TARGETS

USABLE = 0.9


def main() -> None:
    """Prints the table, row by row."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--target", choices=TARGETS, help="default: JAX's own device")
    parser.add_argument("--gigabytes", type=float, help="default: the target's, else 80")
    parser.add_argument("--model", action="append", help="default: both GemNet-OC, EquiformerV2")
    parser.add_argument("--batch", action="append", choices=("molecules", "slabs"))
    parser.add_argument("--copies", type=int, nargs=2, default=(1, 3))
    parser.add_argument("--precision", default="tensorfloat32")
    parser.add_argument("--remat", action="store_true", help="rows with recomputed blocks as well")
    options = parser.parse_args()
    target = TARGETS[options.target] if options.target else None
    mesh = Mesh(np.array(target.devices(1) if target else jax.devices()[:1]), (DATA_AXIS,))
    gigabytes = options.gigabytes or (target.memory / 1e9 if target else 80)
    compiler = dict(target.options) if target else {}

    def peak(lower: Any, model: dict[str, Any], kind: str, copies: int) -> tuple[int, int]:
        with tracing_for(target.platform if target else platform()):
            structures, lowered = lower(model, kind, copies, mesh)
        return sum(len(s) for s in structures), peak_bytes(
            lowered.compile(compiler_options=compiler)
        )

    print(f"{options.precision} on {options.target or platform()}, {gigabytes:.0f} GB")
    print("| model | what | batch | fixed | a 1,000 atoms | atoms that fit |")
    names = ("gemnet_oc_small", "gemnet_oc_large", "equiformer_v2_31M")
    for name in options.model or names:
        gemnet = name.startswith("gemnet")
        rows: list[tuple[str, Any, dict[str, Any]]] = [("extraction", lower_extraction, {})]
        if gemnet:
            rows.insert(0, ("training", lower_training, {}))
        if gemnet and options.remat:
            rows.insert(1, ("training, remat", lower_training, {"remat": True}))
        for kind in options.batch or ("molecules", "slabs"):
            for label, lower, changes in rows:
                model = {"name": name, "precision": options.precision, **changes}
                (few, low), (many, high) = (peak(lower, model, kind, n) for n in options.copies)
                slope = (high - low) / (many - few)
                fixed = low - slope * few
                fits = (USABLE * gigabytes * 1e9 - fixed) / slope
                print(
                    f"| {name} | {label} | {kind} | {fixed / 1e9:.2f} GB "
                    f"| {1e3 * slope / 1e9:.1f} GB | {fits:,.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
