"""Loaders of one training: of its batches, and of those to validate and test on."""

import itertools
from collections.abc import Sequence
from dataclasses import astuple

import jax
import numpy as np
from jax.sharding import Mesh

from atomjax.batching import BatchLoader, GraphDataset
from atomjax.data.load import DataSplits
from atomjax.graphs import Capacity, GraphBatch
from atomjax.runtime.config import ConfigError
from atomjax.training.replay import Replay
from atomjax.training.settings import BatchingSettings, RunSettings
from atomjax.training.update.state import own_rows


def training_loader(
    settings: RunSettings, splits: DataSplits, mesh: Mesh, replay: Replay | None = None
) -> BatchLoader:
    """The loader of the training batches.

    Raises:
        ConfigError: the share of the replay makes no structure, or batches cannot be divided so.
    """
    train, parts = settings.train, settings.train.batching.accumulation
    datasets, samples, strata = splits.train, splits.samples, None
    if replay is not None:
        datasets, samples = datasets[:-1], samples[:-1]
        size = train.batching.batch_size
        if count := replay.per_batch(size):
            _check_strata(train.batching)
            steps = -(-sum(samples) // (size - count))
            strata = [*(0 for _ in datasets), 1]
            datasets, samples = splits.train, [*samples, steps * count]
    return BatchLoader(
        datasets,
        batch_size=train.batching.batch_size,
        seed=settings.seed,
        epochs=train.epochs,
        num_devices=mesh.size * parts,
        num_buckets=train.batching.num_buckets,
        fill=train.batching.fill if strata is None else "count",
        num_workers=settings.data.loader_workers,
        shuffle=True,
        dtype=np.dtype(train.dtype),
        samples=samples,
        strata=strata,
        rows=own_rows(mesh, parts),
    )


def _check_strata(batching: BatchingSettings) -> None:
    if batching.fill == "size" or batching.num_buckets > 1:
        raise ConfigError(
            "finetune.replay is a share of the structures of every batch, which "
            'train.batching.fill="size" and num_buckets above 1 leave open; leave them out'
        )


def evaluation_loaders(
    settings: RunSettings, splits: DataSplits, mesh: Mesh
) -> dict[str, BatchLoader]:
    """Loaders of "validation" and "test", where there are such data, with common shapes."""
    given = {name: getattr(splits, name) for name in ("validation", "test")}
    loaders = {name: _evaluation_loader(settings, own, mesh) for name, own in given.items() if own}
    if len(loaders) < 2:
        return loaders
    shapes = common_shapes(*(loader.capacities for loader in loaders.values()))
    return {name: _evaluation_loader(settings, given[name], mesh, shapes) for name in loaders}


def _evaluation_loader(
    settings: RunSettings,
    datasets: Sequence[GraphDataset],
    mesh: Mesh,
    capacity: Sequence[Capacity] | None = None,
) -> BatchLoader:
    batching = settings.train.batching
    return BatchLoader(
        datasets,
        batch_size=settings.train.validation.eval_batch_size or batching.batch_size,
        seed=settings.seed,
        epochs=1,
        num_devices=mesh.size,
        num_buckets=batching.num_buckets,
        fill=batching.fill,
        shuffle=False,
        dtype=np.dtype(settings.train.dtype),
        capacity=capacity,
        rows=own_rows(mesh),
        # A part of the upstream set alone has none.
        property_names=[target.name for target in settings.head.targets],
    )


def first_batches(settings: RunSettings, loader: BatchLoader) -> list[GraphBatch]:
    """A few unstacked training batches, the same whatever the number of devices."""
    batching = settings.train.batching
    own = BatchLoader(
        loader.datasets,
        batch_size=batching.batch_size,
        seed=settings.seed,
        epochs=1,
        num_buckets=1,
        drop_edges=False,
        dtype=np.dtype(settings.train.dtype),
        prefetch=0,
        samples=loader.samples,
    )
    first = itertools.islice(own.batches(), batching.scale_factor_batches)
    return [jax.tree.map(lambda x: x[0], batch) for _, batch in first]


def common_shapes(a: Sequence[Capacity], b: Sequence[Capacity]) -> list[Capacity]:
    """Shapes that hold the batches of either of two lists of shapes, bucket by bucket."""
    merged = []
    for x, y in itertools.zip_longest(a, b):
        pair = zip(astuple(x or a[-1]), astuple(y or b[-1]), strict=True)
        merged.append(Capacity(*(max(values) for values in pair)))
    return merged
