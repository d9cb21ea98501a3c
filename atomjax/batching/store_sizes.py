"""Sizes of all graphs of a store, measured once in parallel and kept in it.

Planning batches needs the size of every graph, and building the graphs of a large set at each
start would take hours. The table lies in ``sizes/<hash>.npy`` in the store, of the graph config and
of the code that builds graphs, int32, and is mapped, not read. One that is damaged is measured
again.
"""

import contextlib
import dataclasses
import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.graphs.capacity import FIELDS, Sizes
from atomjax.graphs.interactions import GraphConfig, build_many
from atomjax.runtime.code import code_digest
from atomjax.runtime.files import DamagedFile, append_checksum, map_npy, replacing
from atomjax.runtime.lock import sole_use
from atomjax.runtime.subprocesses import WorkerError, run_workers, tell
from atomjax.structures.store import Store
from atomjax.structures.store.merge import StoreError

WORKER_MODULE = "atomjax.batching.store_sizes_worker"
# What builds the graphs.
CODE = "atomjax.graphs"
# Structures of a block: lost when a measurement is killed, and held in memory by a worker.
_BLOCK = 1 << 16
_CHUNK = 256
_MEND = "delete it; sizes are then measured again"


def stored_table(
    store: Store,
    config: GraphConfig,
    *,
    seed: int | None = None,
    workers: int = 1,
    told: Callable[[int], None] = lambda _: None,
) -> np.ndarray:
    """[T, fields] int32 sizes of the graphs of all T structures of a store, mapped.

    Args:
        store: the store, or a part of it; the table is that of the whole.
        config: settings for building the graphs.
        seed: seed of one draw of the edge dropout; None for graphs without dropout.
        workers: processes.
        told: called with the number of structures measured since the last call; never where
            the table is there already.

    Raises:
        StoreError: a graph cannot be built.
    """
    path = sizes_path(store, config, seed)
    with contextlib.suppress(FileNotFoundError, DamagedFile):
        return _map(store, path)
    # Trainings that run side by side may want the same table at once: one measures.
    with sole_use(path):
        try:
            return _map(store, path)
        except FileNotFoundError:
            pass
        except DamagedFile as error:
            warnings.warn(f"{error}: this is done now", stacklevel=2)
        _measure(store, path, config, seed, workers, told)
    return _map(store, path)


def _map(store: Store, path: Path) -> np.ndarray:
    table = map_npy(path, _MEND)
    total = sum(shard["structures"] for shard in store.manifest["shards"])
    if table.shape != (total, len(FIELDS)):
        raise DamagedFile(f"{path} has shape {table.shape}; {_MEND}")
    return table


def sizes_path(store: Store, config: GraphConfig, seed: int | None = None) -> Path:
    """Path of the size table of one kind of graphs."""
    fields = {**config.cache_key(), "fields": FIELDS, "seed": seed, "code": code_digest(CODE)}
    if seed is None:
        fields["edge_dropout"] = 0.0
    text = json.dumps(fields, sort_keys=True)
    return store.path / "sizes" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.npy"


def work(request: dict[str, Any]) -> None:
    """Measure the blocks of one worker; reports the number of structures measured."""
    store, folder = Store(request["store"]), Path(request["folder"])
    config = GraphConfig.from_dict(request["config"])
    for block in range(request["worker"], _num_blocks(len(store)), request["workers"]):
        path = _part(folder, block)
        part = store[block * _BLOCK : (block + 1) * _BLOCK]
        if path.exists():
            with contextlib.suppress(DamagedFile):
                map_npy(path, _MEND)
                tell(structures=len(part))
                continue
        tables = []
        for start in range(0, len(part), _CHUNK):
            structures = list(part[start : start + _CHUNK])
            first, rngs = block * _BLOCK + start, None
            if request["seed"] is not None:
                places = range(first, first + len(structures))
                rngs = [np.random.default_rng([request["seed"], i]) for i in places]
            graphs = build_many(structures, config, rngs)
            tables.append(Sizes.measure(graphs).table.astype(np.int32))
            tell(structures=len(structures))
        with replacing(path) as file:
            np.save(file, np.concatenate(tables), allow_pickle=False)
            append_checksum(file)


def _measure(
    store: Store,
    path: Path,
    config: GraphConfig,
    seed: int | None,
    workers: int,
    told: Callable[[int], None],
) -> None:
    whole = Store(store.path)
    folder = path.with_suffix(".parts")
    folder.mkdir(parents=True, exist_ok=True)
    blocks = _num_blocks(len(whole))
    workers = min(workers, blocks)
    request = {
        "store": str(store.path),
        "folder": str(folder),
        "config": dataclasses.asdict(config),
        "seed": seed,
        "workers": workers,
    }
    requests = [{**request, "worker": worker} for worker in range(workers)]
    try:
        run_workers(WORKER_MODULE, requests, lambda line: told(line["structures"]))
    except WorkerError as error:
        raise StoreError(
            f"{store.path}: sizes of the graphs cannot be measured: {error}"
        ) from error
    header = {"descr": "<i4", "fortran_order": False, "shape": (len(whole), len(FIELDS))}
    with replacing(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in range(blocks):
            file.write(map_npy(_part(folder, block), _MEND).data)
        append_checksum(file)
    shutil.rmtree(folder)


def _part(folder: Path, block: int) -> Path:
    return folder / f"{block:06d}.npy"


def _num_blocks(count: int) -> int:
    return -(-count // _BLOCK)
