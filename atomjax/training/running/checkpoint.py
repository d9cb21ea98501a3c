"""Checkpoints: the latest state, to resume from, and the best weights by validation.

    <directory>/latest/<step>/{variables, optimizer, metadata}
    <directory>/best/<step>/{variables, metadata}

``variables`` holds params, ema_params and scale_factors; ``optimizer`` the rest of the state, and
of params and ema_params what merging adapters (LoRA) changes, as it was before;
``metadata`` is JSON: model, heads, graphs, references, settings, validation metrics, versions.
Orbax keeps checksums of its tables, but not of the arrays; so ``checksums.json`` beside the items
has one of every file, which is compared before anything is parsed. Checkpoints of before have none.

Orbax's ``CheckpointManager`` writes them, each under a temporary name that is renamed when
complete, so a process killed while saving leaves the previous checkpoint in place. (Orbax's newer
``v1`` interface is still under ``experimental`` in the version this project locks.) Saving is
synchronous: the step donates the state's buffers, and on CPU a background writer would read
memory that the next step writes. Leaves are stored under their tree path and compared with the
target's path by path before anything is used, since Orbax by itself restores what it finds. They
come back as numpy arrays and are placed afterwards, so another number of devices may read them.
"""

import contextlib
import dataclasses
import errno
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import orbax.checkpoint as ocp

from atomjax.runtime.files import DamagedFile, compare_checksums, write_checksums
from atomjax.training.running.leaves import (
    CheckpointError,
    fill,
    flatten,
    listed,
    misfits,
    nested,
)
from atomjax.training.running.packaged import is_packaged, packaged_metadata, packaged_weights
from atomjax.training.running.places import checkpoint_folder
from atomjax.training.update.state import TrainState

