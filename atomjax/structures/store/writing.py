"""Structures that a program has at hand, as a store."""

import itertools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from atomjax.structures.store.merge import MANIFEST, StoreError, merge_shards
from atomjax.structures.store.records import Precision
from atomjax.structures.store.shards import write_shard
from atomjax.structures.store.store import Store
from atomjax.structures.structure import Structure

SHARD_SIZE = 1 << 18


def write_store(
    directory: str | os.PathLike[str],
    structures: Iterable[Structure],
    *,
    precision: Precision = "float32",
    shard_size: int = SHARD_SIZE,
    origin: Mapping[str, Any] | None = None,
) -> Store:
    """Write structures as a store; files are converted by `convert`, in parallel.

    Args:
        directory: store directory to make; it may exist if it is empty.
        structures: gone through once.
        precision: type of positions and forces; energies and cells keep float64.
        shard_size: structures in a file.
        origin: JSON values to keep in the manifest.

    Raises:
        StoreError: the folder holds something, or there is no structure.
    """
    target = Path(directory)
    if target.exists() and any(target.iterdir()):
        state = "holds a store" if (target / MANIFEST).exists() else "is not empty"
        raise StoreError(f"{target} {state}; give a new folder")
    stream, names = iter(structures), []
    while (first := next(stream, None)) is not None:
        names.append(f"0000-{len(names):06d}")
        run = itertools.islice(stream, shard_size - 1)
        write_shard(target, names[-1], itertools.chain([first], run), precision, [])
    merge_shards(target, names, precision, origin or {"kind": "written"})
    return Store(target)
