"""Recommendation of an upstream set to pretrain on, with its confidence and its limits."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from atomjax.similarity.analysis.comparison import Comparison
from atomjax.similarity.features.units import FEWEST_UNITS

# Fraction of downstream atoms of unseen elements above which no distance is a guide.
MOST_UNSEEN = 0.1
# Elements that a message names.
MOST_NAMED = 8
# Largest factor in the number of structures that is worth advising.
MOST_TIMES = 100


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """The choice of an upstream set for one task."""

    task: str  # name of the downstream set
    ranking: tuple[str, ...]  # names of the upstream sets, the closest first
    distances: tuple[float, ...]  # their values, in this order
    # Fraction of random exchanges of units between the closest set and another that separate the
    # two less than they are separated; the smallest over the other sets, and 1 with a single
    # candidate.
    confidence: float
    clear: bool  # whether every other set is farther at the confidence level of the comparison
    rivals: tuple[str, ...]  # names of the sets that are not clearly farther than the closest
    # Structures of each set (the task's, too) that would separate the nearest rival from the
    # closest, if their difference stays; None where that is not known, or too many.
    needed: int | None
    too_few: tuple[str, ...]  # names of the sets with too few independent units for a clear result
    resolved: bool  # whether the closest set is distinguishable from the task
    # Fraction of the task's atoms whose element the closest set lacks; NaN where that is not known.
    unseen_share: float
    # Whether the task lies outside all candidates: the closest is farther than a single point at
    # the task's mean features would be (of the CSI, the task's total variance), or lacks more than
    # a tenth of its atoms' elements.
    outside: bool
    # Names closest first if the sets were infinitely large, where that differs.
    reranked: tuple[str, ...] | None
    measure: str = "CSI"  # label of the measure
    # Task or candidate → symbol → fraction of its atoms, of elements that the extractor was not
    # trained on; without the sets that have none.
    untrained: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    @property
    def closest(self) -> str:
        """The recommended set."""
        return self.ranking[0]

    @property
    def farthest(self) -> str:
        """The set farthest from the task."""
        return self.ranking[-1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``csi.json``."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def recommend(
    comparison: Comparison, untrained: Mapping[str, Mapping[str, float]] | None = None
) -> list[Recommendation]:
    """One recommendation for each downstream set.

    Args:
        comparison: the comparison.
        untrained: set → symbol → fraction of its atoms, of elements that the extractor was not
            trained on.
    """
    columns = range(len(comparison.downstream))
    return [_recommend(comparison, j, untrained or {}) for j in columns]


def _recommend(
    comparison: Comparison, j: int, untrained: Mapping[str, Mapping[str, float]]
) -> Recommendation:
    names = [s.name for s in comparison.upstream]
    task = comparison.downstream[j]
    table, measure = comparison.table, comparison.table.measure
    order = np.argsort(table.far[:, j], kind="stable").tolist()
    closest, *others = order
    distance, unseen = table.distance[:, j].tolist(), comparison.unseen[closest, j].item()
    limit = order
    if table.extrapolation is not None and np.isfinite(table.extrapolation.infinite[:, j]).all():
        infinite = measure.sign * table.extrapolation.infinite[:, j]
        # Sets that the limit does not tell apart, at zero, stay in their order.
        limit = np.lexsort((table.far[:, j], infinite)).tolist()
    # Sets of few units can be told apart only by chance.
    few = {s.name for s in comparison.sets if s.units < FEWEST_UNITS} if others else set()
    rivals = [
        i
        for i in others
        if few & {task.name, names[closest], names[i]}
        or not comparison.gaps[j, i].clear(comparison.level)
    ]
    involved = {task.name, names[closest], *(names[i] for i in rivals)}
    return Recommendation(
        task=task.name,
        ranking=tuple(names[i] for i in order),
        distances=tuple(distance[i] for i in order),
        confidence=min((comparison.gaps[j, i].confidence for i in others), default=1.0),
        clear=not rivals,
        rivals=tuple(names[i] for i in rivals),
        needed=_needed(comparison, j, closest, rivals),
        too_few=tuple(s.name for s in comparison.sets if s.name in few & involved),
        resolved=table.above is None or bool(table.above[closest, j]),
        unseen_share=unseen,
        outside=bool(measure.sign * (distance[closest] - comparison.limits[j]) > 0)
        or unseen > MOST_UNSEEN,
        reranked=None if limit == order else tuple(names[i] for i in limit),
        measure=measure.label,
        untrained={n: untrained[n] for n in (task.name, *names) if untrained.get(n)},
    )


def _needed(comparison: Comparison, j: int, closest: int, rivals: list[int]) -> int | None:
    """Structures of each set that would separate the nearest rival from the closest."""
    if not rivals:
        return None
    times = comparison.gaps[j, rivals[0]].times_more(comparison.level)
    involved = [comparison.upstream[i] for i in (closest, rivals[0])]
    smallest = min(s.features.num_structures for s in (*involved, comparison.downstream[j]))
    return math.ceil(times * smallest) if 1 < times <= MOST_TIMES else None


def describe_recommendation(choice: Recommendation, comparison: Comparison) -> list[str]:
    """The recommendation in sentences, the first of which names the set or says "cannot tell"."""
    sentences = [] if choice.clear else _describe_doubt(choice, comparison)
    if choice.clear:
        sentences.append(
            f"For {choice.task}, pretrain on {choice.closest} ({choice.measure} "
            f"{choice.distances[0]:.4g})."
        )
    if choice.clear and len(choice.ranking) > 1:
        sentences.append(
            f"The runner-up, {choice.ranking[1]} ({choice.distances[1]:.4g}), is farther than "
            f"exchanging structures between the two explains ({choice.confidence:.0%} of "
            f"{comparison.resamples} exchanges separate them less), and so are the others: clear "
            f"at a level of {comparison.level:.0%}."
        )
    if not choice.resolved:
        sentences.append(
            f"{choice.closest} is not distinguishable from {choice.task} itself by samples of "
            "this size."
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
    if choice.untrained:
        sentences.append(_describe_untrained(choice))
    if choice.reranked is not None:
        sentences.append(
            "Extrapolated to infinitely many structures, the order is "
            f"{', '.join(choice.reranked)}: part of the differences is sample size."
        )
    return sentences


def _describe_untrained(choice: Recommendation) -> str:
    """A warning of elements that mean nothing to the extractor."""
    parts = []
    for name, shares in choice.untrained.items():
        symbols = sorted(shares, key=lambda symbol: -shares[symbol])
        more = f" and {len(symbols) - MOST_NAMED} more" if len(symbols) > MOST_NAMED else ""
        named = ", ".join(symbols[:MOST_NAMED])
        share = sum(shares.values())
        fraction = f"{share:.0%}" if share >= 0.01 else f"{share:.1%}"
        parts.append(f"{fraction} of the atoms of {name} ({named}{more})")
    return (
        f"WARNING: the extractor was not trained on the elements of {'; '.join(parts)}. What it "
        "says of them is chance, and so is this order as far as it rests on them; take an "
        "extractor that knows them, extractor.checkpoint."
    )


def _describe_doubt(choice: Recommendation, comparison: Comparison) -> list[str]:
    """Open questions of a recommendation, their reasons, and data that would settle them."""
    names = (choice.closest, *choice.rivals)
    known = dict(zip(choice.ranking, choice.distances, strict=True))
    listed = ", ".join(f"{name} {known[name]:.4g}" for name in names)
    sentences = [
        f"For {choice.task}, cannot tell between {', '.join(names[:-1])} and {names[-1]} "
        f"({choice.measure} {listed}) at a level of {comparison.level:.0%}; "
        f"{choice.closest} comes out closest."
    ]
    if choice.too_few:
        units = {s.name: s.units for s in comparison.sets}
        sentences.append(
            f"Too few independent units: {', '.join(f'{n} {units[n]}' for n in choice.too_few)}; "
            f'{FEWEST_UNITS} are the least (if frames are independent, sampling.unit="structure" '
            "says so)."
        )
    if comparison.resamples < 1 / (1 - comparison.level) - 1:
        sentences.append(f"resamples={comparison.resamples} are too few for this level.")
    wanted = "more structures (how many cannot be said, since the difference itself is not known)"
    if choice.too_few:
        wanted = "more molecules, compositions or trajectories, not more frames of the same ones"
    elif choice.needed is not None:
        about = float(f"{choice.needed:.2g}")
        wanted = f"about {about:,.0f} structures of each set, if the difference stays"
    sentences.append(
        f"What would decide: {wanted}; another measure (`measures`, `invariants`, "
        "`aggregations`); or a short pretraining on each, finetuned on the task."
    )
    return sentences
