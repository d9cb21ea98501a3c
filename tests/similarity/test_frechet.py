"""The Fréchet distance: reference values, exact cases, and covariances that are hard."""

import dataclasses

import jax
import numpy as np
import pytest

from atomjax.similarity.analysis.effective_rank import effective_rank
from atomjax.similarity.measures import frechet
from atomjax.similarity.measures.frechet import (
    frechet_distance,
    frechet_table,
    frechet_table_float32,
    stack_gaussians,
)
from atomjax.similarity.measures.statistics import Statistics, host_float64, to_float64
from atomjax.similarity.measures.symmetric import congruence, eigenvalues, gram, lower_factor
from tests.similarity.samples import statistics_of

AGGREGATE = {
    "flat": lambda rows, first, counts: rows,
    "mean": lambda rows, first, counts: np.add.reduceat(rows, first) / counts[:, None],
    "sum": lambda rows, first, counts: np.add.reduceat(rows, first),
    "max": lambda rows, first, counts: np.maximum.reduceat(rows, first),
}


def spectrum_rows(count: int, dimension: int, decades: float, seed: int) -> np.ndarray:
    """Rows whose standard deviations fall by so many decades, in random directions."""
    rng = np.random.default_rng(seed)
    scales = 10 ** -np.linspace(0, decades, dimension)
    rotation, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
    return (rng.normal(size=(count, dimension)) * scales) @ rotation + 0.1 * rng.normal(
        size=dimension
    )


def by_singular_values(a: Statistics, b: Statistics) -> float:
    """The distance from factors of the scatter, by NumPy alone."""
    factors = []
    for s in (a, b):
        values, vectors = np.linalg.eigh(np.asarray(s.scatter) / (int(s.count) - 1))
        values = np.where(np.arange(len(values)) >= len(values) - int(s.count) + 1, values, 0)
        factors.append(vectors * np.sqrt(np.maximum(values, 0)))
    traces = sum((f**2).sum() for f in factors)
    fidelity = np.linalg.svd(factors[0].T @ factors[1], compute_uv=False).sum()
    return float(((a.mean - b.mean) ** 2).sum() + traces - 2 * fidelity)


@pytest.mark.parametrize("case", ["full", "rankdef", "small"])
def test_agrees_with_reference_values(shared, case):
    with np.load(shared / "oracle" / "equiformer_v2" / "csi.npz") as file:
        arrays = dict(file)
    for name, aggregate in AGGREGATE.items():
        pair = []
        for i in (1, 2):
            counts = arrays[f"{case}/counts{i}"]
            rows = arrays[f"{case}/x{i}"].astype(np.float64)
            pair.append(statistics_of(aggregate(rows, np.cumsum(counts) - counts, counts)))
        table = frechet_table(pair[:1], pair[1:])
        reference = {
            key: float(arrays[f"{case}/{name}/{key}"])
            for key in ("csi_reference", "csi_symmetric_eig", "trace1", "trace2", "mean_sq")
        }
        limit = 1e-7 if case == "rankdef" else 1e-12
        distance = table.distance[0, 0]
        np.testing.assert_allclose(distance, reference["csi_reference"], rtol=limit)
        np.testing.assert_allclose(distance, reference["csi_symmetric_eig"], rtol=limit)
        # The reference takes means of float32 features in float32.
        np.testing.assert_allclose(table.mean_term[0, 0], reference["mean_sq"], rtol=1e-6)
        np.testing.assert_allclose(distance, table.mean_term[0, 0] + table.covariance_term[0, 0])
        for statistics, key in zip(pair, ("trace1", "trace2"), strict=True):
            trace = np.trace(statistics.scatter) / (int(statistics.count) - 1)
            np.testing.assert_allclose(trace, reference[key], rtol=1e-12)


