"""The extractor that comes with the package: weights as arrays, and the record of their training.

``python -m atomjax.similarity.features.default RUN`` writes those of a finished pretraining.
Arrays only: nothing in the file is executed when it is read.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import flax.traverse_util
import numpy as np

from atomjax.runtime.files import read_json, read_npz, write_json, write_npz
from atomjax.training.running.checkpoint import CheckpointError, load_checkpoint

_MEND = "install atomjax again, or set extractor.checkpoint"
NAME = "equiformer_v2_slabs"
FOLDER = Path(str(resources.files("atomjax.similarity"))) / "weights"


def load_weights(folder: Path = FOLDER) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables and metadata of the extractor.

    Args:
        folder: folder of the files.

    Returns:
        {"params", "scale_factors"} of the backbone in float32, and "name", "model", "graphs",
        "command", "seed", "versions", "steps", "structures", "parameters" and "test".

    Raises:
        CheckpointError: the files are missing.
        DamagedFile: they are damaged.
    """
    paths = [folder / f"{NAME}.{suffix}" for suffix in ("npz", "json")]
    for path in paths:
        if not path.exists():
            raise CheckpointError(f"{path} is missing; {_MEND}")
    arrays = read_npz(paths[0], _MEND)
    flat = {name: array.astype(np.float32) for name, array in arrays.items()}
    variables = {"params": {}, "scale_factors": {}}
    variables |= flax.traverse_util.unflatten_dict(flat, sep="/")
    return variables, read_json(paths[1], _MEND)


def write_weights(run: Path, folder: Path = FOLDER) -> tuple[Path, Path]:
    """Writes the averaged backbone of a finished pretraining.

    Args:
        run: directory of the run.
        folder: folder to write to.

    Returns:
        The files of the weights and of the metadata.

    Raises:
        CheckpointError: the run has no checkpoint, or is not finished.
    """
    variables, stored = load_checkpoint(run)
    if not (run / "results.json").exists():
        raise CheckpointError(f"{run} is not finished; let it train to the end first")
    again = "copy the run again"
    results = read_json(run / "results.json", again)
    versions = read_json(run / "versions.json", again)[-1]
    kept = {
        collection: {"backbone": tree["backbone"]}
        for collection, tree in variables.items()
        if "backbone" in tree
    }
    flat: dict[str, Any] = dict(flax.traverse_util.flatten_dict(kept, sep="/"))
    weights, metadata = folder / f"{NAME}.npz", folder / f"{NAME}.json"
    write_npz(weights, flat, compressed=True)
    described = {
        "name": NAME,
        "licence": "Apache-2.0, as atomjax; trained on structures that atomjax generates",
        "command": "python -m atomjax.launch --config configs/csi/extractor.py "
        "--workdir runs/extractor",
        "model": stored["model"],
        "graphs": stored["graphs"],
        "data": stored["config"]["data"]["train"],
        "seed": stored["seed"],
        "parameters": int(sum(np.size(leaf) for leaf in flat.values())),
        "step": stored["step"],
        **{key: results[key] for key in ("steps", "structures", "budget", "seconds")},
        "validation": results["validation"],
        "test": results["test"],
        "versions": {key: versions[key] for key in ("atomjax", "jax", "flax", "numpy", "ase")},
    }
    write_json(metadata, described)
    return weights, metadata


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m atomjax.similarity.features.default",
        description="Write the backbone of a finished pretraining as the default extractor.",
    )
    parser.add_argument("run", type=Path, help="directory of the run")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder to write to")
    options = parser.parse_args(arguments)
    try:
        paths = write_weights(options.run, options.folder)
    except (CheckpointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in paths:
        print(f"wrote {path} ({path.stat().st_size / 2**20:.2f} MiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
