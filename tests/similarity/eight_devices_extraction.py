"""The job's extraction on eight devices against the extractor alone on one; run by a test."""

import functools
import sys
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from atomjax.batching import BatchLoader, GraphDataset
from atomjax.runtime.run import Run
from atomjax.similarity.features.cache import SetExtractor
from atomjax.similarity.features.collect import collect_features
from atomjax.similarity.features.extractor import load_extractor
from atomjax.similarity.settings import SimilaritySettings
from tests.similarity.test_job import make_config


def main(folder: Path) -> None:
    assert len(jax.devices()) == 8
    # 20 structures in batches of 10 on eight devices: some have one more than others.
    changes = {"aggregations": ["flat"], "invariants": ["none"]}
    config = make_config(folder, **changes, sampling={"strategy": "random", "size": 20})
    settings = SimilaritySettings.from_config(config)
    extractor = load_extractor(settings.extractor)
    run = Run(folder / "run", console=Console(quiet=True))
    sets = SetExtractor(settings, extractor, run)
    task = settings.tasks[0]
    together = sets.extract(task).features
    loader = BatchLoader(
        [GraphDataset(task.name, sets.load(task), extractor.graph)], batch_size=10, shuffle=False
    )
    compute = jax.jit(functools.partial(extractor.node_features, extractor.variables))
    batches = (jax.tree.map(lambda x: x[0], batch) for _, batch in loader.batches())
    alone = collect_features(compute, batches)
    got, expected = together.statistics(), alone.statistics()
    assert int(got.count) == int(expected.count) == together.num_atoms
    assert together.num_structures == alone.num_structures == 20
    np.testing.assert_allclose(got.mean, expected.mean, atol=1e-5)
    scale = np.abs(expected.scatter).max()
    np.testing.assert_allclose(got.scatter, expected.scatter, atol=1e-5 * scale)
    print("extraction on 8 devices agrees with one")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
