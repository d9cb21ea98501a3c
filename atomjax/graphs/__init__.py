"""Structures as graphs of static shape: edges, interaction graphs, capacities and batches."""

from atomjax.graphs.batch import (
    AtomToAtomGraph,
    AtomToEdgeGraph,
    GraphBatch,
    QuadrupletGraph,
    Slots,
    Targets,
)
from atomjax.graphs.capacity import Capacity, CapacityError, Sizes, fit_capacity
from atomjax.graphs.dataset import GraphDataset
from atomjax.graphs.inference import GrowingShape
from atomjax.graphs.interactions import (
    GraphConfig,
    InteractionGraphs,
    build_interactions,
    build_many,
)
from atomjax.graphs.mixture import MixtureKind, mixture_shares, share_out
from atomjax.graphs.neighbors import Edges, GraphError
from atomjax.graphs.packing import Labels, pack, pack_structures, read_labels
from atomjax.graphs.pipeline import BatchLoader
from atomjax.graphs.planning import Plan, plan_batches, split_batch

__all__ = [
    "AtomToAtomGraph",
    "AtomToEdgeGraph",
    "BatchLoader",
    "Capacity",
    "CapacityError",
    "Edges",
    "GraphBatch",
    "GraphConfig",
    "GraphDataset",
    "GraphError",
    "GrowingShape",
    "InteractionGraphs",
    "Labels",
    "MixtureKind",
    "Plan",
    "QuadrupletGraph",
    "Sizes",
    "Slots",
    "Targets",
    "build_interactions",
    "build_many",
    "fit_capacity",
    "mixture_shares",
    "pack",
    "pack_structures",
    "plan_batches",
    "read_labels",
    "share_out",
    "split_batch",
]
