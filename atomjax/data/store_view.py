"""A data set whose structures stay in a store: read, and turned into graphs, batch by batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.batching import GraphDataset
from atomjax.batching.size_table import SizeTable
from atomjax.batching.store_sizes import sizes_path, stored_table
from atomjax.graphs import GraphConfig
from atomjax.graphs.capacity import Sizes
from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.runtime.subprocesses import available_cores
from atomjax.structures.readers import RecordNotes
from atomjax.structures.references import References
from atomjax.structures.store import Store, StoreError
from atomjax.structures.structure import Structure


class StoredDataset(GraphDataset):
    """`GraphDataset` over a store; graphs are not kept and sizes are those kept in the store.

    Args:
        name: name of the data set.
        structures: the store, or a part of it.
        graph_config: cutoffs, neighbour limits and edge dropout.
        run: shows the progress where sizes have to be measured first.
        workers: processes for that; 0 means one per core.
        **fields: as for `GraphDataset`.
    """

    def __init__(
        self,
        name: str,
        structures: Store,
        graph_config: GraphConfig,
        *,
        run: Run,
        workers: int = 0,
        **fields: Any,
    ):
        super().__init__(name, structures, graph_config, cache_bytes=0, **fields)
        self._store, self._workers = structures, workers or available_cores()
        self._run: Run | None = run

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes find the tables measured and have nothing to show.
        return {**super().__getstate__(), "_run": None}

    @property
    def sizes(self) -> Sizes:
        """Sizes of all structures, without edge dropout; reads the whole table."""
        return self.size_table().everything()

    def size_table(self, seed: int | None = None) -> SizeTable:
        """Sizes of all structures, mapped; under one draw of the edge dropout with a ``seed``."""
        drawn = None
        if seed is not None and self.graph_config.edge_dropout > 0:
            drawn = self._measured(seed)
        return SizeTable(self._measured(None), drawn, self._store.indices)

    def _measured(self, seed: int | None) -> np.ndarray:
        if self._run is None:
            return stored_table(self._store, self.graph_config, seed=seed)
        # One process measures; the others find the table.
        with self._run.primary_first(f"sizes {self.name}"):
            if sizes_path(self._store, self.graph_config, seed).exists():
                return stored_table(self._store, self.graph_config, seed=seed)
            total = sum(shard["structures"] for shard in self._store.manifest["shards"])
            with self._run.progress(total, f"sizes of {self.name}") as tracker:
                return stored_table(
                    self._store,
                    self.graph_config,
                    seed=seed,
                    workers=self._workers,
                    told=tracker.advance,
                )


def open_store(name: str, path: str | None, notes: RecordNotes | None = None) -> Store:
    """The store of a data set of kind "store".

    Raises:
        ConfigError: there is none, or its index is damaged.
    """
    try:
        store = Store(Path(path or "").expanduser())
    except StoreError as error:
        raise ConfigError(f"dataset '{name}': {error}") from error
    if notes is not None and "notes" in store.manifest:
        notes.merge(store.manifest["notes"])
    return store


def describe_store(store: Store) -> str:
    """Origin of a store's structures, and the number of records left out, in words."""
    origin, skipped = store.manifest["origin"], store.manifest["skipped"]["count"]
    names = ", ".join(Path(path).name for path in origin.get("paths", ())) or "structures"
    source = f" ({origin['source']})" if origin.get("source") else ""
    without = f", without {skipped:,} damaged records" if skipped else ""
    kind = f"; {origin['energy_kind']} energies" if origin.get("energy_kind") else ""
    return f"store {store.path.name}, made of {names}{source}{without}; eV, Å{kind}"


def make_dataset(
    name: str,
    structures: Sequence[Structure],
    config: GraphConfig,
    *,
    run: Run,
    workers: int,
    **fields: Any,
) -> GraphDataset:
    """A data set over structures in memory or in a store."""
    if isinstance(structures, Store):
        return StoredDataset(name, structures, config, run=run, workers=workers, **fields)
    return GraphDataset(name, structures, config, **fields)


def fit_references(structures: Sequence[Structure], conservative: bool) -> References:
    """References of a training set; those of a whole store are kept in it."""
    if isinstance(structures, Store):
        return structures.references(conservative=conservative)
    return References.fit(structures, conservative=conservative)


def with_target(structures: Sequence[Structure], name: str) -> Sequence[Structure]:
    """The structures of a store that have a target, by its index; others as they are."""
    if isinstance(structures, Store):
        return structures.subset(np.flatnonzero(structures.with_target(name))) or structures
    return structures


def select(structures: Sequence[Structure], indices: np.ndarray) -> Sequence[Structure]:
    """Some structures; those of a store stay where they are."""
    if isinstance(structures, Store):
        return structures.subset(indices)
    return [structures[i] for i in indices]
