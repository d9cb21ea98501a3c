"""Batches of data sets: plans, shapes, mixtures and the loader."""

from atomjax.batching.dataset import GraphDataset
from atomjax.batching.inference import GrowingShape, single_pass
from atomjax.batching.loader import BatchLoader
from atomjax.batching.mixture import MixtureKind, mixture_shares, share_out
from atomjax.batching.planning import Plan, plan_batches, split_batch

__all__ = [
    "BatchLoader",
    "GraphDataset",
    "GrowingShape",
    "MixtureKind",
    "Plan",
    "mixture_shares",
    "plan_batches",
    "share_out",
    "single_pass",
    "split_batch",
]
