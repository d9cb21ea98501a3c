"""The choice of structures by the errors of a trained model; the whole is in test_predict.py."""

import numpy as np
import pytest

from atomjax.inference.difficulty import Errors, choice
from atomjax.runtime.config import ConfigError


def test_difficulty_is_the_mean_of_relative_errors():
    energy = np.array([1.0, 3.0, np.nan])
    force = np.array([0.2, 0.2, 0.5])
    found = Errors(energy, force).difficulty()
    np.testing.assert_allclose(found, [(0.5 + 2 / 3) / 2, (1.5 + 2 / 3) / 2, 5 / 3])
    nothing = np.full(3, np.nan)
    np.testing.assert_allclose(Errors(nothing, force).difficulty(), force / 0.3)
    with pytest.raises(ValueError, match="1 of 3 structures have neither"):
        Errors(energy, np.array([1.0, 1.0, np.nan])).difficulty()


def test_thirds():
    difficulty = np.random.default_rng(0).permutation(30).astype(float)
    assert difficulty[choice(difficulty, 4, "low", 0)].tolist() == [0, 1, 2, 3]
    assert difficulty[choice(difficulty, 3, "high", 0)].tolist() == [27, 28, 29]
    middle = difficulty[choice(difficulty, 6, "mid", 0)]
    assert len(set(middle)) == 6
    assert set(middle) <= set(range(10, 20))
    mixed = difficulty[choice(difficulty, 8, "mixed", 1)]
    assert [((mixed >= 10 * i) & (mixed < 10 * (i + 1))).sum() for i in range(3)] == [3, 3, 2]
    assert sorted(mixed) == list(mixed)
    with pytest.raises(ConfigError, match="more than the 10 structures"):
        choice(difficulty, 11, "mid", 0)
    with pytest.raises(ConfigError, match="more than the 30 structures"):
        choice(difficulty, 31, "low", 0)
