"""A data set for the loader: structures with their graphs and labels."""

import dataclasses
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from atomjax.batching.size_table import SizeTable
from atomjax.graphs.capacity import Sizes
from atomjax.graphs.interactions import GraphConfig, InteractionGraphs, build_many
from atomjax.graphs.neighbors import GraphError
from atomjax.graphs.packing import Labels, read_labels
from atomjax.structures.properties import TargetScale
from atomjax.structures.references import References
from atomjax.structures.structure import Structure

_BLOCK = 256


class GraphDataset:
    """Structures of one data set with their graphs, built when first needed.

    Graphs without edge dropout are kept in memory up to a limit, so that later epochs only pack.

    Args:
        name: name of the data set.
        structures: the structures; anything with a length and indexing.
        graph_config: cutoffs, neighbour limits and edge dropout.
        references: references subtracted from energies and forces; None leaves them as they are.
        scales: properties to train on.
        stress: whether to train on stresses, too.
        fixed_atoms: whether the forces of atoms that are held fixed count.
        index: number of the data set's head; its place in the loader's list if None.
        cache_bytes: most memory for graphs.

    Raises:
        ValueError: there are no structures.
    """

    def __init__(
        self,
        name: str,
        structures: Sequence[Structure],
        graph_config: GraphConfig | None = None,
        *,
        references: References | None = None,
        scales: Sequence[TargetScale] = (),
        stress: bool = False,
        fixed_atoms: bool = False,
        index: int | None = None,
        cache_bytes: int = 2 * 1024**3,
    ):
        if not len(structures):
            raise ValueError(f"data set {name!r} has no structures; check its reader and split")
        self.name = name
        self.structures = structures
        self.graph_config = GraphConfig() if graph_config is None else graph_config
        self.references = references
        self.scales = tuple(scales)
        self.stress = stress
        self.fixed_atoms = fixed_atoms
        self.index = index
        self._cache: dict[int, InteractionGraphs] = {}
        self._drawn: dict[int, np.ndarray] = {}
        self._cache_bytes = self._free_bytes = cache_bytes
        self._builders = 1
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        # Another process builds its own graphs, and has its own lock.
        free = {"_free_bytes": self._cache_bytes // self._builders}
        return {**self.__dict__, "_cache": {}, "_lock": None, **free}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def leave_to(self, builders: int) -> None:
        """Leave the memory for graphs to that many processes, which build them instead."""
        with self._lock:
            self._cache.clear()
            self._free_bytes, self._builders = 0, builders

    def __len__(self) -> int:
        return len(self.structures)

    def identify(self, index: int) -> str:
        """Name of a structure in messages."""
        return self.structure(index).identifier or f"{self.name}[{index}]"

    def structure(self, index: int) -> Structure:
        """One structure.

        Raises:
            GraphError: it cannot be read.
        """
        try:
            return self.structures[index]
        except Exception as error:
            raise GraphError(
                f"structure {index} of data set {self.name!r} cannot be read "
                f"({type(error).__name__}: {error}); check the file that it comes from"
            ) from error

    def graphs(
        self,
        indices: Iterable[int],
        rngs: Sequence[np.random.Generator] | None = None,
        structures: Mapping[int, Structure] | None = None,
    ) -> list[InteractionGraphs]:
        """Graphs of some structures.

        Args:
            indices: indices of the structures.
            rngs: source of the edge dropout of each; without it no edge is dropped.
            structures: those of them that were read already, so that they are not read again.

        Raises:
            GraphError: a graph cannot be built; names the structure.
        """
        indices = [int(i) for i in indices]
        if rngs is not None and self.graph_config.edge_dropout > 0:
            return self._build(indices, rngs, structures)
        missing = [i for i in indices if i not in self._cache]
        built = dict(zip(missing, self._build(missing, None, structures), strict=True))
        self._keep(built)
        return [built[i] if i in built else self._cache[i] for i in indices]

    def labels(self, index: int, dataset: int, structure: Structure | None = None) -> Labels:
        """Labels of a structure in training units, as one of data set number ``dataset``.

        Raises:
            ReferencesError: an element without a reference, or a property that is missing.
        """
        labels = read_labels(
            self.structure(index) if structure is None else structure,
            references=self.references,
            scales=self.scales,
            dataset=dataset,
            index=index,
        )
        return dataclasses.replace(labels, fixed_atoms=self.fixed_atoms)

    @property
    def label_metadata(self) -> dict[str, Any]:
        """References and property scales as JSON."""
        return {
            "references": None if self.references is None else self.references.to_dict(),
            "properties": [scale.to_dict() for scale in self.scales],
        }

    @cached_property
    def sizes(self) -> Sizes:
        """Sizes of all structures, without edge dropout."""
        return self.measure(np.arange(len(self)))

    def measure(self, indices: np.ndarray) -> Sizes:
        """Sizes of some structures, without edge dropout; builds their graphs."""
        blocks = (indices[i : i + _BLOCK] for i in range(0, len(indices), _BLOCK))
        return Sizes.concatenate(Sizes.measure(self.graphs(block)) for block in blocks)

    def size_table(self, seed: int | None = None) -> SizeTable:
        """Sizes of all structures; under one draw of the edge dropout with a ``seed``."""
        if seed is None or self.graph_config.edge_dropout == 0:
            return SizeTable(self.sizes.table)
        if seed not in self._drawn:
            parts = []
            for start in range(0, len(self), _BLOCK):
                block = range(start, min(start + _BLOCK, len(self)))
                rngs = [np.random.default_rng([seed, i]) for i in block]
                parts.append(Sizes.measure(self.graphs(block, rngs)))
            self._drawn[seed] = Sizes.concatenate(parts).table
        return SizeTable(self.sizes.table, self._drawn[seed])

    def _build(
        self,
        indices: list[int],
        rngs: Sequence[np.random.Generator] | None,
        given: Mapping[int, Structure] | None,
    ) -> list[InteractionGraphs]:
        given = given or {}
        structures = [given[i] if i in given else self.structure(i) for i in indices]
        try:
            return build_many(structures, self.graph_config, rngs)
        except GraphError:
            raise
        except Exception:
            # Find the structure behind a failure that does not name it.
            for index, structure in zip(indices, structures, strict=True):
                self._build_one(index, structure)
            raise

    def _build_one(self, index: int, structure: Structure):
        try:
            build_many([structure], self.graph_config)
        except Exception as error:
            raise GraphError(
                f"structure {self.identify(index)!r} of data set {self.name!r}: its graph cannot "
                f"be built ({type(error).__name__}: {error}); check its positions and cell, or "
                "leave it out"
            ) from error

    def _keep(self, built: dict[int, InteractionGraphs]):
        with self._lock:
            built = {i: graphs for i, graphs in built.items() if i not in self._cache}
            nbytes = sum(graphs.nbytes for graphs in built.values())
            if nbytes <= self._free_bytes:
                self._free_bytes -= nbytes
                self._cache.update(built)
