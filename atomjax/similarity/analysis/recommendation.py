"""Which upstream set to pretrain on, how sure that is, and when not to trust it."""

import dataclasses
from typing import Any

import numpy as np

from atomjax.similarity.analysis.comparison import Comparison

# Share of downstream atoms of unseen elements above which no distance helps.
MOST_UNSEEN = 0.1


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """The choice of an upstream set for one task.

    Attributes:
        task: name of the downstream set.
        ranking: names of the upstream sets, the closest first.
        distances: their CSI, in this order.
        confidence: share of the bootstrap's resamples in which the closest set is closer than the
            runner-up; 1 with a single candidate.
        clear: whether the confidence reaches the level of the comparison.
        unseen_share: share of the task's atoms whose element the closest set lacks; NaN where
            that is not known.
        outside: whether the task lies outside all candidates: the closest is farther than a
            single point at the task's mean features would be (its CSI exceeds the task's total
            variance), or lacks more than a tenth of its atoms' elements.
        reranked: names closest first if the sets were infinitely large, where that differs.
    """

    task: str
    ranking: tuple[str, ...]
    distances: tuple[float, ...]
    confidence: float
    clear: bool
    unseen_share: float
    outside: bool
    reranked: tuple[str, ...] | None

    @property
    def closest(self) -> str:
        """The recommended set."""
        return self.ranking[0]

    @property
    def farthest(self) -> str:
        """The set to expect least of."""
        return self.ranking[-1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``csi.json``."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def recommend(comparison: Comparison) -> list[Recommendation]:
    """One recommendation for each downstream set."""
    return [_recommend(comparison, j) for j in range(len(comparison.downstream))]


def _recommend(comparison: Comparison, j: int) -> Recommendation:
    names = [s.name for s in comparison.upstream]
    task = comparison.downstream[j].name
    distances = comparison.table.distance[:, j]
    order = np.argsort(distances, kind="stable")
    closest = int(order[0])
    confidence = 1.0
    if len(order) > 1:
        confidence = comparison.bootstrap.probability_closer(closest, int(order[1]), j)
    by_element = comparison.elements.get((names[closest], task))
    unseen = by_element.unseen_share if by_element else float("nan")
    infinite = np.argsort(comparison.extrapolation.infinite[:, j], kind="stable")
    return Recommendation(
        task=task,
        ranking=tuple(names[i] for i in order),
        distances=tuple(float(distances[i]) for i in order),
        confidence=confidence,
        clear=confidence >= comparison.level,
        unseen_share=unseen,
        outside=bool(distances[closest] > comparison.spreads[j] or unseen > MOST_UNSEEN),
        reranked=None if (infinite == order).all() else tuple(names[i] for i in infinite),
    )


def describe_recommendation(choice: Recommendation, level: float) -> list[str]:
    """The recommendation in sentences, the first of which names the set."""
    sentences = [
        f"For {choice.task}, pretrain on {choice.closest} (CSI {choice.distances[0]:.4g})."
    ]
    if len(choice.ranking) > 1:
        runner_up, distance = choice.ranking[1], choice.distances[1]
        share = f"in {choice.confidence:.0%} of the resampled tables"
        if choice.clear:
            sentences.append(
                f"The runner-up, {runner_up} ({distance:.4g}), is farther {share}: clear at a "
                f"level of {level:.0%}."
            )
        else:
            sentences.append(
                f"The runner-up, {runner_up} ({distance:.4g}), lies within the interval: it is "
                f"farther only {share}, so both may serve, and so may their mixture."
            )
    if choice.outside:
        reason = "the closest is farther than a single point at the task's mean would be"
        if choice.unseen_share > MOST_UNSEEN:
            reason = (
                f"{choice.closest} has never seen the elements of {choice.unseen_share:.0%} of "
                "the atoms"
            )
        sentences.append(
            f"WARNING: {choice.task} lies outside all candidates ({reason}). Where that is so, "
            "the CSI was found not to predict which set is best, and mixtures to do better "
            "(MatBench in arXiv:2502.11085)."
        )
    if choice.reranked is not None:
        sentences.append(
            "Extrapolated to infinitely many structures, the order is "
            f"{', '.join(choice.reranked)}: part of the differences is sample size."
        )
    return sentences
