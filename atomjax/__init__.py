"""atomjax: data-efficient pretraining of atomic-property models in JAX.

model = atomjax.load("runs/mine")
results = model.predict("frames.xyz")
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomjax.inference.embeddings import features
    from atomjax.inference.model import Ensemble, Model, load
    from atomjax.inference.results import Predictions
    from atomjax.recipes.finetuning import finetune
    from atomjax.similarity.workflow.statistics_job import statistics
    from atomjax.similarity.workflow.table import CsiTable, csi
    from atomjax.structures.atlas import atlas

__version__ = "0.1.0"
__all__ = [
    "CsiTable",
    "Ensemble",
    "Model",
    "Predictions",
    "__version__",
    "atlas",
    "csi",
    "features",
    "finetune",
    "load",
    "statistics",
]

# Public names and the modules that define them, which need jax: importing atomjax alone does not.
_MODULES = {
    "CsiTable": "atomjax.similarity.workflow.table",
    "Ensemble": "atomjax.inference.model",
    "Model": "atomjax.inference.model",
    "Predictions": "atomjax.inference.results",
    "atlas": "atomjax.structures.atlas",
    "csi": "atomjax.similarity.workflow.table",
    "features": "atomjax.inference.embeddings",
    "finetune": "atomjax.recipes.finetuning",
    "load": "atomjax.inference.model",
    "statistics": "atomjax.similarity.workflow.statistics_job",
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'atomjax' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
