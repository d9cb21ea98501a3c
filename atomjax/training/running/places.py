"""Places of checkpoints: in a run, its folder of checkpoints, or the best of several seeds."""

import os
from pathlib import Path

from atomjax.runtime.config import nearest
from atomjax.runtime.downloads import PREFIX, is_download
from atomjax.training.running.leaves import CheckpointError
from atomjax.training.running.packaged import PACKAGED


def checkpoint_folder(directory: str | Path, which: str) -> Path:
    """The folder with the subdirectory "best" or "latest" of a run.

    Of runs that differ by their seed, ``seed_<n>`` in the directory, "best" is that of the one with
    the best validation.

    Args:
        directory: a run, the ``checkpoints`` directory in it, or the directory of several seeds.
        which: "best" or "latest".

    Raises:
        CheckpointError: there is no such checkpoint.
    """
    if is_download(directory) or Path(directory).is_file():
        name = os.fspath(directory)
        raise CheckpointError(
            f"{name} is a file of other software; convert it, and give the folder that this makes: "
            f"atomjax convert {name} --to checkpoints/{Path(name.removeprefix(PREFIX)).stem}"
        )
    root = Path(directory).resolve()
    for place in (root, root / "checkpoints"):
        if (place / which).is_dir():
            return place
    seeds = sorted(run.parent for run in root.glob(f"seed_*/checkpoints/{which}"))
    if seeds and which == "best":
        return min(seeds, key=_best_value)
    if seeds:
        raise CheckpointError(
            f"{root} holds several seeds; give one of them, such as {seeds[0].parent}"
        )
    hint = "give the directory of a run that has saved one"
    if not root.exists() and Path(directory).name == str(directory):
        hint += f", or packaged weights.{nearest(str(directory), PACKAGED)}"
    raise CheckpointError(f"no checkpoint in {root}: it has no subdirectory '{which}'; {hint}")


def _best_value(checkpoints: Path) -> float:
    """The measure by which validation chose a run's best weights; the smaller, the better."""
    from atomjax.training.running.checkpoint import read_metadata

    value = read_metadata(checkpoints).get("record", {}).get("best_value")
    return float("inf") if value is None else float(value)
