"""Bootstrap intervals and extrapolation, on populations whose distance is known."""

import numpy as np
import pytest

from atomjax.similarity.analysis.bias import extrapolate_table
from atomjax.similarity.analysis.bootstrap import Bootstrap, bootstrap_table
from atomjax.similarity.features.structure_sums import StructureSumsBuilder
from atomjax.similarity.measures.frechet import frechet_distance, frechet_table
from tests.similarity.samples import Population, statistics_of, true_distance

NEAR, FAR = Population(6, seed=1), Population(6, seed=2, shift=1.0)


def test_resampling_starts_from_the_distance_of_the_sets():
    table = bootstrap_table(
        [NEAR.sums(40, 1), FAR.sums(50, 2)], [NEAR.sums(45, 3)], resamples=20, seed=0
    )
    rows = [p.draw(n, s)[0] for p, n, s in ((NEAR, 40, 1), (FAR, 50, 2), (NEAR, 45, 3))]
    expected = frechet_table([statistics_of(r) for r in rows[:2]], [statistics_of(rows[2])])
    np.testing.assert_allclose(table.estimate, expected.distance, rtol=1e-10)
    assert table.distance.shape == (20, 2, 1)


def test_a_resample_is_the_set_of_the_drawn_structures():
    rows, structure = NEAR.draw(15, 1)
    other = FAR.sums(20, 2)
    table = bootstrap_table([NEAR.sums(15, 1)], [other], resamples=3, seed=7)
    rng = np.random.default_rng(7)
    draws = [rng.multinomial(n, np.full(n, 1 / n), size=3) for n in (15, 20)]
    picked = []
    for (values, owner), weights in zip(
        ((rows, structure), FAR.draw(20, 2)), (draws[0][1], draws[1][1]), strict=True
    ):
        picked.append(statistics_of(np.repeat(values, weights[owner], axis=0)))
    np.testing.assert_allclose(table.distance[1, 0, 0], frechet_distance(*picked), rtol=1e-9)


def test_intervals_cover_the_distance_of_the_populations():
    truth, hits, repeats = true_distance(NEAR, FAR), 0, 40
    for seed in range(repeats):
        table = bootstrap_table(
            [NEAR.sums(150, 2 * seed)], [FAR.sums(150, 2 * seed + 1)], resamples=60, seed=seed
        )
        low, high = table.interval(level=0.9)
        assert 0 < low[0, 0] < high[0, 0]
        hits += bool(low[0, 0] <= truth <= high[0, 0])
    # 36 expected; 29 or fewer would have a probability of 0.2 % at a coverage of 0.9.
    assert hits >= 30


def test_interval_is_carried_over_by_its_relative_width():
    draws = np.array([[[0.8]], [[1.0]], [[1.2]], [[1.4]]])
    table = Bootstrap(distance=draws, estimate=np.array([[1.0]]))
    low, high = table.interval(level=1.0)
    np.testing.assert_allclose([low, high], [[[0.6]], [[1.2]]])
    low, high = table.interval(np.array([[50.0]]), level=1.0)
    np.testing.assert_allclose([low, high], [[[30.0]], [[60.0]]])
    same = Bootstrap(distance=draws, estimate=np.array([[0.4]]))
    assert same.interval(level=1.0)[0][0, 0] == 0


def test_the_closer_set_is_known_when_it_is_clear():
    sets = [NEAR.sums(100, 1), FAR.sums(100, 2), NEAR.sums(100, 3)]
    table = bootstrap_table(sets, [NEAR.sums(100, 4)], resamples=60)
    assert table.probability_closer(0, 1, 0) == 1
    assert table.probability_closer(1, 0, 0) == 0
    assert 0.02 < table.probability_closer(0, 2, 0) < 0.98


def test_sets_projected_differently_are_refused():
    builder = StructureSumsBuilder(np.eye(6)[:, :2])
    builder.add(*NEAR.draw(5, 0))
    with pytest.raises(ValueError, match=r"\[2, 6\] features cannot be compared"):
        bootstrap_table([builder.result()], [NEAR.sums(5, 1)])


def parts_of(population: Population, structures: int, seed: int) -> list:
    rows, owner = population.draw(structures, seed)
    return [statistics_of(rows[owner % 4 == i]) for i in range(4)]


def test_extrapolation_removes_most_of_the_bias():
    a, b = Population(12, seed=1), Population(12, seed=2)
    truth = true_distance(a, b)
    results = [
        extrapolate_table([parts_of(a, 80, 2 * s)], [parts_of(b, 80, 2 * s + 1)]) for s in range(12)
    ]
    plain = np.mean([r.distance for r in results]) - truth
    left = np.mean([r.infinite for r in results]) - truth
    assert plain > 0
    assert abs(left) < 0.35 * plain
    np.testing.assert_allclose(np.mean([r.bias for r in results]), plain - left)
    assert all(r.uncertainty[0, 0] < r.bias[0, 0] for r in results)


def test_extrapolation_starts_from_the_whole_sets():
    first, second = parts_of(NEAR, 40, 1), parts_of(FAR, 40, 2)
    rows = [NEAR.draw(40, 1)[0], FAR.draw(40, 2)[0]]
    table = extrapolate_table([first, second], [second])
    expected = frechet_distance(*(statistics_of(r) for r in rows))
    np.testing.assert_allclose(table.distance[0, 0], expected, rtol=1e-11)
    assert table.infinite[1, 0] == table.distance[1, 0] == 0
    with pytest.raises(ValueError, match="4 parts of every set, not 3"):
        extrapolate_table([first[:3]], [second])
