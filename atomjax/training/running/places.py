"""Places of checkpoints: in a run, its folder of checkpoints, or the best of several seeds."""

import os
import sys
from pathlib import Path

from atomjax.runtime.config import nearest
from atomjax.runtime.downloads import cache_folder, find_download, is_download, local_path
from atomjax.runtime.lock import sole_use
from atomjax.runtime.workflows import resolve
from atomjax.training.running.leaves import CheckpointError
from atomjax.training.running.packaged import PACKAGED


def checkpoint_folder(directory: str | Path, which: str) -> Path:
    """The folder with the subdirectory "best" or "latest" of a run.

    Of runs that differ by their seed, ``seed_<n>`` in the directory, "best" is that of the one with
    the best validation.

    Args:
        directory: a run, the ``checkpoints`` directory in it, the directory of several seeds, or
            the name of a published checkpoint, which is fetched and converted.
        which: "best" or "latest".

    Raises:
        CheckpointError: there is no such checkpoint.
        ConfigError: there is no such download.
        ConvertError: a download is no checkpoint that can be converted.
        DownloadError: it cannot be had.
    """
    if is_download(directory):
        directory = _converted(os.fspath(directory))
    if Path(directory).is_file():
        raise CheckpointError(
            f"{directory} is a file of other software; convert it, and give the folder that this "
            f"makes: atomjax convert {directory} --to checkpoints/{Path(directory).stem}"
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


def _converted(name: str) -> Path:
    """The checkpoint that a published file makes, kept beside the downloads."""
    entry = find_download(name)
    if entry.collection.format is not None:
        raise CheckpointError(f"{name} is a data set, not a checkpoint")
    folder = cache_folder() / "converted" / entry.name
    if not folder.exists():
        source = local_path(name)
        with sole_use(folder):
            if not folder.exists():
                # Conversions know trainings, which know only that there are some.
                convert = resolve("atomjax.convert.conversion:convert")
                convert(source, folder, say=lambda line: print(line, file=sys.stderr))
    return folder


def _best_value(checkpoints: Path) -> float:
    """The measure by which validation chose a run's best weights; the smaller, the better."""
    from atomjax.training.running.checkpoint import read_metadata

    value = read_metadata(checkpoints).get("record", {}).get("best_value")
    return float("inf") if value is None else float(value)
