"""What a recommendation says, and what it admits not to know."""

from types import SimpleNamespace
from typing import Any

import pytest

from atomjax.similarity.analysis.recommendation import Recommendation, describe_recommendation


def text(units: int = 40, resamples: int = 200, **changes: Any) -> str:
    fields: dict[str, Any] = {
        "task": "task",
        "ranking": ("a", "b", "c"),
        "distances": (1.0, 1.5, 9.0),
        "confidence": 0.7,
        "clear": False,
        "rivals": ("b",),
        "needed": 321,
        "too_few": (),
        "resolved": True,
        "unseen_share": 0.0,
        "outside": False,
        "reranked": None,
    }
    sets = [SimpleNamespace(name=name, units=units) for name in ("a", "b", "c", "task")]
    comparison: Any = SimpleNamespace(level=0.95, resamples=resamples, sets=sets)
    return " ".join(describe_recommendation(Recommendation(**{**fields, **changes}), comparison))


def test_doubt_names_the_sets_and_what_would_decide():
    said = text()
    assert "cannot tell between a and b (CSI a 1, b 1.5)" in said
    assert "about 320 structures of each set" in said
    assert "short pretraining" in said
    assert "pretrain on" not in said
    assert "cannot tell between a, b and c" in text(rivals=("b", "c"))
    assert "how many cannot be said" in text(needed=None)


def test_too_few_units_are_counted():
    said = text(units=3, too_few=("task",), needed=None)
    assert "Too few independent units: task 3; 5 are the least" in said
    assert "more molecules, compositions or trajectories" in said


@pytest.mark.parametrize(("resamples", "expected"), [(10, True), (19, False), (200, False)])
def test_too_few_exchanges_are_named(resamples, expected):
    assert (f"resamples={resamples} are too few" in text(resamples=resamples)) is expected


def test_certainty_names_one_set():
    said = text(clear=True, rivals=(), needed=None, confidence=1.0)
    assert said.startswith("For task, pretrain on a (CSI 1).")
    assert "clear at a level of 95%" in said
    assert "cannot tell" not in said
    assert "not distinguishable from task" in text(clear=True, rivals=(), resolved=False)


def test_elements_that_the_extractor_does_not_know_are_named():
    assert "not trained" not in text()
    said = text(untrained={"task": {"F": 0.004, "S": 0.12}, "c": dict.fromkeys("KVWYUIPBC", 0.1)})
    assert "of 100% of the atoms of task (Pu)." in text(untrained={"task": {"Pu": 1.0}})
    assert "of 0.4% of the atoms of task (F)." in text(untrained={"task": {"F": 0.004}})
    assert "WARNING: the extractor was not trained on the elements of 12% of the atoms" in said
    assert "task (S, F); 90% of the atoms of c (K, V, W, Y, U, I, P, B and 1 more)" in said
