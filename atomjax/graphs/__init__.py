"""Structures as graphs of static shape: edges, interaction graphs, capacities and batches."""

from atomjax.graphs.batch import (
    AtomToAtomGraph,
    AtomToEdgeGraph,
    GraphBatch,
    QuadrupletGraph,
    Targets,
)
from atomjax.graphs.capacity import Capacity, CapacityError, Sizes, fit_capacity
from atomjax.graphs.config import GraphConfig
from atomjax.graphs.interactions import (
    InteractionGraphs,
    build_given,
    build_interactions,
    build_many,
)
from atomjax.graphs.neighbors import Edges, GraphError
from atomjax.graphs.packing import Labels, pack, pack_structures, read_labels

__all__ = [
    "AtomToAtomGraph",
    "AtomToEdgeGraph",
    "Capacity",
    "CapacityError",
    "Edges",
    "GraphBatch",
    "GraphConfig",
    "GraphError",
    "InteractionGraphs",
    "Labels",
    "QuadrupletGraph",
    "Sizes",
    "Targets",
    "build_given",
    "build_interactions",
    "build_many",
    "fit_capacity",
    "pack",
    "pack_structures",
    "read_labels",
]