def test_diagonal_gaussians_have_the_textbook_distance():
    rng = np.random.default_rng(0)
    means, scales = rng.normal(size=(2, 7)), rng.uniform(0.1, 3, size=(2, 7))
    pair = [
        Statistics(np.asarray(1001), mean, np.diag(1000 * scale**2))  # type: ignore
        for mean, scale in zip(means, scales, strict=True)
    ]
    expected = ((means[0] - means[1]) ** 2).sum() + ((scales[0] - scales[1]) ** 2).sum()
    np.testing.assert_allclose(frechet_distance(*pair), expected, rtol=1e-14)


@pytest.mark.parametrize("dimension", [24, 320])
@pytest.mark.parametrize(("count", "decades"), [(900, 1), (900, 6), (900, 12), (15, 1)])
def test_hard_covariances(dimension, count, decades):
    a, b = (statistics_of(spectrum_rows(count, dimension, decades, seed)) for seed in (1, 2))
    table = frechet_table([a, b], [a, b]).distance
    np.testing.assert_allclose(table[0, 1], by_singular_values(a, b), rtol=1e-8)
    np.testing.assert_allclose(table[0, 1], table[1, 0], rtol=2e-8)
    assert (np.diag(table) == 0).all()
    assert np.isfinite(table).all()
    assert table[0, 1] > 0


@pytest.mark.parametrize("scale", [1e-60, 1e-9, 1e9, 1e60])
def test_scales_with_the_square_of_the_features(scale):
    rows = [spectrum_rows(200, 12, 2, seed) for seed in (1, 2)]
    plain = frechet_distance(*(statistics_of(r) for r in rows))
    scaled = frechet_distance(*(statistics_of(scale * r) for r in rows))
    np.testing.assert_allclose(scaled, scale**2 * plain, rtol=1e-12)


@pytest.mark.parametrize("dimension", [10, 300])
def test_features_on_very_different_scales_keep_their_share(dimension):
    scales = 10.0 ** np.linspace(-8, 8, dimension)
    rng = np.random.default_rng(0)
    a, b = (statistics_of(rng.normal(size=(800, dimension)) * scales) for _ in range(2))
    np.testing.assert_allclose(frechet_distance(a, b), by_singular_values(a, b), rtol=1e-7)


@pytest.mark.parametrize("dimension", [6, 300])
def test_constant_and_repeated_features(dimension):
    rows = [spectrum_rows(700, dimension, 1, seed) for seed in (1, 2)]
    plain = frechet_distance(*(statistics_of(r) for r in rows))
    constant = [np.concatenate([r, np.full((700, 3), 5.0)], axis=1) for r in rows]
    np.testing.assert_allclose(
        frechet_distance(*(statistics_of(r) for r in constant)), plain, rtol=1e-9
    )
    repeated = [np.concatenate([r, r], axis=1) for r in rows]
    np.testing.assert_allclose(
        frechet_distance(*(statistics_of(r) for r in repeated)), 2 * plain, rtol=1e-7
    )


def test_points_have_the_distance_of_their_means():
    a, b = statistics_of(np.zeros((1, 5))), statistics_of(np.full((4, 5), 2.0))
    table = frechet_table([a], [b])
    assert table.distance[0, 0] == 20
    assert table.covariance_term[0, 0] == 0
    assert frechet_distance(a, a) == 0


def test_near_sets_never_have_a_negative_distance():
    rows = spectrum_rows(500, 300, 3, 1)
    a = statistics_of(rows)
    for size in (1e-12, 1e-9, 1e-6):
        moved = rows + size * np.random.default_rng(0).normal(size=rows.shape)
        distance = frechet_distance(a, statistics_of(moved))
        assert 0 <= distance < 1e-9


def test_table_is_made_of_pairs():
    sets = [statistics_of(spectrum_rows(100 + i, 9, 1, i)) for i in range(5)]
    table = frechet_table(sets[:2], sets[2:])
    assert table.distance.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            single = frechet_distance(sets[i], sets[2 + j])
            np.testing.assert_allclose(table.distance[i, j], single, rtol=1e-13)


