"""The same table from other samples, backbones and orientations, for a job's report."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atomjax.runtime.run import Run
from atomjax.similarity.analysis.columns import Column
from atomjax.similarity.analysis.comparison import Table, tabulate
from atomjax.similarity.features.cache import ExtractedSet, SetExtractor, View
from atomjax.similarity.features.extractor import BackboneExtractor, load_extractor
from atomjax.similarity.features.orientation import OrientationTest
from atomjax.similarity.measures.registry import find_measures
from atomjax.similarity.settings import SimilaritySettings, ViewSettings


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
) -> list[Table]:
    """The deciding measure of every further sample and backbone.

    Raises:
        CheckpointError: a checkpoint is missing.
        ConfigError: a sample cannot be drawn.
    """
    tables: dict[str, Table] = {}
    for strategy in settings.views.strategies:
        run.say(f"the same with {strategy} sampling")
        sampling = dataclasses.replace(settings.sampling, strategy=strategy)
        name = f"{strategy} sample"
        tables[name] = _table(name, _alone(settings, sampling=sampling), extractor, run)
    for place, given in enumerate(settings.views.extractors):
        other = load_extractor(given)
        run.say(f"the same with {other.name}")
        # Two checkpoints may hold models of one name.
        name = f"backbone {other.config['name']}"
        name = name if name not in tables else f"{name} ({place + 1})"
        # All features of another backbone count.
        alone = _alone(settings, extractor=given, invariants=("none",))
        tables[name] = _table(name, alone, other, run)
    return list(tables.values())


def _alone(settings: SimilaritySettings, **changes: Any) -> SimilaritySettings:
    """The deciding measure and variant of a job, with changes."""
    names = ("aggregations", "invariants", "measures")
    first = {name: getattr(settings, name)[:1] for name in names}
    return settings.replace(**{**first, "keep_features": False, "views": ViewSettings(), **changes})


def _table(
    name: str, settings: SimilaritySettings, extractor: BackboneExtractor, run: Run
) -> Table:
    sides = extract_all(SetExtractor(settings, extractor, run), settings)
    (variant,) = sides[0][0].variants
    renamed = [
        [dataclasses.replace(s, variants={name: s.variants[variant]}) for s in side]
        for side in sides
    ]
    (measure,) = find_measures(settings.measures)
    chance = {"resamples": settings.resamples, "level": settings.level, "seed": settings.seed}
    return tabulate(Column(measure, name, first=False), *renamed, **chance)


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
    measure = find_measures(settings.measures)[0]

    def distances(candidates: Sequence[ExtractedSet], kind: str) -> np.ndarray:
        sides = [[s.variants[kind] for s in side] for side in (candidates, downstream)]
        return measure.tabulate(*sides).distance

    for kind in kinds:
        stored = distances(upstream, kind)
        rotated = [distances(one, kind) for one in turned]
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
        f"{kind}: turning the structures of a candidate at random moves its distance by up to "
        f"{change:.1%}"
        for kind, change in changes.items()
    ]
