"""Harmonics, frames, grids and SO(2) convolutions, against e3nn-jax and the original's numbers."""

from typing import Any

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atomjax.models.equiformer_v2.grid import on_grid
from atomjax.models.equiformer_v2.harmonics import (
    degree_weights,
    degrees,
    grid_matrices,
    orders,
    rows_by_order,
    spherical_harmonics,
    tilt_series,
    wigner,
)
from atomjax.models.equiformer_v2.published_grid import published_grid_matrices
from atomjax.models.equiformer_v2.so2 import ComplexDense, SO2Convolution, num_weights
from atomjax.models.equiformer_v2.so3 import edge_geometry
from tests.models.conformance import random_rotation

AXES = np.concatenate([np.eye(3), -np.eye(3)])
pytestmark = pytest.mark.usefixtures("x64")


def directions(count: int = 200) -> np.ndarray:
    """Random unit vectors, the axes, and vectors close to the axes."""
    rng = np.random.default_rng(0)
    near = (
        np.repeat(AXES, 3, axis=0)
        + rng.normal(size=(18, 3)) * np.tile([1e-3, 1e-8, 1e-15], 6)[:, None]
    )
    vectors = np.concatenate([rng.normal(size=(count, 3)), AXES, near])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def full_wigner(rotations: np.ndarray, lmax: int) -> np.ndarray:
    """Block-diagonal Wigner matrices from e3nn-jax."""
    size = (lmax + 1) ** 2
    out = np.zeros((len(rotations), size, size))
    for degree in range(lmax + 1):
        block = slice(degree * degree, (degree + 1) ** 2)
        out[:, block, block] = e3nn.Irrep(degree, 1).D_from_matrix(jnp.asarray(rotations))
    return out


def rotation_about_y(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def test_harmonics_and_wigner_matrices_are_those_of_e3nn():
    vectors = directions()
    for normalization, scale in (("component", 1.0), ("norm", 1 / np.sqrt(2 * degrees(4) + 1))):
        expected = e3nn.spherical_harmonics(
            e3nn.Irreps("0e+1e+2e+3e+4e"),
            jnp.asarray(vectors),
            normalize=True,
            normalization=normalization,
        ).array
        np.testing.assert_allclose(spherical_harmonics(vectors, 4) * scale, expected, atol=1e-13)
    rotation = random_rotation(1)
    np.testing.assert_allclose(wigner(rotation, 4), full_wigner(rotation[None], 4)[0], atol=1e-13)


def test_harmonics_and_wigner_matrices_are_those_of_the_reference(shared):
    with np.load(shared / "oracle" / "so3.npz") as reference:
        for degree in range(5):
            block = slice(degree * degree, (degree + 1) ** 2)
            units = reference["sh_vectors"]
            units = units / np.linalg.norm(units, axis=1, keepdims=True)
            harmonics = spherical_harmonics(units, 4)[:, block]
            np.testing.assert_allclose(harmonics, reference[f"sh_l{degree}"], atol=1e-13)
        for i, (alpha, beta, gamma) in enumerate(reference["angles"]):
            c, s = np.cos(beta), np.sin(beta)
            tilt = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
            matrix = wigner(rotation_about_y(alpha) @ tilt @ rotation_about_y(gamma), 6)
            for degree in range(7):
                block = slice(degree * degree, (degree + 1) ** 2)
                expected = reference[f"wigner_l{degree}"][i]
                np.testing.assert_allclose(matrix[block, block], expected, atol=1e-13)


def test_tilt_series_sums_to_the_rotation():
    angle = 0.7
    k = np.arange(7)
    basis = np.concatenate([np.cos(k * angle), np.sin(k[1:] * angle)])
    c, s = np.cos(angle), np.sin(angle)
    expected = wigner(np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), 6)
    np.testing.assert_allclose(np.tensordot(basis, tilt_series(6), 1), expected, atol=1e-13)


@pytest.mark.parametrize(("lmax", "mmax"), [(3, 2), (4, 2), (6, 3)])
def test_frames_bring_every_direction_onto_y(lmax, mmax):
    units = directions()
    matrices = np.asarray(edge_geometry(jnp.asarray(units * 2.5), lmax, mmax).wigner)
    rows = rows_by_order(lmax, mmax)
    # A frame is a rotation that takes the harmonics of the edge to those of the pole.
    pole = spherical_harmonics(np.array([0.0, 1, 0]), lmax)[rows]
    turned = np.einsum("erj,ej->er", matrices, spherical_harmonics(units, lmax))
    np.testing.assert_allclose(turned, np.broadcast_to(pole, turned.shape), atol=1e-13)
    products = np.einsum("erj,esj->ers", matrices, matrices)
    assert np.abs(products - np.eye(len(rows))).max() < 1e-13
    # Its degree 1 is the frame itself, and a proper rotation.
    order = np.argsort(rows)[1:4]
    frames = matrices[:, order, 1:4]
    np.testing.assert_allclose(np.linalg.det(frames), 1, atol=1e-13)
    for matrix, frame in zip(matrices[::7], frames[::7], strict=True):
        np.testing.assert_allclose(matrix, wigner(frame, lmax)[rows], atol=1e-13)


