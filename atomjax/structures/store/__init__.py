"""Stores: labelled structures on disk with random access, checksums, an index and statistics."""

from atomjax.structures.store.conversion import convert
from atomjax.structures.store.merge import StoreError
from atomjax.structures.store.plan import Conversion
from atomjax.structures.store.statistics import StatisticsAccumulator
from atomjax.structures.store.store import Store
from atomjax.structures.store.writing import write_store

__all__ = [
    "Conversion",
    "StatisticsAccumulator",
    "Store",
    "StoreError",
    "convert",
    "write_store",
]
