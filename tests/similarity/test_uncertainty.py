"""Intervals, noise floors and gaps, on populations whose distance is known; extrapolation."""

import dataclasses
import json

import numpy as np
import pytest

from atomjax.similarity.analysis.bias import extrapolate_table
from atomjax.similarity.analysis.uncertainty import (
    Gap,
    Jackknife,
    Noise,
    gap_between,
    halves_distance,
    interval,
    jackknife_table,
    noise_table,
)
from atomjax.similarity.features.collect import SetFeatures
from atomjax.similarity.features.structure_sums import StructureSums, StructureSumsBuilder
from atomjax.similarity.measures.frechet import (
    frechet_distance,
    frechet_table,
    moment_distances,
)
from atomjax.similarity.measures.resampling import blocks_alike, merge_blocks, whole
from benchmarks.calibration import OUT, calibrate, formula, render
from tests.similarity.samples import Population, features_of, statistics_of, true_distance

NEAR, FAR = Population(6, seed=1), Population(6, seed=2, shift=1.0)


def test_estimates_are_the_distances_of_the_sets():
    sets = [NEAR.sums(40, 1), FAR.sums(50, 2)], [NEAR.sums(45, 3)]
    rows = [p.draw(n, s)[0] for p, n, s in ((NEAR, 40, 1), (FAR, 50, 2), (NEAR, 45, 3))]
    expected = frechet_table([statistics_of(r) for r in rows[:2]], [statistics_of(rows[2])])
    noise = noise_table(*sets, resamples=20)
    np.testing.assert_allclose(noise.estimate, expected.distance, rtol=1e-9)
    np.testing.assert_allclose(jackknife_table(*sets).estimate, expected.distance, rtol=1e-9)
    assert noise.exchanged.shape == (20, 2, 1)


