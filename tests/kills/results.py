"""Digests of what a workflow has made, less what belongs to one start alone."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

# Times, how often this process has compiled, and the memory of a step where it has.
TRANSIENT = {
    "seconds",
    "wall_seconds",
    "extraction_seconds",
    "selection_seconds",
    "structures_per_second",
    "compilations",
    "compile_seconds",
    "step_bytes",
    "shapes_emitted",
    "checksum",
    "made",
    "started",
    "starts",
}
# Of one start, for people, or drawn from what is compared.
LEFT_OUT = ("run.lock", "versions.json", "log.txt", "events.", ".png", ".md", ".html", ".part.lock")
CHECKPOINTS = "checkpoints"


def digests(folder: Path) -> dict[str, str]:
    """A digest for every file, and for every checkpoint, by its path in a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name == CHECKPOINTS:
            found[name] = _digest_of_checkpoints(path)
        elif path.is_file() and CHECKPOINTS not in path.parts and not _is_left_out(path):
            found[name] = _digest_of_file(path, folder)
    return found


def temporary_files(folder: Path) -> list[str]:
    """Files and folders that were being written, by their names."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if (path.name.startswith(".") and path.name != ".reading") or "-tmp" in path.name
    )


def _is_left_out(path: Path) -> bool:
    return any(path.name.startswith(one) or path.name.endswith(one) for one in LEFT_OUT)


def _digest_of_file(path: Path, folder: Path) -> str:
    value = hashlib.sha256()
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            for name in sorted(arrays.files):
                _add(value, name, arrays[name])
    elif path.suffix in (".json", ".jsonl"):
        for line in [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines():
            text = json.dumps(_lasting(json.loads(line)), sort_keys=True)
            value.update(text.replace(str(folder), "").encode())
    elif path.suffix == ".csv":
        lines = path.read_text().splitlines()
        value.update("\n".join(line for line in lines if ",seconds," not in line).encode())
    else:
        value.update(path.read_bytes())
    return value.hexdigest()


def _digest_of_checkpoints(path: Path) -> str:
    import jax

    from atomjax.training.running.checkpoint import load_checkpoint

    value = hashlib.sha256()
    for which in ("latest", "best"):
        for averaged in (True, False):
            variables, metadata = load_checkpoint(path, which, averaged=averaged)
            for keys, leaf in jax.tree_util.tree_leaves_with_path(variables):
                _add(value, jax.tree_util.keystr(keys), np.asarray(leaf))
            value.update(json.dumps([metadata["step"], metadata["record"]]).encode())
    return value.hexdigest()


def _add(value: Any, name: str, array: np.ndarray) -> None:
    value.update(f"{name} {array.dtype} {array.shape}".encode())
    value.update(np.ascontiguousarray(array).tobytes())


def _lasting(data: Any) -> Any:
    if isinstance(data, dict):
        return {k: _lasting(v) for k, v in data.items() if k not in TRANSIENT}
    if not isinstance(data, list):
        return data
    # Rows of a study hold the wall time of each point, too.
    return [_lasting(v) for v in data if not (isinstance(v, list) and "seconds" in v)]