def test_given_frames_are_used():
    rotations = np.stack([random_rotation(seed) for seed in range(50)])
    geometry = edge_geometry(jnp.asarray(rotations[:, 1] * 3), 4, 2, jnp.asarray(rotations))
    expected = full_wigner(rotations, 4)[:, rows_by_order(4, 2)]
    np.testing.assert_allclose(geometry.wigner, expected, atol=1e-12)
    np.testing.assert_allclose(geometry.distance, 3, rtol=1e-14)


def test_frames_have_finite_derivatives_in_every_direction():
    feature = jnp.asarray(np.random.default_rng(1).normal(size=25))

    @jax.jit
    def invariant(vectors):
        # |projection onto order 0|² of a fixed feature: independent of the frame's roll.
        return jnp.sum((edge_geometry(vectors, 4, 2).wigner[:, :5] @ feature) ** 2, axis=1)

    value, gradient = invariant, jax.jit(jax.grad(lambda vectors: invariant(vectors).sum()))
    units = directions(20)
    slopes = np.asarray(gradient(jnp.asarray(units)))
    assert np.isfinite(slopes).all()
    step = 1e-5
    for axis in np.eye(3):
        numeric = (value(units + step * axis) - value(units - step * axis)) / (2 * step)
        np.testing.assert_allclose(slopes @ axis, numeric, atol=1e-7)
    assert np.isfinite(np.asarray(gradient(0 * jnp.asarray(units)))).all()  # padding


def test_frames_are_accurate_in_float32():
    units = directions()
    exact = np.asarray(edge_geometry(jnp.asarray(units), 4, 2).wigner)
    single = edge_geometry(jnp.asarray(units, jnp.float32), 4, 2).wigner
    assert single.dtype == jnp.float32
    assert np.abs(np.asarray(single, np.float64) - exact).max() < 2e-6


@pytest.mark.parametrize(("lmax", "mmax"), [(3, 2), (4, 2), (4, 4), (6, 3)])
def test_grids_hold_features(lmax, mmax):
    to_grid, from_grid = grid_matrices(lmax, mmax, 18)
    kept = np.abs(orders(lmax)) <= mmax
    weights = degree_weights(lmax, mmax)[kept] ** 2 if mmax < lmax else np.ones(kept.sum())
    np.testing.assert_allclose(from_grid @ to_grid, np.diag(weights), atol=1e-13)
    x = np.random.default_rng(0).normal(size=(4, kept.sum(), 3))
    same = on_grid(lambda y: y, jnp.asarray(x), (to_grid, from_grid))
    np.testing.assert_allclose(same, x * weights[:, None], atol=1e-12)


def test_grids_are_those_of_the_reference(shared):
    with np.load(shared / "oracle" / "so3.npz") as reference:
        for mmax in (2, 3):
            expected = [reference[f"{way}_grid_l3_m{mmax}"] for way in ("to", "from")]
            published = published_grid_matrices(3, mmax)
            exact = grid_matrices(3, mmax, 18)
            np.testing.assert_array_equal(published[0], expected[0].reshape(324, -1))
            np.testing.assert_array_equal(published[1].T, expected[1].reshape(324, -1))
            np.testing.assert_allclose(exact[0], published[0], atol=1e-6)
            np.testing.assert_allclose(exact[1], published[1], atol=1e-6)
    path = shared / "oracle" / "equiformer_v2" / "so3_grid.npz"
    with np.load(path) as reference:
        for mmax in (2, 4):
            for way, ours in zip(("to", "from"), published_grid_matrices(4, mmax), strict=True):
                expected = reference[f"31M/{way}_grid_mat_4_{mmax}_f32"].reshape(324, -1)
                np.testing.assert_array_equal(ours if way == "to" else ours.T, expected)


def test_no_published_grid_beyond_degree_six():
    with pytest.raises(ValueError, match="exact_grid=True"):
        published_grid_matrices(7, 2)


def test_complex_dense_is_a_complex_matrix():
    rng = np.random.default_rng(0)
    plus, minus = rng.normal(size=(2, 5, 6))
    layer = ComplexDense(4)
    kernel = rng.normal(size=(6, 8))
    ours: Any = layer.apply({"params": {"kernel": kernel}}, jnp.asarray(plus), jnp.asarray(minus))
    expected = (plus + 1j * minus) @ (kernel[:, :4] + 1j * kernel[:, 4:])
    np.testing.assert_allclose(ours[0], expected.real, atol=1e-13)
    np.testing.assert_allclose(ours[1], expected.imag, atol=1e-13)


def test_so2_convolution_commutes_with_rolling():
    lmax, mmax, width = 4, 2, 3
    rng = np.random.default_rng(0)
    rows = rows_by_order(lmax, mmax)
    x = jnp.asarray(rng.normal(size=(2, len(rows), width)))
    weights = jnp.asarray(rng.normal(size=(2, num_weights(lmax, mmax, width))))
    layer: Any = SO2Convolution(5, lmax, mmax, scalars=7)
    variables = jax.jit(layer.init)(jax.random.key(0), x, weights)
    roll = wigner(rotation_about_y(0.4), lmax)[np.ix_(rows, rows)]
    out, scalars = layer.apply(variables, x, weights)
    turned, same = layer.apply(variables, jnp.einsum("rs,esc->erc", roll, x), weights)
    np.testing.assert_allclose(turned, jnp.einsum("rs,esc->erc", roll, out), atol=1e-12)
    np.testing.assert_allclose(same, scalars, atol=1e-12)
    assert scalars.shape == (2, 7)
