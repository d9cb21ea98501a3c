"""Command line: compares this installation with a folder of reference numbers."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import jax

from atomjax.graphs import build_interactions
from atomjax.parity import csi, equiformer_v2, gemnet_oc
from atomjax.parity.oracle import OracleError, read_cases, read_reference
from atomjax.parity.result import Result
from atomjax.runtime.allocator import keep_freed_memory

# Name of a model's files → function that compares it.
MODELS = {"gemnet_oc_": gemnet_oc.compare_model, "eqv2_": equiformer_v2.compare_model}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command-line arguments."""
    parser = argparse.ArgumentParser(prog="python -m atomjax.parity", description=__doc__)
    parser.add_argument(
        "--oracle", type=Path, required=True, help="folder with structures.npz and model files"
    )
    parser.add_argument("--salt", type=int, default=0, help="salt of the weight rule (default 0)")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument(
        "--model",
        action="append",
        help="stem of one model's files; repeat for several; default all",
    )
    return parser.parse_args(arguments)


def model_names(folder: Path, wanted: list[str] | None) -> list[str]:
    """The models to compare.

    Raises:
        OracleError: if a wanted model has no reference, or none of a known kind is there.
    """
    known = sorted(path.stem for prefix in MODELS for path in folder.glob(f"{prefix}*.json"))
    if (folder / csi.FILE).is_file():
        known.append("csi")
    for name in wanted or []:
        if name not in known:
            raise OracleError(
                f"No comparison for the model {name!r} in {folder}; available: {', '.join(known)}."
            )
    if not known:
        kinds = " or ".join(f"{prefix}*.json" for prefix in MODELS)
        raise OracleError(f"{folder} holds no {kinds}; is it a reference folder?")
    return wanted or known


def comparisons(arguments: argparse.Namespace) -> Iterator[Result]:
    """Every comparison that the arguments ask for."""
    cases = read_cases(arguments.oracle)
    for case in cases.values():
        graphs = build_interactions(case.structure, gemnet_oc.CONFIG)
        yield from gemnet_oc.compare_edges(case, graphs, 1e-9)
    names = model_names(arguments.oracle, arguments.model)
    others = {path.stem for path in arguments.oracle.glob("*.json")} - set(names)
    others = sorted(name for name in others if not name.startswith("manifest_"))
    if others and not arguments.model:
        print(f"not compared (no such model in this version): {', '.join(others)}", flush=True)
    if "csi" in names:
        names = [name for name in names if name != "csi"]
        yield from csi.compare_distances(arguments.oracle, arguments.dtype)
    for name in names:
        reference = read_reference(arguments.oracle, name)
        compare = next(f for prefix, f in MODELS.items() if name.startswith(prefix))
        yield from compare(reference, cases, arguments.dtype, arguments.salt)


def main(arguments: list[str] | None = None) -> int:
    """Prints the comparisons; 0 if all are within their limits, 1 if not, 2 on unusable input."""
    keep_freed_memory()
    options = parse_arguments(arguments)
    jax.config.update("jax_enable_x64", options.dtype == "float64")
    jax.config.update("jax_default_matmul_precision", "highest")
    failed = total = 0
    try:
        for result in comparisons(options):
            print(result, flush=True)
            total += 1
            failed += not result.passed
    except OracleError as error:
        print(f"atomjax.parity: {error}", file=sys.stderr)
        return 2
    print(f"{total - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
