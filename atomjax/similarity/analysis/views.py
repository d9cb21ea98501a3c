"""The same table from other samples, backbones and orientations, for a job's report."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from atomjax.runtime.run import Run
from atomjax.similarity.analysis.comparison import Table, measure
from atomjax.similarity.features.cache import ExtractedSet, SetExtractor, View
from atomjax.similarity.features.extractor import BackboneExtractor, load_extractor
from atomjax.similarity.features.orientation import OrientationTest
from atomjax.similarity.measures.frechet import frechet_table
from atomjax.similarity.settings import (
    ExtractorSettings,
    SimilaritySettings,
    Strategy,
    ViewSettings,
)


def extract_all(
    sets: SetExtractor, settings: SimilaritySettings
) -> tuple[list[ExtractedSet], list[ExtractedSet]]:
    """Features of all candidates, and of all tasks."""
    return (
        [sets.extract(dataset) for dataset in settings.candidates],
        [sets.extract(dataset, View(downstream=True)) for dataset in settings.tasks],
    )


def other_views(
    settings: SimilaritySettings, extractor: BackboneExtractor, run: Run
) -> dict[str, Table]:
    """Name → table of every further sample and backbone.

    Args:
        settings: of the job.
        extractor: of the job, for the samples.
        run: takes the features, shows progress.

    Raises:
        CheckpointError: a checkpoint is missing.
        ConfigError: a sample cannot be drawn.
    """
    tables = {}
    for strategy in settings.views.strategies:
        run.say(f"the same with {strategy} sampling")
        tables[f"{strategy} sample"] = _table(with_strategy(settings, strategy), extractor, run)
    for place, given in enumerate(settings.views.extractors):
        other = load_extractor(given)
        name = other.config["name"]
        run.say(f"the same with {other.name}")
        # Two checkpoints may hold models of one name.
        label = name if f"backbone {name}" not in tables else f"{name} ({place + 1})"
        tables[f"backbone {label}"] = _table(with_extractor(settings, given), other, run)
    return tables


def with_strategy(settings: SimilaritySettings, strategy: Strategy) -> SimilaritySettings:
    """The deciding variant of the job on another sample."""
    return settings.replace(
        sampling=dataclasses.replace(settings.sampling, strategy=strategy),
        aggregations=settings.aggregations[:1],
        invariants=settings.invariants[:1],
        keep_features=False,
        views=ViewSettings(),
    )


def with_extractor(
    settings: SimilaritySettings, extractor: ExtractorSettings
) -> SimilaritySettings:
    """The job with another backbone, all of whose features count."""
    return settings.replace(
        extractor=extractor,
        aggregations=settings.aggregations[:1],
        invariants=("none",),
        keep_features=False,
        views=ViewSettings(),
    )


def _table(settings: SimilaritySettings, extractor: BackboneExtractor, run: Run) -> Table:
    sides = extract_all(SetExtractor(settings, extractor, run), settings)
    variant = next(iter(sides[0][0].variants))
    return measure(
        *sides, variant, resamples=settings.resamples, level=settings.level, seed=settings.seed
    )


def distances(
    upstream: Sequence[ExtractedSet], downstream: Sequence[ExtractedSet], variant: str
) -> np.ndarray:
    """[K, M] distances of one variant."""
    sides = [[s.variants[variant].statistics() for s in side] for side in (upstream, downstream)]
    return frechet_table(*sides).distance


def orientation_tests(
    settings: SimilaritySettings,
    sets: SetExtractor,
    upstream: Sequence[ExtractedSet],
    downstream: Sequence[ExtractedSet],
) -> dict[str, dict[str, dict[str, OrientationTest]]]:
    """Task → candidate → variant → distances as stored and with the candidate rotated.

    Empty where ``settings.views.rotations`` is 0.
    """
    rotations = range(1, settings.views.rotations + 1)
    if not rotations:
        return {}
    turned = [
        [sets.extract(dataset, View(rotation=n)) for dataset in settings.candidates]
        for n in rotations
    ]
    first = settings.aggregations[0]
    kinds = [name for name in upstream[0].variants if name.split("-")[0] == first]
    found: dict[str, dict[str, dict[str, OrientationTest]]] = {}
    for kind in kinds:
        stored = distances(upstream, downstream, kind)
        rotated = [distances(one, downstream, kind) for one in turned]
        for j, task in enumerate(downstream):
            for i, candidate in enumerate(upstream):
                test = OrientationTest(float(stored[i, j]), [float(t[i, j]) for t in rotated])
                found.setdefault(task.name, {}).setdefault(candidate.name, {})[kind] = test
    return found


def describe_orientation(
    found: Mapping[str, Mapping[str, Mapping[str, OrientationTest]]],
) -> list[str]:
    """One line for each kind of features: the largest relative change by a rotation."""
    changes: dict[str, float] = {}
    for by_candidate in found.values():
        for by_kind in by_candidate.values():
            for kind, test in by_kind.items():
                change = float(np.abs(test.ratio - 1).max())
                changes[kind] = max(change, changes.get(kind, 0.0))
    return [
        f"{kind}: turning the structures of a candidate at random moves its CSI by up to "
        f"{change:.1%}"
        for kind, change in changes.items()
    ]