Which = Literal["best", "latest"]
VARIABLES = ("params", "ema_params", "scale_factors")
OPTIMIZER = ("step", "opt_state", "rng")
UNMERGED = "unmerged"
OVERHEAD, OVERHEAD_OF_LEAF = 1 << 17, 1 << 11
_MEND = (
    "it is damaged or incomplete: copy it again, or delete its folder (a run then goes on from its"
    " other checkpoint or its start)"
)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: their directory; created where absent.
        merge: parameters of a state → parameters of the model.
    """

    def __init__(self, directory: str | Path, merge: Callable[[Any], Any] = lambda params: params):
        self.directory, self._merge = Path(directory).resolve(), merge
        with _explained(self.directory):
            self._latest = _manager(self.directory / "latest")
            self._best = _manager(self.directory / "best")

    @property
    def latest_step(self) -> int | None:
        """Step of the latest state, None before the first save."""
        return self._latest.latest_step()

    def save_latest(self, state: TrainState, metadata: Mapping[str, Any]) -> None:
        """Saves the whole state; the one before is removed when this one is complete."""
        variables, unmerged = self._variables(state)
        optimizer = _select(state, OPTIMIZER)
        optimizer |= {UNMERGED: unmerged} if unmerged else {}
        items = {"variables": variables, "optimizer": optimizer}
        _save(self._latest, int(metadata["step"]), items, metadata)

    def save_best(self, state: TrainState, metadata: Mapping[str, Any]) -> None:
        """Saves the weights (averaged and not) in place of the best ones so far."""
        _save(self._best, int(metadata["step"]), {"variables": self._variables(state)[0]}, metadata)

    def restore(self, target: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The latest state and its metadata.

        Args:
            target: a state of the run as it is now configured, for its structure.

        Returns:
            The state with numpy leaves, bit for bit as saved.

        Raises:
            CheckpointError: if a file is damaged, or a leaf is missing, left over, or of another
                shape or dtype.
        """
        step = self._latest.latest_step()
        if step is None:
            raise CheckpointError(f"{self.directory} holds no state to resume from")
        stored = _read_items(self._latest, step, ("variables", "optimizer"))
        source = f"{self.directory}/latest/{step}"
        for path in [path for path in stored if path.startswith(f"{UNMERGED}/")]:
            stored[path.removeprefix(f"{UNMERGED}/")] = stored.pop(path)
        return _fill(target, stored, source), _read_metadata(self._latest, step)

    def latest_metadata(self) -> dict[str, Any] | None:
        """Metadata of the latest state, None before the first save."""
        step = self._latest.latest_step()
        return None if step is None else _read_metadata(self._latest, step)

    def _variables(self, state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
        """The variables of the model, and those leaves of the state that merging changes."""
        merged = dataclasses.replace(
            state, params=self._merge(state.params), ema_params=self._merge(state.ema_params)
        )
        before = flatten({name: getattr(state, name) for name in VARIABLES})
        after = flatten({name: getattr(merged, name) for name in VARIABLES})
        changed = {path: leaf for path, leaf in before.items() if after.get(path) is not leaf}
        return nested(after), nested(changed)

    def close(self) -> None:
        """Releases the directories."""
        self._latest.close()
        self._best.close()


def load_checkpoint(
    directory: str | Path, which: Which = "best", *, averaged: bool = True
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights and metadata of a run, without its config.

    Args:
        directory: a run directory, the ``checkpoints`` directory in it, that of several seeds, the
            best of which by validation is taken, or the name of weights that come with the package
            or of a published checkpoint, which is fetched and converted.
        which: "best" by validation, or "latest".
        averaged: the exponential moving average of the parameters, which validation used,
            instead of the parameters themselves.

    Returns:
        {"params", "scale_factors"} of numpy arrays, and the metadata.

    Raises:
        CheckpointError: if there is no such checkpoint, or a damaged one.
    """
    if is_packaged(directory):
        return packaged_weights(directory)
    with _opened(directory, which) as (manager, step):
        stored = nested(_read_items(manager, step, ("variables",)))
        metadata = _read_metadata(manager, step)
    return {
        "params": stored["ema_params" if averaged else "params"],
        "scale_factors": stored.get("scale_factors", {}),
    }, metadata


def read_metadata(directory: str | Path, which: Which = "best") -> dict[str, Any]:
    """Metadata of a run's checkpoint, as :func:`load_checkpoint` returns it, alone.

    Raises:
        CheckpointError: if there is no such checkpoint, or a damaged one.
    """
    if is_packaged(directory):
        return packaged_metadata(directory)
    with _opened(directory, which) as (manager, step):
        return _read_metadata(manager, step)


def save_converted(
    directory: str | Path,
    params: Mapping[str, Any],
    ema_params: Mapping[str, Any],
    scale_factors: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> None:
    """Writes weights that no run of ours made as a run's best checkpoint, whole or not at all.

    Args:
        directory: directory to make; it may exist if it is empty.
        params: parameters of the model, numpy arrays.
        ema_params: averages of them; the same arrays where there are none.
        scale_factors: scale factors of the model.
        metadata: metadata as runs write it; "step" names the checkpoint.

    Raises:
        CheckpointError: if the directory holds something.
    """
    directory = Path(directory).resolve()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise CheckpointError(f"{directory} exists and is not empty; give a new directory")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as made:
        whole = Path(made) / "checkpoint"
        manager = _manager(whole / "best")
        weights = {"params": params, "ema_params": ema_params, "scale_factors": scale_factors}
        # Models without scale factors have an empty tree, which Orbax does not store.
        items = {"variables": {name: tree for name, tree in weights.items() if tree}}
        _save(manager, int(metadata["step"]), items, metadata)
        manager.close()
        whole.replace(directory)


def load_backbone(
    variables: Mapping[str, Any], source: Mapping[str, Any], name: str = "the checkpoint"
) -> dict[str, Any]:
    """``variables`` with the backbone, and only the backbone, of ``source``.

    Args:
        variables: {"params", "scale_factors"} of the model to be finetuned; its heads are kept.
        source: {"params", "scale_factors"} as :func:`load_checkpoint` returns; its heads are
            left out.
        name: name of the source in errors.

    Raises:
        CheckpointError: if a leaf of the two backbones is missing, left over, or of another
            shape or dtype.
    """
    result = {}
    for collection in ("params", "scale_factors"):
        target, given = dict(variables[collection]), source[collection]
        if "backbone" in target or "backbone" in given:
            stored = flatten({"backbone": given.get("backbone", {})})
            wanted = {"backbone": target.get("backbone", {})}
            target.update(_fill(wanted, stored, f"{collection} of {name}"))
        result[collection] = target
    return result


def _manager(directory: Path, *, writable: bool = True) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=1 if writable else None,
        create=writable,
        cleanup_tmp_directories=writable,
        save_root_metadata=writable,
        enable_async_checkpointing=False,
    )
    handlers = {
        "variables": ocp.PyTreeCheckpointHandler(),
        "optimizer": ocp.PyTreeCheckpointHandler(),
        "metadata": ocp.JsonCheckpointHandler(),
    }
    return ocp.CheckpointManager(directory, options=options, item_handlers=handlers)


@contextlib.contextmanager
def _opened(directory: str | Path, which: Which) -> Iterator[tuple[ocp.CheckpointManager, int]]:
    """The manager of an existing checkpoint, closed at the end, and its step."""
    root = checkpoint_folder(directory, which)
    with _explained(root / which):
        manager = _manager(root / which, writable=False)
    with contextlib.closing(manager):
        step = manager.latest_step()
        if step is None:
            other = "latest" if which == "best" else "best"
            empty = f"{root / which} is empty; nothing was saved there, try '{other}'"
            raise CheckpointError(empty)
        yield manager, step


def _select(state: TrainState, names: tuple[str, ...]) -> dict[str, Any]:
    return nested(flatten({name: getattr(state, name) for name in names}))


def _save(
    manager: ocp.CheckpointManager,
    step: int,
    items: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> None:
    # A resumed run comes past steps that it has saved before. The state is the same then, unless
    # the run goes on with other settings.
    again = step in manager.all_steps()
    if again and _timeless(_read_metadata(manager, step)) == _timeless(metadata):
        return
    arguments = {name: ocp.args.PyTreeSave(item) for name, item in items.items()}
    folder = Path(manager.directory) / str(step)
    try:
        _check_space(folder.parent, items)
        if again:  # not before there is room for both
            manager.delete(step)
        manager.save(
            step,
            args=ocp.args.Composite(**arguments, metadata=ocp.args.JsonSave(dict(metadata))),
            force=True,
        )
        if jax.process_index() == 0:
            write_checksums(folder)
    # Orbax and its libraries have no common error.
    except Exception as error:
        # Else it would print another for every array that was not written, whenever it forgets it.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        if jax.process_index() == 0:
            for left in folder.parent.glob(f"{step}.*-tmp*"):
                shutil.rmtree(left, ignore_errors=True)
        raise CheckpointError(
            f"{folder} cannot be written ({_reason(error)}); the checkpoint before it stays, and"
            " the same command goes on from there when the fault is mended"
        ) from error


def _check_space(folder: Path, items: Mapping[str, Any]) -> None:
    """Raise an OSError where a checkpoint does not fit; Orbax's threads write on after an error."""
    leaves = jax.tree.leaves(dict(items))
    # Arrays, and at most what Orbax and the file system add for a checkpoint and for each of them.
    needed = sum(leaf.nbytes for leaf in leaves) + OVERHEAD + OVERHEAD_OF_LEAF * len(leaves)
    disk = os.statvfs(folder)
    room = disk.f_bavail * disk.f_frsize
    if room < needed:
        raise OSError(f"{os.strerror(errno.ENOSPC)}: {room:,} bytes are left, it needs {needed:,}")


def _timeless(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as read from disk, without the time that the training took."""
    plain = json.loads(json.dumps(dict(metadata)))
    return {name: value for name, value in plain.items() if name != "seconds"}


def _read_items(
    manager: ocp.CheckpointManager, step: int, items: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Leaves of stored items by path."""
    leaves = {}
    # Orbax looks into every item for the metadata of one.
    with _explained(Path(manager.directory) / str(step)):
        for item in items:
            described = manager.item_metadata(step)[item]
            if described is None:
                raise CheckpointError(f"{manager.directory}/{step} has no '{item}'; {_MEND}")
            tree = getattr(described, "tree", described)
            restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            arguments = ocp.args.PyTreeRestore(restore_args=restore_args)
            restored = manager.restore(step, args=ocp.args.Composite(**{item: arguments}))
            leaves |= flatten(restored[item])
    return leaves


def _read_metadata(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    with _explained(Path(manager.directory) / str(step), "metadata"):
        arguments = ocp.args.Composite(metadata=ocp.args.JsonRestore())
        metadata = manager.restore(step, args=arguments)["metadata"]
        if not isinstance(metadata, dict):
            raise CheckpointError(f"{manager.directory}/{step} has no metadata; {_MEND}")
        return metadata


@contextlib.contextmanager
def _explained(folder: Path, item: str | None = None) -> Iterator[None]:
    """Compares the checksums of all items, or of one, first, and names the place of any error."""
    try:
        compare_checksums(folder, _MEND, within=item)
        yield
    except CheckpointError:
        raise
    except DamagedFile as error:
        raise CheckpointError(str(error)) from error
    # Orbax and its libraries have no common error.
    except Exception as error:
        raise CheckpointError(f"{folder} cannot be read ({_reason(error)}); {_MEND}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    system = re.search(r"os_error_code='(\d+)'", text)
    if system is not None:
        return os.strerror(int(system[1]))
    return text[:200] or type(error).__name__


def _fill(target: Any, stored: Mapping[str, np.ndarray], source: str) -> Any:
    """``target`` with every leaf replaced by the stored one of the same path."""
    problems = misfits(target, stored)
    if problems:
        raise CheckpointError(
            f"{source}: {len(problems)} leaves do not fit this model ({len(flatten(target))} "
            f"leaves):\n  {listed(problems)}\n"
            "Use the model settings that the checkpoint was made with."
        )
    return fill(target, stored)
