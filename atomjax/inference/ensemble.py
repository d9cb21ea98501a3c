"""Several trained models as one: means, and standard deviations that show where they disagree."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from atomjax.inference.predict import Predictor, TrainedHead
from atomjax.structures import ClassLabels, Structure
from atomjax.training.running.results import StructureResult

T = TypeVar("T")


class EnsemblePredictor:
    """Predictors whose results are combined; called as one `Predictor` is.

    Args:
        members: at least two predictors, with heads of the same kind.

    Raises:
        ValueError: there are fewer.
    """

    def __init__(self, members: Sequence[Predictor]):
        self.members = at_least_two(members)
        for member in self.members[1:]:
            member.share_programs(self.members[0])

    def __call__(
        self,
        structures: Sequence[Structure],
        dataset: str | None = None,
        told: Callable[[int], None] | None = None,
    ) -> list[StructureResult]:
        """Means over the members, with their standard deviations; as of :class:`Predictor`."""
        self.head(dataset)
        results = [member(structures, dataset, told) for member in self.members]
        return [combined(items) for items in zip(*results, strict=True)]

    def head(self, dataset: str | None = None) -> TrainedHead:
        """The first member's head of a data set, or its only one.

        Raises:
            ValueError: a member has no such head, or heads predict different quantities.
        """
        heads = [member.head(dataset) for member in self.members]
        kinds = {_predicted(head) for head in heads}
        if len(kinds) > 1:
            listed = " and ".join(sorted(kinds))
            raise ValueError(
                f"models of an ensemble predict the same quantity; these have {listed}"
            )
        return heads[0]


def _predicted(head: TrainedHead) -> str:
    """The quantities that a head predicts, in words."""
    classes = {s.name: s.classes for s in head.scales if isinstance(s, ClassLabels)}
    named = (t.name for t in head.config.targets)
    words = (f"{n} ({', '.join(classes[n])})" if n in classes else n for n in named)
    return " ".join([head.config.kind, *words])


def at_least_two(models: Sequence[T]) -> tuple[T, ...]:
    """The models; raises ValueError where there are fewer than two."""
    if len(models) < 2:
        raise ValueError(f"an ensemble needs at least two models; got {len(models)}")
    return tuple(models)


def combined(results: Sequence[StructureResult]) -> StructureResult:
    """The mean of several models' results for one structure, with their standard deviation.

    Args:
        results: at least two; a quantity that one lacks is left out.

    Returns:
        The mean; ``deviation`` holds sample standard deviations, of forces and stresses those of
        each component. ``marks`` are those of any of the results.
    """
    return dataclasses.replace(
        _over(lambda found: np.mean(found, axis=0), results),
        marks=frozenset[str]().union(*(result.marks for result in results)),
        deviation=_over(lambda found: np.std(found, axis=0, ddof=1), results),
    )


def _over(
    statistic: Callable[[Sequence[Any]], Any], results: Sequence[StructureResult]
) -> StructureResult:
    """A statistic of each quantity that all results have."""

    def of(found: Sequence[Any]) -> Any:
        return None if any(one is None for one in found) else statistic(found)

    names = [n for n in results[0].values if all(n in result.values for result in results)]
    return StructureResult(
        energy=of([result.energy for result in results]),
        forces=of([result.forces for result in results]),
        values={name: of([result.values[name] for result in results]) for name in names},
        stress=of([result.stress for result in results]),
    )
