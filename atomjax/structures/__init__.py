"""Labelled structures: what they are, where they come from, how labels are scaled.

Numpy only; nothing here imports JAX.
"""

from atomjax.structures.references import PropertyScale, References, ReferencesError
from atomjax.structures.structure import Structure, StructureError

__all__ = ["PropertyScale", "References", "ReferencesError", "Structure", "StructureError"]
