"""A conversion on a Dask cluster: shares of it are tasks, which Dask deals out and repeats.

Scheduler and workers are Dask's own, however they were started (by hand, on Slurm, Kubernetes or
a cloud). What is made is what `convert` makes on one machine, to the byte, in a folder that all
workers and the caller share.
"""

import importlib
import os
from pathlib import Path
from typing import Any

from atomjax.runtime.progress import Display
from atomjax.structures.readers.layouts.structure_file import StructureFile
from atomjax.structures.store.conversion import (
    count_records,
    make_shards,
    open_source,
    with_declarations,
)
from atomjax.structures.store.merge import StoreError
from atomjax.structures.store.plan import (
    Conversion,
    begin,
    compare_files,
    compare_finished,
    finish_share,
    merge,
)
from atomjax.structures.store.store import Store

# A share that fails is tried again elsewhere, for machines that die.
_RETRIES = 3
# Shares for each thread of the cluster, so that fast ones take more.
_SHARES = 4


def convert_on_cluster(
    conversion: Conversion,
    directory: str | os.PathLike[str],
    scheduler: Any,
    *,
    display: Display | None = None,
) -> Store:
    """Convert files to a store by the workers of a Dask cluster.

    It goes on where an earlier call, or `convert`, was interrupted.

    Args:
        conversion: files and options; the paths must be the same for all workers.
        directory: directory of the store, shared by all workers.
        scheduler: address of the scheduler, or a cluster object of Dask's.
        display: shows progress.

    Raises:
        StoreError: Dask is missing, the folder holds something else, or a source cannot be read.
    """
    target = Path(directory).absolute()
    finished = compare_finished(target, conversion)
    if finished is not None:
        return finished
    distributed = _dask()
    conversion = with_declarations(conversion)
    total = count_records(conversion)
    begin(target, conversion)
    with distributed.Client(scheduler, set_as_default=False) as client:
        parts = _num_shares(conversion, total, sum(client.nthreads().values()))
        shares = [(part, parts) for part in range(parts)]
        futures = client.map(
            lambda shard: (shard, make_shards(conversion, target, shard)),
            shares,
            retries=_RETRIES,
            pure=False,
        )
        names: list[str] = []
        with (display or Display(None)).track(parts, "convert shares") as tracker:
            for future in distributed.as_completed(futures, loop=client.loop):
                error = future.exception()
                if isinstance(error, (ValueError, OSError)):
                    client.cancel(futures)
                    compare_files(target)
                    raise StoreError(str(error)) from error
                names += future.result()[1]
                tracker.advance(1)
    finish_share(target, (0, 1), names)
    return merge(target)


def _num_shares(conversion: Conversion, total: int, threads: int) -> int:
    """Number of tasks; each has to scan files without random access from their start."""
    shards = -(-total // conversion.shard_size)
    by_number = all(isinstance(open_source(conversion, p), StructureFile) for p in conversion.paths)
    return max(1, min(shards, threads * (_SHARES if by_number else 1)))


def _dask() -> Any:
    try:
        return importlib.import_module("distributed")
    except ModuleNotFoundError as error:
        raise StoreError(
            "a conversion on a cluster needs Dask: pip install 'atomjax[cluster]'"
        ) from error
