"""Composition and size of sets: the task's formulas and elements that a candidate holds.

Simple as they are, any cleverer measure has to predict transfer better than these.
"""

import numpy as np

from atomjax.similarity.features.summaries import Arrays, SetRows, Summary
from atomjax.similarity.measures.measure import Measure, Resampling
from atomjax.similarity.measures.resampling import each_pair
from atomjax.structures.elements import SYMBOLS

# A formula is a number: the sum over its atoms of a random number of each element, modulo 2**64.
_NUMBERS = np.random.default_rng(0).integers(0, 2**64, len(SYMBOLS), dtype=np.uint64)


def formulas(rows: SetRows) -> Arrays:
    """Formula and weight of each structure; none where rows are not atoms."""
    places, first, owner = np.unique(rows.structure, return_index=True, return_inverse=True)
    formula = np.zeros(len(places), np.uint64)
    if not len(rows.atomic_numbers):
        return {"formula": formula, "weight": np.zeros(len(places))}
    np.add.at(formula, owner, _NUMBERS[rows.atomic_numbers])
    return {"formula": formula, "weight": rows.weights[first]}


def composition(rows: SetRows) -> Arrays:
    """Weight of the atoms of each element, and of the structures."""
    first = np.unique(rows.structure, return_index=True)[1]
    weights = rows.weights[: len(rows.atomic_numbers)]
    atoms = np.bincount(rows.atomic_numbers, weights, minlength=len(SYMBOLS))
    return {"atoms": atoms, "structures": rows.weights[first].sum()}


def shared_formulas(upstream: Arrays, downstream: Arrays) -> float:
    """Fraction of the downstream structures whose formula the upstream set has."""
    seen = np.isin(downstream["formula"], upstream["formula"])
    return float(downstream["weight"] @ seen / downstream["weight"].sum())


def shared_elements(upstream: Arrays, downstream: Arrays) -> np.ndarray:
    """[B] fraction of the downstream atoms whose element the upstream set has."""
    seen = np.where(upstream["atoms"] > 0, downstream["atoms"], 0)
    return seen.sum(axis=1) / downstream["atoms"].sum(axis=1)


def size_gap(upstream: Arrays, downstream: Arrays) -> np.ndarray:
    """[B] difference of the mean numbers of atoms."""
    sizes = [one["atoms"].sum(axis=1) / one["structures"] for one in (upstream, downstream)]
    return np.abs(sizes[0] - sizes[1])


_COMPOSITION = Summary("composition", composition, by_block=True, labels=False)

FORMULA_OVERLAP = Measure(
    name="formula_overlap",
    label="shared formulas",
    about="the fraction of the task's structures whose formula the candidate has",
    near="large",
    symmetric=False,
    rows="atoms",
    needs=(Summary("formulas", formulas, by_block=True, adds=False, labels=False),),
    resampling=Resampling(
        lambda features: features.blocks["formulas"],
        each_pair(shared_formulas),
        about_infinite=False,
        largest=1,
    ),
)
ELEMENT_OVERLAP = Measure(
    name="element_overlap",
    label="shared elements",
    about="the fraction of the task's atoms whose element the candidate has",
    near="large",
    symmetric=False,
    rows="atoms",
    needs=(_COMPOSITION,),
    resampling=Resampling(
        lambda features: features.blocks["composition"],
        shared_elements,
        about_infinite=False,
        largest=1,
    ),
)
SIZE_GAP = Measure(
    name="size_gap",
    label="difference in size",
    about="the difference of the mean numbers of atoms",
    rows="atoms",
    needs=(_COMPOSITION,),
    resampling=Resampling(lambda features: features.blocks["composition"], size_gap),
)
