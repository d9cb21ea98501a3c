"""Gathers and their transposes against plain indexing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atomjax.ops import from_slots, put, safe_norm, safe_normalize, sum_slots, take, to_slots
from atomjax.ops.gather import Slots

NUM_ROWS = 5
INDEX = np.array([[3, 0, 5], [0, 5, 0], [4, 3, 1]])  # 5 reads nothing, row 2 is read by nobody


@pytest.fixture
def reverse():
    """The places that read each row."""
    flat = INDEX.reshape(-1)
    places = [np.flatnonzero(flat == row) for row in range(NUM_ROWS)]
    width = max(map(len, places))
    table = [np.pad(p, (0, width - len(p)), constant_values=flat.size) for p in places]
    return jnp.asarray(np.stack(table))


@pytest.fixture
def slots():
    """Receivers 0, 0, 2 and one padding edge, in three slots."""
    index = jnp.array([[0, 1, 4], [4, 4, 4], [2, 4, 4]])
    return Slots(index=index, position=jnp.array([0, 1, 6, 9]))


def scatter(y):
    """Sum of y over the rows that INDEX names, by numpy."""
    out = np.zeros((NUM_ROWS + 1, *y.shape[2:]))
    np.add.at(out, INDEX, y)
    return out[:NUM_ROWS]


def test_take_reads_rows_and_zero_where_out_of_range(reverse):
    x = np.random.default_rng(0).normal(size=(NUM_ROWS, 2)).astype(np.float32)
    padded = np.concatenate([x, np.zeros((1, 2), np.float32)])
    np.testing.assert_array_equal(take(x, INDEX, reverse), padded[INDEX])


def test_put_is_the_scatter_add(reverse):
    y = np.random.default_rng(1).normal(size=(3, 3, 2)).astype(np.float32)
    np.testing.assert_allclose(put(y, INDEX, reverse), scatter(y), rtol=1e-6)


def test_derivatives_are_transposes_at_every_order(reverse, x64):
    rng = np.random.default_rng(2)
    x, y = jnp.asarray(rng.normal(size=(NUM_ROWS, 2))), jnp.asarray(rng.normal(size=(3, 3, 2)))

    def inner(x, y):
        return jnp.vdot(take(x, INDEX, reverse), y)

    np.testing.assert_allclose(jax.grad(inner)(x, y), scatter(y), rtol=1e-12)

    def smooth(x):
        return jnp.sum(jnp.sin(take(x, INDEX, reverse)) ** 2)

    def plain(x):
        padded = jnp.concatenate([x, jnp.zeros((1, 2))])
        return jnp.sum(jnp.sin(padded[INDEX]) ** 2)

    first, expected = jax.grad(smooth), jax.grad(plain)
    np.testing.assert_allclose(first(x), expected(x), rtol=1e-12)
    second = jax.grad(lambda x: jnp.sum(first(x) ** 3))(x)
    np.testing.assert_allclose(second, jax.grad(lambda x: jnp.sum(expected(x) ** 3))(x), rtol=1e-12)


def test_slots_hold_edges_and_give_them_back(slots):
    edges = jnp.arange(8.0).reshape(4, 2) + 1
    dense = to_slots(edges, slots)
    assert dense.shape == (3, 3, 2)
    np.testing.assert_array_equal(dense[0, :2], edges[:2])
    np.testing.assert_array_equal(dense[1], 0)
    np.testing.assert_array_equal(from_slots(dense, slots)[:3], edges[:3])
    np.testing.assert_array_equal(from_slots(dense, slots)[3], 0)
    np.testing.assert_array_equal(sum_slots(edges, slots)[0], edges[0] + edges[1])


def test_norms_have_finite_derivatives_at_zero():
    x = jnp.array([[0.0, 0.0, 0.0], [3.0, 0.0, 4.0]])
    np.testing.assert_allclose(safe_norm(x), [0, 5])
    unit, length = safe_normalize(x)
    np.testing.assert_allclose(unit, [[0, 0, 0], [0.6, 0, 0.8]], rtol=1e-6)
    gradient = jax.grad(lambda x: safe_norm(x).sum() + safe_normalize(x)[0].sum())(x)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[0], 0)
    second = jax.grad(lambda x: jax.grad(lambda x: safe_norm(x).sum())(x).sum())(x)
    assert np.isfinite(second).all()
    assert length[1] == 5
