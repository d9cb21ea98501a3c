"""Samples: the class counts each strategy promises, and coverage."""

import json

import numpy as np
import pytest

from atomjax.similarity.features.coverage import class_coverage, coverage_plot, describe_coverage
from atomjax.similarity.features.sampling import (
    STRATEGIES,
    SamplingError,
    class_codes,
    count_repeats,
    sample,
    weighted_sample,
)

SIZES = np.array([1, 1, 2, 3, 5, 18, 32, 7, 40, 59, 33, 150])
ORACLE_NAMES = {
    "random": "random",
    "balanced": "balanced",
    "balanced_unique": "balancedNoRep",
    "stratified": "stratified",
    "uniform": "uniform",
}


def labels(sizes: np.ndarray = SIZES, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


def counts_of(codes: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return np.bincount(codes[indices], minlength=codes.max() + 1)


@pytest.mark.parametrize("size", [5, 12, 48, 53, 123])
@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_class_counts_are_those_of_the_reference(shared, strategy, size):
    folder = shared / "oracle" / "equiformer_v2"
    with np.load(folder / "sampling.npz") as file:
        codes = file["labels"]
    report = json.loads((folder / "sampling_report.json").read_text())
    expected = report["results"][f"{ORACLE_NAMES[strategy]}/n{size}"]
    if isinstance(expected, str):
        with pytest.raises(SamplingError):
            sample(codes, size, strategy)
        return
    indices = sample(codes, size, strategy)
    counts, theirs = counts_of(codes, indices), np.array(expected["counts"])
    assert counts.sum() == len(indices) == theirs.sum() == size
    if strategy == "stratified":
        np.testing.assert_array_equal(counts, theirs)
    elif strategy.startswith("balanced"):
        # Which classes give one more is a random choice, how many do is not.
        np.testing.assert_array_equal(np.sort(counts), np.sort(theirs))
        assert np.abs(counts - theirs).max() <= 1
    if strategy == "uniform":
        assert (counts >= 1).all()
    if strategy != "balanced":
        assert len(np.unique(indices)) == expected["unique"] == size


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_draws_are_seeded_and_differ_between_seeds(strategy):
    codes = labels()
    first, again, other = (sample(codes, 60, strategy, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (np.sort(first) != np.sort(other)).any()
    assert (np.diff(first) < 0).any()


def test_balanced_repeats_only_classes_that_are_short():
    codes = labels()
    indices = sample(codes, 12 * 10 + 7)
    counts = counts_of(codes, indices)
    assert set(counts) == {10, 11}
    for code, size in enumerate(SIZES):
        members = indices[codes[indices] == code]
        assert len(np.unique(members)) <= size
        if size >= 10:
            assert len(np.unique(members)) == len(members)
    # The remainder comes from structures not drawn yet, of which classes of one have none.
    assert counts[0] == counts[1] == 10


def test_balanced_may_exceed_the_set():
    codes = labels(np.array([1, 2]))
    counts = counts_of(codes, sample(codes, 9))
    assert sorted(counts) == [4, 5]


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_draws_without_repetition_have_no_weights(strategy):
    codes = labels(np.full(12, 20))
    drawn = weighted_sample(codes, 60, strategy)
    np.testing.assert_array_equal(drawn.indices, sample(codes, 60, strategy))
    assert (drawn.weights == 1).all()


@pytest.mark.parametrize("size", [127, 340, 10_000])
def test_weights_give_classes_their_shares_without_repetition(size):
    codes = labels()
    drawn = weighted_sample(codes, size)
    assert len(np.unique(drawn.indices)) == len(drawn.indices)
    assert drawn.weights.mean() == pytest.approx(1)
    shares = np.bincount(codes[drawn.indices], drawn.weights)
    wanted = counts_of(codes, sample(codes, size))
    # The remainder goes to random classes, unless every structure is taken.
    np.testing.assert_allclose(
        shares / shares.sum(), wanted / size, rtol=0.1 if size < 351 else 1e-2
    )
    # A class that repetition would fill is taken whole, with even weights.
    for code in np.flatnonzero(size // 12 > SIZES):
        members = codes[drawn.indices] == code
        assert members.sum() == SIZES[code]
        assert np.ptp(drawn.weights[members]) == 0
    if size == 10_000:
        assert len(drawn.indices) == len(codes)
        np.testing.assert_allclose(shares, shares.mean())


def test_repeats_are_counted_in_the_order_of_the_draw():
    counted = count_repeats(np.array([5, 2, 5, 9, 2, 5]))
    assert counted.indices.tolist() == [5, 2, 9]
    assert counted.weights.tolist() == [3, 2, 1]


def test_every_member_of_a_class_is_as_likely():
    codes = labels(np.array([4, 20]))
    drawn = np.concatenate([sample(codes, 6, "balanced", seed) for seed in range(2000)])
    frequency = np.bincount(drawn, minlength=24) / 2000
    np.testing.assert_allclose(frequency[codes == 0], 3 / 4, atol=0.05)
    np.testing.assert_allclose(frequency[codes == 1], 3 / 20, atol=0.03)


def test_a_million_keys():
    rng = np.random.default_rng(0)
    keys = rng.geometric(2e-4, 1_000_000)
    codes, classes = class_codes(keys)
    np.testing.assert_array_equal(np.asarray(classes)[codes], keys)
    for strategy in ("random", "balanced", "balanced_unique"):
        indices = sample(codes, 10_000, strategy)
        assert len(indices) == 10_000
    np.testing.assert_array_equal(class_codes(["H2O", "CH4", "H2O"])[0], [0, 1, 0])


def test_errors_say_what_is_wrong():
    codes = labels()
    with pytest.raises(SamplingError, match="'even' is not known; use one of random, balanced"):
        sample(codes, 10, "even")
    with pytest.raises(SamplingError, match="352 distinct structures of 351"):
        sample(codes, 352, "random")
    with pytest.raises(SamplingError, match="draw at least 12"):
        sample(codes, 11, "stratified")
    with pytest.raises(SamplingError, match=r"12 classes .* needs more than 12"):
        sample(codes, 12, "uniform")
    with pytest.raises(SamplingError, match="cannot draw 3 of 0 structures"):
        sample(codes[:0], 3)


def test_coverage_counts_classes():
    codes = labels()
    names = ("random", "balanced")
    samples = {name: class_coverage(codes, sample(codes, 24, name)) for name in names}
    assert samples["balanced"].covered == 12
    assert samples["balanced"].share == 1
    assert samples["random"].covered < 12
    assert samples["random"].distinct == 24
    np.testing.assert_array_equal(samples["random"].population, SIZES)
    lines = describe_coverage("oc20", samples)
    assert lines[1].startswith("oc20, balanced: 24 structures (")
    assert lines[1].endswith("12 of 12 classes (100.0%)")
    first, second = coverage_plot({"oc20": samples, "ani1x": samples}).svgs()
    assert ">oc20</text>" in first
    assert "<title>balanced: 2 of " in second