def test_each_way_to_the_trace_is_taken_and_right(monkeypatch):
    # Above the size where singular values are always used.
    sets = [statistics_of(spectrum_rows(900, 320, 6, seed)) for seed in (1, 2)]
    exact = by_singular_values(*sets)
    with host_float64():
        first, second = (stack_gaussians([to_float64(s)]) for s in sets)
        singular = frechet.frechet_terms(first, second, exact=True).distance[0, 0]
        monkeypatch.setattr(frechet, "TOLERANCE", 0.0)
        fallback = jax.jit(frechet.frechet_terms)(first, second).distance[0, 0]
        monkeypatch.setattr(frechet, "TOLERANCE", np.inf)
        squared = jax.jit(lambda a, b: frechet.frechet_terms(a, b))(first, second).distance[0, 0]
    assert singular == fallback
    assert squared != singular
    np.testing.assert_allclose([singular, squared], exact, rtol=1e-7)


@pytest.mark.parametrize(
    ("count", "dimension", "decades", "limit"),
    [(900, 24, 1, 3e-6), (900, 300, 3, 3e-6), (60, 300, 1, 3e-6), (900, 300, 9, 3e-5)],
)
def test_float32_error(count, dimension, decades, limit):
    sets = [statistics_of(spectrum_rows(count, dimension, decades, seed)) for seed in (1, 2, 3)]
    single = frechet_table_float32(sets[:1], sets[1:])
    assert single.distance.dtype == np.float32
    np.testing.assert_allclose(
        single.distance, frechet_table(sets[:1], sets[1:]).distance, rtol=limit
    )


def test_errors_say_what_is_wrong():
    good = statistics_of(np.ones((2, 4)))
    with pytest.raises(ValueError, match="no downstream set"):
        frechet_table([good], [])
    with pytest.raises(ValueError, match="downstream set 1 has 5 features and upstream set 0 4"):
        frechet_table([good], [good, statistics_of(np.ones((2, 5)))])
    with pytest.raises(ValueError, match="upstream set 0 has no feature rows"):
        frechet_table([statistics_of(np.ones((0, 4)))], [good])
    bad = dataclasses.replace(good, mean=good.mean * np.nan)
    with pytest.raises(ValueError, match="statistics of downstream set 0 are not finite"):
        frechet_table([good], [bad])


@pytest.mark.usefixtures("x64")
def test_products_and_factors_use_the_symmetry():
    rng = np.random.default_rng(0)
    rows, lower = rng.normal(size=(40, 700)), np.tril(rng.normal(size=(700, 700)))
    product = gram(rows)
    assert (product == product.T).all()
    np.testing.assert_allclose(product, rows.T @ rows, atol=1e-11)
    np.testing.assert_allclose(
        np.tril(congruence(lower, product)), np.tril(lower.T @ product @ lower), atol=1e-7
    )
    factor = lower_factor(product, np.asarray(40))
    np.testing.assert_allclose(factor @ factor.T, product, atol=1e-11)
    assert (np.triu(factor, 1) == 0).all()
    np.testing.assert_allclose(
        eigenvalues(product)[-40:], np.linalg.eigvalsh(rows @ rows.T), rtol=1e-11
    )


def test_effective_rank_counts_directions():
    scatter = np.zeros((300, 300))
    scatter[:5, :5] = 3 * np.eye(5)
    rank = effective_rank(Statistics(np.asarray(9), np.zeros(300), scatter))  # type: ignore
    np.testing.assert_allclose(rank, 5, rtol=1e-9)
    scatter = np.diag([3.0, 1.0])
    rank = effective_rank(Statistics(np.asarray(9), np.zeros(2), scatter))  # type: ignore
    np.testing.assert_allclose(rank, np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)))
    assert effective_rank(statistics_of(np.ones((4, 3)))) == 0
