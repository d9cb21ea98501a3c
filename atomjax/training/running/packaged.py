"""Weights that come with the package, by name: arrays, and a checkpoint's metadata as JSON.

    atomjax/weights/<name>.npz     params and scale_factors in float32, averaged
    atomjax/weights/<name>.json    metadata, with the command that trains them, licence and errors

``python -m atomjax.training.running.packaged RUN NAME`` writes those of a finished training. Arrays
only: nothing in the files is executed when they are read.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.runtime.files import read_json, read_npz, write_json, write_npz
from atomjax.training.running.leaves import CheckpointError, backbone_of, flatten, nested

MOLECULES, CRYSTALS = "atomjax-molecules", "atomjax-crystals"
EXTRACTOR = "equiformer_v2_generated"
# Of these, only the backbone is kept.
BACKBONES = (EXTRACTOR, "equiformer_v2_slabs")
PACKAGED = (MOLECULES, CRYSTALS, *BACKBONES)
LICENCE = "Apache-2.0, as atomjax; trained on structures that atomjax generates"
FOLDER = Path(str(resources.files("atomjax"))) / "weights"
_MEND = "install atomjax again"


def is_packaged(name: str | Path) -> bool:
    """True for the name of weights that come with the package."""
    return os.fspath(name) in PACKAGED


def packaged_metadata(name: str | Path, folder: Path = FOLDER) -> dict[str, Any]:
    """Metadata of packaged weights, as :func:`.checkpoint.read_metadata` returns it.

    Raises:
        CheckpointError: the files are missing.
        DamagedFile: they are damaged.
    """
    return read_json(_file(name, "json", folder), _MEND)


def packaged_weights(
    name: str | Path, folder: Path = FOLDER
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Packaged weights, as :func:`.checkpoint.load_checkpoint` returns them.

    Raises:
        CheckpointError: the files are missing.
        DamagedFile: they are damaged.
    """
    arrays = read_npz(_file(name, "npz", folder), _MEND)
    variables = nested({path: array.astype(np.float32) for path, array in arrays.items()})
    return {"params": {}, "scale_factors": {}} | variables, packaged_metadata(name, folder)


def _file(name: str | Path, suffix: str, folder: Path) -> Path:
    path = folder / f"{os.fspath(name)}.{suffix}"
    if not path.exists():
        raise CheckpointError(f"{path} is missing; {_MEND}")
    return path


def write_packaged(run: Path, name: str, folder: Path = FOLDER) -> tuple[Path, Path]:
    """Writes the averaged weights of a finished training under a name.

    Args:
        run: directory of the run.
        name: one of `PACKAGED`.
        folder: folder to write to.

    Returns:
        The files of the weights and of the metadata.

    Raises:
        CheckpointError: the run has no checkpoint, or is not finished.
    """
    # Not at the top: checkpoints are read from here, too.
    from atomjax.training.running.checkpoint import load_checkpoint

    variables, metadata = load_checkpoint(run)
    if not (run / "results.json").exists():
        raise CheckpointError(f"{run} is not finished; let it train to the end first")
    again = "copy the run again"
    results = read_json(run / "results.json", again)
    start = read_json(run / "versions.json", again)[-1]
    if name in BACKBONES:
        variables, metadata = backbone_of(variables), {**metadata, "heads": []}
    flat = flatten(variables)
    datasets = {
        one: {key: value for key, value in fields.items() if key != "fingerprints"}
        for one, fields in metadata["datasets"].items()
    }
    described = {
        "name": name,
        "licence": LICENCE,
        **metadata,
        "datasets": datasets,
        "config": _without_places(metadata["config"]),
        "parameters": int(sum(np.size(leaf) for leaf in flat.values())),
        "command": start["command"],
        **{key: results[key] for key in ("budget", "seconds", "validation", "test")},
        "versions": {key: start[key] for key in ("atomjax", "jax", "flax", "numpy", "ase")},
    }
    folder.mkdir(exist_ok=True)
    paths = folder / f"{name}.npz", folder / f"{name}.json"
    write_npz(paths[0], flat, compressed=True)
    write_json(paths[1], described)
    return paths


def _without_places(config: dict[str, Any]) -> dict[str, Any]:
    """A config without the directory where the machine that trained keeps generated sets."""
    return {**config, "data": {**config["data"], "cache_dir": None}}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m atomjax.training.running.packaged",
        description="Write the weights of a finished training into the package.",
    )
    parser.add_argument("run", type=Path, help="directory of the run")
    parser.add_argument("name", choices=PACKAGED, help="name of the weights")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder to write to")
    options = parser.parse_args(arguments)
    try:
        paths = write_packaged(options.run, options.name, options.folder)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in paths:
        print(f"wrote {path} ({path.stat().st_size / 2**20:.2f} MiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
