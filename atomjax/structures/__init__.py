"""Labelled structures: their definition, readers and generators, and the scaling of labels.

Numpy only; nothing here imports JAX. `atomjax.structures.readers` reads files and
`atomjax.structures.generate` labels new structures with physics.
"""

from atomjax.structures.archive import ArchiveError, load_archive, save_archive
from atomjax.structures.element_fit import ReferencesWarning
from atomjax.structures.element_tables import ReferencesError
from atomjax.structures.properties import ClassLabels, PropertyScale, TargetScale
from atomjax.structures.references import References
from atomjax.structures.splits import SplitError, split_indices
from atomjax.structures.structure import Structure, StructureError

__all__ = [
    "ArchiveError",
    "ClassLabels",
    "PropertyScale",
    "References",
    "ReferencesError",
    "ReferencesWarning",
    "SplitError",
    "Structure",
    "StructureError",
    "TargetScale",
    "load_archive",
    "save_archive",
    "split_indices",
]