def test_a_choice_is_the_set_of_its_weighted_structures():
    rows, owner = NEAR.draw(15, 1)
    weights = np.random.default_rng(0).integers(0, 3, 15)
    moments = NEAR.sums(15, 1).choose(weights[None].astype(float))
    chosen = np.repeat(rows, weights[owner], axis=0)
    np.testing.assert_allclose(moments.mean[0], chosen.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(moments.covariance[0], np.cov(chosen, rowvar=False), atol=1e-11)


def test_pooled_sets_are_their_union():
    both = np.concatenate([NEAR.draw(15, 1)[0], FAR.draw(9, 2)[0]])
    moments = whole(NEAR.sums(15, 1).joined(FAR.sums(9, 2)))
    np.testing.assert_allclose(moments.mean[0], both.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(moments.covariance[0], np.cov(both, rowvar=False), atol=1e-11)


def test_blocks_are_merged_to_as_many_structures():
    large = merge_blocks(NEAR.sums(600, 1), 60)
    assert large.structures.tolist() == [10] * 60
    np.testing.assert_allclose(
        whole(large).covariance, whole(NEAR.sums(600, 1)).covariance, atol=1e-11
    )
    first, second = blocks_alike(large, NEAR.sums(35, 2))
    assert len(first.counts) == 60
    assert sorted(second.structures) == [11, 12, 12]


def test_leaving_out_one_structure_after_the_other():
    a, b = NEAR.sums(8, 1), FAR.sums(6, 2)
    found = jackknife_table([a], [b])
    plain, parts = found.estimate[0, 0], []
    for left, right in ((a, None), (None, b)):
        one = left if left is not None else right
        assert one is not None
        n = len(one.counts)
        values = np.array(
            [
                moment_distances(
                    *(
                        s.choose(1.0 - np.eye(n)[i : i + 1]) if s is one else whole(s)
                        for s in (a, b)
                    )
                )[0]
                for i in range(n)
            ]
        )
        parts.append(((n - 1) * (values.mean() - plain), (n - 1) * values.var(), n - 1))
    np.testing.assert_allclose(found.corrected, plain - sum(p[0] for p in parts), rtol=1e-9)
    np.testing.assert_allclose(found.error, np.sqrt(sum(p[1] for p in parts)), rtol=1e-9)
    freedom = sum(p[1] for p in parts) ** 2 / sum(p[1] ** 2 / p[2] for p in parts)
    np.testing.assert_allclose(found.freedom, freedom, rtol=1e-9)


def test_a_single_unit_has_no_interval():
    found = jackknife_table([merge_blocks(NEAR.sums(8, 1), 1)], [FAR.sums(6, 2)])
    noise = noise_table([merge_blocks(NEAR.sums(8, 1), 1)], [FAR.sums(6, 2)])
    assert np.isnan(interval(found, noise)).all()
    assert np.isnan(halves_distance(merge_blocks(NEAR.sums(8, 1), 1)))


def test_intervals_are_carried_over_in_proportion_and_start_at_zero_within_the_noise():
    jackknife = Jackknife(*(np.array([[x]]) for x in (1.0, 0.8, 0.1, np.inf)))
    below, above = (Noise(np.array([[1.0]]), np.full((99, 1, 1), x)) for x in (0.5, 2.0))
    for distance, scale in ((None, 1), (np.array([[50.0]]), 50)):
        low, high = interval(jackknife, below, distance)
        np.testing.assert_allclose(low, scale * (0.8 - 0.196), rtol=1e-3)
        np.testing.assert_allclose(high, scale * (0.8 + 0.196), rtol=1e-3)
        np.testing.assert_allclose(below.floor(distance), scale * 0.5)
        assert interval(jackknife, above, distance)[0] == 0


def test_estimates_below_zero_are_not_scaled():
    """An unbiased one of two samples of one distribution is negative half of the time."""
    jackknife = Jackknife(*(np.array([[x]]) for x in (-0.02, -0.02, 0.1, np.inf)))
    noise = Noise(np.array([[-0.02]]), np.linspace(-0.1, 0.1, 201)[:, None, None])
    for distance in (None, np.array([[-0.5]])):
        low, high = interval(jackknife, noise, distance)
        assert (low[0, 0], high[0, 0]) == (0, pytest.approx(-0.02 + 0.196, rel=1e-3))
        assert noise.floor(distance)[0, 0] == pytest.approx(0.09)


def test_a_gap_needs_chance_and_interval():
    def gap(corrected: float, error: float, chance: float) -> Gap:
        values = (np.asarray(x) for x in (2.0, corrected, error, 1e9))
        return Gap(Jackknife(*values), chance * np.linspace(-1, 1, 99))

    assert gap(2.0, 0.5, 1.0).clear()
    assert gap(2.0, 0.5, 1.0).confidence == 1
    assert not gap(2.0, 1.5, 1.0).clear()
    assert not gap(2.0, 0.5, 4.0).clear()
    assert not gap(-2.0, 0.5, 1.0).clear()
    # Twice the error takes four times as many structures.
    assert gap(2.0, 2.0, 1.0).times_more() == pytest.approx(1.96**2, rel=1e-3)
    assert gap(-2.0, 0.5, 1.0).times_more() == np.inf


def test_the_closer_set_is_known_when_it_is_clear():
    near, far, again, task = NEAR.sums(60, 1), FAR.sums(60, 2), NEAR.sums(60, 3), NEAR.sums(60, 4)
    assert gap_between(near, far, task, resamples=60).clear()
    assert not gap_between(far, near, task, resamples=60).clear()
    assert not gap_between(near, again, task, resamples=60).clear()
    noise = noise_table([near, far], [task], resamples=60)
    assert noise.distinguishable().tolist() == [[False], [True]]


def test_halves_tell_the_distance_that_sets_of_one_distribution_have():
    expected = [
        moment_distances(whole(NEAR.sums(60, s)), whole(NEAR.sums(60, s + 99)))[0]
        for s in range(30)
    ]
    halves = [halves_distance(NEAR.sums(60, s)) for s in range(10)]
    assert np.mean(halves) == pytest.approx(np.mean(expected), rel=0.2)


@pytest.mark.parametrize(
    ("pair", "size"),
    [(formula(6), 15), (formula(6, decay=0.2, tails=4.0), 50), (formula(6, unit="class"), 50)],
    ids=["Gaussian", "heavy tails", "classes"],
)
def test_statements_hold_as_often_as_they_say(pair, size):
    draws = 60
    found = calibrate(pair, size, draws)
    # Of 60 draws, more than 8 wrong have a probability below 1 % where 1 in 20 may be.
    for name in ("clear, near", "clear, far", "floor"):
        assert found[name] <= 8 / draws, name
    for name in ("covers", "covers zero"):
        assert found[name] >= 1 - 8 / draws, name
    # The distance as it stands is far too large.
    assert found["plain distance"] > found["distance"]


def test_measured_calibration_is_committed_and_documented():
    result = json.loads(OUT.read_text())
    assert render(result) in (OUT.parents[1] / "csi.md").read_text()
    for name, rows in result["populations"].items():
        assert [row["size"] for row in rows] == [15, 50, 200]
        for row in rows:
            where = f"{name}, {row['size']} structures"
            assert min(row["covers"], row["covers zero"]) >= 0.9, where
            assert max(row["clear, near"], row["clear, far"]) <= 0.05, where


def test_sets_projected_differently_are_refused():
    builder = StructureSumsBuilder(np.eye(6)[:, :2])
    builder.add(*NEAR.draw(5, 0))
    with pytest.raises(ValueError, match=r"\[2, 6\] features cannot be compared"):
        noise_table([builder.result()], [NEAR.sums(5, 1)])
    with pytest.raises(ValueError, match=r"\[2, 6\] features cannot be compared"):
        gap_between(NEAR.sums(5, 1), NEAR.sums(5, 1), builder.result())


def features(population: Population, structures: int, seed: int) -> SetFeatures:
    return features_of(*population.draw(structures, seed))


def test_extrapolation_removes_most_of_the_bias():
    a, b = Population(12, seed=1), Population(12, seed=2)
    truth = true_distance(a, b)
    results = [
        extrapolate_table([features(a, 80, 2 * s)], [features(b, 80, 2 * s + 1)]) for s in range(12)
    ]
    plain = np.mean([r.distance for r in results]) - truth
    left = np.mean([r.infinite for r in results]) - truth
    assert plain > 0
    assert abs(left) < 0.35 * plain
    assert all(r.uncertainty[0, 0] < r.distance[0, 0] - r.infinite[0, 0] for r in results)


def test_extrapolation_starts_from_the_whole_sets():
    first, second = features(NEAR, 40, 1), features(FAR, 40, 2)
    rows = [NEAR.draw(40, 1)[0], FAR.draw(40, 2)[0]]
    table = extrapolate_table([first, second], [second])
    expected = frechet_distance(*(statistics_of(r) for r in rows))
    np.testing.assert_allclose(table.distance[0, 0], expected, rtol=1e-11)
    assert table.infinite[1, 0] == table.distance[1, 0] == 0
    with pytest.raises(ValueError, match="4 parts of every set, not 3"):
        extrapolate_table([dataclasses.replace(first, parts=first.parts[:3])], [second])


def test_extrapolation_of_too_few_units_is_not_known():
    first, second = features(NEAR, 40, 1), features(FAR, 3, 2)
    table = extrapolate_table([first, second], [first])
    rows = [FAR.draw(3, 2)[0], NEAR.draw(40, 1)[0]]
    expected = frechet_distance(*(statistics_of(r) for r in rows))
    np.testing.assert_allclose(table.distance[1, 0], expected, rtol=1e-9)
    assert np.isnan(table.infinite[1, 0])
    assert np.isfinite(table.infinite[0, 0])


def test_sums_of_structures_are_those_of_their_rows():
    rows, owner = NEAR.draw(9, 1)
    weights = np.random.default_rng(0).uniform(0.5, 2, 9)
    builder = StructureSumsBuilder(None)
    # Two batches, blocks in any order.
    block = np.array([2, 0, 1, 2, 0, 1, 2, 0, 1])
    for part in (owner < 5, owner >= 5):
        builder.add(rows[part], block[owner[part]], weights[owner[part]])
    found: StructureSums = builder.result()
    for b in range(3):
        inside = block[owner] == b
        w, x = weights[owner[inside]], rows[inside] - found.center
        np.testing.assert_allclose(found.counts[b], w.sum())
        np.testing.assert_allclose(found.sums[b], w @ x, atol=1e-11)
        i, j = np.triu_indices(6)
        np.testing.assert_allclose(found.products[b], (w @ (x[:, i] * x[:, j])), atol=1e-11)
