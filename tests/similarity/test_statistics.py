"""Streaming statistics: shards merge to one pass, in any precision, on any number of devices."""

import dataclasses
import subprocess
import sys
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atomjax.similarity.measures.statistics import (
    covariance,
    empty_statistics,
    merge,
    merge_all,
    row_statistics,
    to_float64,
    update,
)
from atomjax.similarity.measures.stream import StatisticsStream
from tests.processes import with_devices
from tests.similarity.samples import exact, statistics_of


def rows_of(count: int, dimension: int, seed: int = 0, offset: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimension, dimension))
    return rng.normal(size=(count, dimension)) @ mixing + offset


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_shards_merge_to_one_pass(offset):
    rows = rows_of(1000, 20, offset=offset)
    cuts = [0, 1, 7, 300, 301, 900, 1000]
    shards = [statistics_of(rows[a:b]) for a, b in pairwise(cuts)]
    mean, cov = exact(rows)
    for parts in (shards, shards[::-1], [statistics_of(rows)]):
        merged = merge_all(parts)
        assert int(merged.count) == 1000
        np.testing.assert_allclose(merged.mean, mean, rtol=1e-12, atol=1e-12)
        got = merged.scatter / 999
        assert np.abs(got - cov).max() <= 1e-12 * np.abs(cov).max() * max(1, offset / 10)
        assert (got == got.T).all()


@pytest.mark.usefixtures("x64")
def test_masked_rows_do_not_count():
    rows = rows_of(50, 300)
    mask = np.arange(50) % 3 > 0
    dirty = jnp.asarray(np.where(mask[:, None], rows, np.nan))
    statistics = jax.jit(row_statistics)(dirty, jnp.asarray(mask))
    mean, cov = exact(rows[mask])
    assert int(statistics.count) == mask.sum()
    np.testing.assert_allclose(statistics.mean, mean, atol=1e-13)
    np.testing.assert_allclose(covariance(statistics), cov, atol=1e-11)


@pytest.mark.parametrize("x64", [True, False])
def test_weights_count_as_repetition_and_merge(x64):
    rng = np.random.default_rng(0)
    rows, times = rows_of(60, 5), rng.integers(0, 4, 60)
    mean, cov = exact(np.repeat(rows, times, axis=0))
    step = jax.jit(update)
    with jax.enable_x64(x64):
        parts = empty_statistics(5)
        for begin in range(0, 60, 12):
            part = slice(begin, begin + 12)
            parts = step(parts, jnp.asarray(rows[part]), None, jnp.asarray(times[part]))
        assert float(parts.total) == times.sum()
        assert int(parts.count) == 60
        np.testing.assert_allclose(covariance(parts), cov, rtol=1e-5, atol=1e-5)
    limit = 1e-12 if x64 else 1e-5
    np.testing.assert_allclose(to_float64(parts).mean, mean, atol=limit)
    # Unweighted rows join weighted ones, each with weight 1.
    both = merge_all([parts, statistics_of(rows[:7])])
    mean, cov = exact(np.concatenate([np.repeat(rows, times, axis=0), rows[:7]]))
    assert float(both.total) == times.sum() + 7
    np.testing.assert_allclose(both.mean, mean, atol=limit)
    np.testing.assert_allclose(both.scatter / (both.total - 1), cov, rtol=1e-5, atol=limit)


@pytest.mark.usefixtures("x64")
def test_nothing_changes_nothing():
    statistics = row_statistics(jnp.asarray(rows_of(9, 4)))
    for order in ((statistics, empty_statistics(4)), (empty_statistics(4), statistics)):
        jax.tree.map(np.testing.assert_array_equal, merge(*order), statistics)
    assert (covariance(row_statistics(jnp.ones((1, 4)))) == 0).all()


def test_float32_does_not_lose_digits_with_the_number_of_batches():
    rows = rows_of(40_000, 8, offset=30).astype(np.float32)
    mean, cov = exact(rows.astype(np.float64))
    step = jax.jit(update)
    statistics, plain = empty_statistics(8, jnp.float32), empty_statistics(8, jnp.float32)
    for batch in rows.reshape(4000, 10, 8):
        statistics = step(statistics, batch)
        forgetful = dataclasses.replace(plain, mean_low=jnp.zeros(8), scatter_low=jnp.zeros((8, 8)))
        plain = step(forgetful, batch)
    got, without = (to_float64(s) for s in (statistics, plain))
    error = np.abs(got.scatter / 39_999 - cov).max() / np.abs(cov).max()
    assert error < 3e-7
    assert error < np.abs(without.scatter / 39_999 - cov).max() / np.abs(cov).max() / 10
    np.testing.assert_allclose(got.mean, mean, rtol=1e-6)


def test_stream_takes_pieces_of_any_size():
    rows = rows_of(700, 6).astype(np.float32)
    stream = StatisticsStream(6, block=64)
    for piece in np.split(rows, [0, 1, 65, 400]):
        stream.add(piece)
    first = stream.result()
    mean, cov = exact(rows.astype(np.float64))
    assert first.scatter.dtype == np.float64
    np.testing.assert_allclose(first.mean, mean, atol=1e-13)
    np.testing.assert_allclose(first.scatter / 699, cov, atol=1e-12)
    stream.add(rows)
    assert int(stream.result().count) == 1400
    assert int(first.count) == 700


def test_stream_takes_weights():
    rows, weights = rows_of(300, 4), np.random.default_rng(0).uniform(0.1, 3, 300)
    stream = StatisticsStream(4, block=64)
    for part in (slice(0, 100), slice(100, 300)):
        stream.add(rows[part], weights[part])
    found = stream.result()
    assert int(found.count) == 300
    np.testing.assert_allclose(found.total, weights.sum())
    np.testing.assert_allclose(found.mean, weights @ rows / weights.sum(), atol=1e-12)
    expected = np.cov(rows, rowvar=False, aweights=weights, ddof=0)
    np.testing.assert_allclose(found.scatter / found.total, expected, atol=1e-11)
    assert statistics_of(rows).weight is None


def test_errors_say_what_is_wrong():
    stream = StatisticsStream(6)
    with pytest.raises(ValueError, match=r"\(3, 5\) do not fit statistics of 6 features"):
        stream.add(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="row 1 of the features is not finite"):
        stream.add(np.array([[0.0] * 6, [np.nan] * 6]))
    with pytest.raises(ValueError, match="of no features"):
        merge_all([])
    with pytest.raises(ValueError, match=r"of \[4, 6\] features"):
        merge_all([statistics_of(np.ones((2, 4))), statistics_of(np.ones((2, 6)))])


def test_eight_devices_merge_to_one():
    done = subprocess.run(
        [sys.executable, "-m", "tests.similarity.eight_devices"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=with_devices(8),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "8 devices agree" in done.stdout
