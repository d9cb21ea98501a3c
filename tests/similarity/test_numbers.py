"""A comparison gives the numbers that it gave before measures were entries of a registry.

``artefacts/comparison_0cf884a.json`` holds what that version found about the sets made here.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atomjax.similarity.analysis.comparison import Comparison, compare
from atomjax.similarity.analysis.recommendation import recommend
from atomjax.similarity.features.cache import ExtractedSet
from tests.similarity.samples import Population, features_of

EXPECTED = Path(__file__).parents[1] / "artefacts" / "comparison_0cf884a.json"
WIDTHS = {"flat": 70, "flat-norms": 6}


def made_set(name: str, structures: int, seed: int, shift: float) -> ExtractedSet:
    """A set of a few elements, each with a population of its own, in both variants."""
    variants = {}
    for variant, width in WIDTHS.items():
        rows, owner = Population(width, seed, shift).draw(structures, seed + 50)
        numbers = np.array([1, 6, 8, 29])[(owner * 7 + np.arange(len(owner))) % (2 + seed % 3)]
        rows = rows + 0.2 * numbers[:, None] / 29
        variants[variant] = features_of(rows, owner, numbers)
    return ExtractedSet(name, 3 * structures, 5, "structure", structures, 1.0, {}, variants, rows)


def comparison() -> Comparison:
    upstream = [made_set("a", 40, 1, 0.3), made_set("b", 30, 2, 0.5), made_set("c", 50, 3, 1.5)]
    downstream = [made_set("task", 35, 4, 0.3), made_set("other", 30, 2, 0.55)]
    return compare(upstream, downstream, mixtures=["balanced", 2.0], resamples=50, seed=3)


def found() -> dict[str, Any]:
    made = comparison()
    return {
        "pairs": made.records(),
        "mixtures": {name: values.tolist() for name, values in made.mixtures.items()},
        "ranks": dict(made.ranks),
        "halves": dict(made.halves),
        "recommendations": [choice.to_dict() for choice in recommend(made)],
    }


def agree(value: Any, expected: Any, where: str) -> None:
    """Checks all that was there before; what is new is free."""
    if isinstance(expected, dict):
        for key in expected:
            agree(value[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, list):
        assert len(value) == len(expected), where
        for place, pair in enumerate(zip(value, expected, strict=True)):
            agree(*pair, f"{where}/{place}")
    elif isinstance(expected, float):
        assert value == pytest.approx(expected, rel=1e-8, abs=1e-10, nan_ok=True), where
    else:
        assert value == expected, where


def test_every_number_is_that_of_before():
    agree(found(), json.loads(EXPECTED.read_text()), "")
