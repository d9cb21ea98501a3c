"""Batches to apply a model to: few shapes for structures that come in any number, at any time."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from atomjax.batching.dataset import GraphDataset
from atomjax.batching.loader import BatchLoader
from atomjax.graphs.batch import GraphBatch
from atomjax.graphs.capacity import (
    FIELDS,
    Capacity,
    CapacityError,
    Sizes,
    fit_capacity,
    in_one_tier,
    shared_capacity,
)
from atomjax.graphs.interactions import GraphConfig, InteractionGraphs, build_many
from atomjax.graphs.packing import pack
from atomjax.structures import Structure

# Batches whose graphs are held at a time.
_WINDOW = 16
# Batches that take no longer than to compile a program for their shape.
_SMALL = 32
# Atoms of a structure in a shared shape, on average.
_ATOMS = 16


def single_pass(
    dataset: GraphDataset, batch_size: int, num_devices: int = 1, **options: Any
) -> BatchLoader:
    """Batches of every structure of a data set once.

    Small sets have a coarse shape, which others like them share, so that a program is compiled for
    all of them once. What does not fit into it goes into further batches.
    """
    most, fixed = min(batch_size, len(dataset)), {**options, "shuffle": False}
    if len(dataset) <= _SMALL * batch_size:
        share = -(-batch_size // num_devices)
        shared = shared_capacity(dataset.sizes, share, _ATOMS * share)
        # No more than whose edges and atoms fit; as many batches make the same plan.
        needed = [dataset.sizes.column(name).mean() for name in ("n_edge", "n_node")]
        room = num_devices * min(np.divide((shared.n_edge, shared.n_node), np.maximum(needed, 1)))
        fewest = -(-len(dataset) // max(min(most, int(room)), 1))
        sizes = (-(-len(dataset) // count) for count in range(fewest, len(dataset) + 1))
        for size in dict.fromkeys(sizes):
            loader = BatchLoader(
                [dataset], batch_size=size, num_devices=num_devices, capacity=shared, **fixed
            )
            with contextlib.suppress(CapacityError):
                # All batches of an epoch this short are planned at once.
                loader.plans.step(0)
                return loader
    return BatchLoader([dataset], batch_size=most, num_devices=num_devices, **fixed)


class GrowingShape:
    """Packs structures into batches of one shape, which grows when structures need more.

    A function that is compiled for these batches is compiled again only when the shape has grown.

    Args:
        batch_size: most structures in a batch.
        slack: fraction by which the shape exceeds the needs of the present structures, for
            larger ones that come later.
        dtype: type of positions and edge vectors.

    Attributes:
        capacity: the present shape, None before the first batch.

    Raises:
        ValueError: the batch size is below 1, or the slack negative.
    """

    def __init__(self, batch_size: int, slack: float = 0.0, dtype: np.dtype | None = None):
        if batch_size < 1 or slack < 0:
            raise ValueError(f"batch_size {batch_size}, slack {slack}: give at least 1 and 0")
        self.batch_size, self.slack = batch_size, slack
        self.capacity: Capacity | None = None
        self._dtype = np.dtype(dtype or np.float32)

    def batches(
        self, structures: Sequence[Structure], graph: GraphConfig
    ) -> Iterator[tuple[np.ndarray, GraphBatch]]:
        """Batches of every structure once, sorted by size to keep padding small.

        Yields:
            Positions in ``structures`` of those in the batch, and the batch.

        Raises:
            GraphError: the graph of a structure cannot be built.
        """
        if not len(structures):
            return
        order = np.argsort([len(s) for s in structures], kind="stable")
        size, step = self.batch_size, self.batch_size * _WINDOW
        windows = [order[i : i + step] for i in range(0, len(order), step)]
        groups = [np.arange(i, min(i + size, len(order))) for i in range(0, len(order), size)]

        def build(window: np.ndarray) -> list[InteractionGraphs]:
            return build_many([structures[i] for i in window], graph)

        # All batches decide the shape, and the graphs of all might not fit into memory: where there
        # are many, they are built once to be measured and once to be packed.
        graphs, sizes = [], []
        for window in windows:
            graphs = build(window)
            sizes.append(Sizes.measure(graphs))
        capacity = self._fit(Sizes.concatenate(sizes).needs(groups))
        for window in windows:
            if len(windows) > 1:
                graphs = build(window)
            for i in range(0, len(window), size):
                own = [structures[j] for j in window[i : i + size]]
                parts = graphs[i : i + size]
                batch = pack(parts, own, capacity, dtype=self._dtype, kind=graph.kind)
                yield window[i : i + size], batch

    def _fit(self, needs: np.ndarray) -> Capacity:
        """The present shape if it holds these batches, else one that holds them and all before."""
        most = needs.max(axis=0)
        if self.capacity is None or (most > self.capacity.limits).any():
            grown = in_one_tier(np.ceil(most * (1 + self.slack)).astype(np.int64))
            grown[FIELDS.index("n_graph")] = most[FIELDS.index("n_graph")]
            if self.capacity is not None:
                grown = np.maximum(grown, self.capacity.limits)
            self.capacity = fit_capacity(grown[None])
        return self.capacity
