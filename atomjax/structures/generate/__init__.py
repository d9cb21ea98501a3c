"""Labelled structures made here, with real physics or a published model: no download needed.

    structures = generate({"kind": "conformers", "count": 2000, "seed": 0})

Kinds, each a module with its ``Options``: `conformers` (ANI-1x's image), `dimers` (S66x8's),
`reactions` (Transition-1x's), `dynamics` (rMD17's), `properties` (QM9's), all by GFN2-xTB; `slabs`
(OC20's) by EMT; `oxides` (OC22's) by GFN1-xTB; `crystals` (MPtrj's) by CHGNet, a model.
"""

from atomjax.structures.generate.errors import GenerateError
from atomjax.structures.generate.sets import (
    GenerateReport,
    GenerateSpec,
    cache_path,
    default_cache_dir,
    generate,
    generate_with_report,
)

__all__ = [
    "GenerateError",
    "GenerateReport",
    "GenerateSpec",
    "cache_path",
    "default_cache_dir",
    "generate",
    "generate_with_report",
]
