"""Composition and size of sets: the task's formulas and elements that a candidate holds.

Simple as they are, any cleverer measure has to predict transfer better than these.
"""

from collections.abc import Callable

import numpy as np

from atomjax.similarity.features.collect import SetFeatures
from atomjax.similarity.features.summaries import Arrays, SetRows, Summary
from atomjax.similarity.measures.elements import unseen_share
from atomjax.similarity.measures.measure import Measure, Sets, Values
from atomjax.structures.elements import SYMBOLS

# A formula is a number: the sum over its atoms of a random number of each element, modulo 2**64.
_NUMBERS = np.random.default_rng(0).integers(0, 2**64, len(SYMBOLS), dtype=np.uint64)


def formulas(rows: SetRows) -> Arrays:
    """The formulas of the structures, each with the weight of its structures."""
    if not len(rows.atomic_numbers):
        return {"formula": np.zeros(0, np.uint64), "weight": np.zeros(0)}
    places, owner = np.unique(rows.structure, return_inverse=True)
    formula = np.zeros(len(places), np.uint64)
    np.add.at(formula, owner, _NUMBERS[rows.atomic_numbers])
    weight = np.bincount(owner, rows.weights) / np.bincount(owner)
    return _joined(formula, weight)


def join_formulas(first: Arrays, second: Arrays) -> Arrays:
    """The formulas of both, their weights added."""
    pairs = (np.concatenate([first[name], second[name]]) for name in ("formula", "weight"))
    return _joined(*pairs)


def _joined(formula: np.ndarray, weight: np.ndarray) -> Arrays:
    different, place = np.unique(formula, return_inverse=True)
    return {"formula": different, "weight": np.bincount(place, weight, len(different))}


def shared_formulas(upstream: SetFeatures, downstream: SetFeatures) -> float:
    """Fraction of the downstream structures whose formula the upstream set has."""
    theirs, ours = (one.summaries["formulas"] for one in (upstream, downstream))
    seen = np.isin(ours["formula"], theirs["formula"])
    return float(ours["weight"] @ seen / ours["weight"].sum())


def _pairwise(value: Callable[[SetFeatures, SetFeatures], float]) -> Callable[[Sets, Sets], Values]:
    def table(upstream: Sets, downstream: Sets) -> Values:
        return Values(np.array([[value(one, other) for other in downstream] for one in upstream]))

    return table


def _size(features: SetFeatures) -> float:
    return features.num_atoms / features.num_structures


FORMULA_OVERLAP = Measure(
    name="formula_overlap",
    label="shared formulas",
    about="the fraction of the task's structures whose formula the candidate has; it has no "
    "interval and no floor",
    near="large",
    symmetric=False,
    rows="atoms",
    needs=(Summary("formulas", formulas, merge=join_formulas, labels=False),),
    table=_pairwise(shared_formulas),
)
ELEMENT_OVERLAP = Measure(
    name="element_overlap",
    label="shared elements",
    about="the fraction of the task's atoms whose element the candidate has; it has no interval "
    "and no floor",
    near="large",
    symmetric=False,
    rows="atoms",
    table=_pairwise(lambda one, other: 1 - unseen_share(one.elements, other.elements)),
)
SIZE_GAP = Measure(
    name="size_gap",
    label="difference in size",
    about="the difference of the mean numbers of atoms; it has no interval and no floor",
    table=_pairwise(lambda one, other: abs(_size(one) - _size(other))),
)
