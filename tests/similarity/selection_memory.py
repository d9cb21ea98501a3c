"""Peak memory of a selection from a store of small molecules; run by a test, once a size."""

import resource
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from atomjax.graphs import GraphConfig
from atomjax.runtime.run import Run
from atomjax.similarity.features.cache import SetExtractor, View
from atomjax.similarity.settings import SimilaritySettings
from atomjax.similarity.workflow.selection_job import select_structures
from atomjax.structures import Structure
from atomjax.structures.store import write_store

# Picked of the candidates; few, so that what is measured is what all of them take.
SIZE = 10
WIDTH = 64


def cheap_extractor() -> Any:
    """Waves of the positions for features: a network's would take minutes."""
    waves = jax.random.normal(jax.random.key(0), (3, WIDTH))
    return SimpleNamespace(
        name="waves",
        digest="waves",
        variables={"waves": waves},
        graph=GraphConfig(kind="nearest", cutoff=3.0),
        compile=lambda mesh: lambda variables, batch: jnp.sin(batch.positions @ variables["waves"]),
        invariant=lambda values, kind: values,
        check_elements=lambda structures, name: None,
    )


def molecule(number: int) -> Structure:
    rng = np.random.default_rng(number)
    numbers = rng.choice([1, 6, 8], 3)
    positions = np.array([[0, 0, 0], [1.1, 0, 0], [-0.3, 1.2, 0]]) + rng.normal(0, 0.1, (3, 3))
    return Structure(atomic_numbers=numbers, positions=positions, energy=float(numbers.sum()))


def make_store(path: Path, count: int, seed: int = 0) -> Path:
    write_store(path, (molecule(seed + i) for i in range(count)))
    return path


def main(upstream: Path, task: Path, workdir: Path) -> None:
    config = {
        "workflow": "csi",
        "candidates": [{"name": "large", "kind": "store", "path": str(upstream)}],
        "downstream": [{"name": "task", "kind": "store", "path": str(task)}],
        "extractor": {"batch_size": 64},
        "sampling": {"strategy": "random", "size": 50},
        "aggregations": ["flat"],
        "invariants": ["none"],
        "resamples": 10,
        "select": {"size": SIZE},
    }
    settings = SimilaritySettings.from_config(config)
    run = Run(workdir, console=Console(quiet=True))
    sets = SetExtractor(settings, cheap_extractor(), run)
    target = sets.extract(settings.tasks[0], View(downstream=True))
    selection = select_structures(settings, sets, target, "large", run)
    assert selection.size == SIZE
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
