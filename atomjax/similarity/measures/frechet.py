"""The Fréchet distance between Gaussians: the chemical similarity index (CSI).

    d² = ‖μ₁ - μ₂‖² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁ Σ₂)^½

(Dowson and Landau, J. Multivariate Anal. 12, 450 (1982); as a distance between sets of features
Heusel et al., arXiv:1706.08500, and between sets of structures arXiv:2502.11085, eq. 5). Like
there it is the squared distance.

With any factors ``Σ = L Lᵀ`` the last trace is the sum of the singular values of ``L₁ᵀ L₂``, which
is that of the roots of the eigenvalues of ``L₁ᵀ Σ₂ L₁``. Every matrix is factored once
(triangular factors, so that products cost a third); a pair then costs one product and the
eigenvalues of a symmetric matrix. Squaring loses half of the digits of small singular values. The
loss is estimated from the spectrum, and where it may exceed a tolerance, singular values are
computed instead. Nothing is complex, and no matrix is regularised.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from atomjax.similarity.features.structure_sums import Moments
from atomjax.similarity.measures.statistics import (
    Statistics,
    covariance,
    host_float64,
    rank_bound,
    to_float64,
)
from atomjax.similarity.measures.symmetric import congruence, eigenvalues, lower_factor, multiply

# Up to this size singular values cost little, so no digits are given away at all.
SMALL = 256
# Largest estimated relative error of a distance by the eigenvalues of the squared factor.
TOLERANCE = 1e-7


@struct.dataclass
class Gaussians:
    """Several Gaussians, stacked."""

    mean: jax.Array  # [K, d]
    covariance: jax.Array  # [K, d, d], symmetric
    rank: jax.Array  # [K] integer upper bounds of the ranks of the covariances


@struct.dataclass
class FrechetTable:
    """Distances of K Gaussians to M others, in squared units of the features."""

    distance: np.ndarray  # [K, M] the CSI
    mean_term: np.ndarray  # [K, M] the part from the means, ``‖μ₁ - μ₂‖²``
    covariance_term: np.ndarray  # [K, M] the rest; never negative


def frechet_table(
    upstream: Sequence[Statistics], downstream: Sequence[Statistics], *, ddof: int = 1
) -> FrechetTable:
    """CSI between each upstream set and each downstream set, in float64 on the host's processor.

    One compiled call. It costs (K + M) factorisations, of d³/3 operations where a set has more
    rows than features, and K·M times about 3 d³ (a product and a tridiagonal reduction).

    Args:
        upstream: K sets.
        downstream: M sets.
        ddof: the covariances divide by the number of rows less this.

    Returns:
        NumPy arrays, [K, M]. Identical statistics give exactly zero. A set of one row has no
        covariance and counts as a point.

    Raises:
        ValueError: a set has no rows, values that are not finite, or another number of features.
    """
    _check(upstream, downstream)
    with host_float64():
        first = stack_gaussians([to_float64(s) for s in upstream], ddof)
        second = stack_gaussians([to_float64(s) for s in downstream], ddof)
        return jax.device_get(_frechet_terms(first, second))


def frechet_table_float32(
    upstream: Sequence[Statistics], downstream: Sequence[Statistics], *, ddof: int = 1
) -> FrechetTable:
    """The same in float32 on jax's default device, by singular values.

    For machines whose processor is slow beside the accelerator. The error is about 1e-6 of the
    traces, so relative to the distance it is 1e-5 where that is a hundredth of them and 1e-3 where
    it is a ten-thousandth (``docs/csi.md``).
    """
    _check(upstream, downstream)
    with jax.enable_x64(False):
        stacked = []
        for sets in (upstream, downstream):
            with host_float64():
                exact = jax.device_get(stack_gaussians([to_float64(s) for s in sets], ddof))
            single = Gaussians(
                exact.mean.astype(np.float32),
                exact.covariance.astype(np.float32),
                exact.rank.astype(np.int32),
            )
            stacked.append(jax.tree.map(jnp.asarray, single))
        return jax.device_get(_frechet_terms(*stacked, exact=True))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """CSI between two sets; see :func:`frechet_table`."""
    return float(frechet_table([a], [b]).distance[0, 0])


def moment_distances(first: Moments, second: Moments) -> np.ndarray:
    """[B] Fréchet distances, choice by choice; either side may be one choice for all.

    With a root ``Σ₁ = L Lᵀ``, the trace of the root of ``Σ₁ Σ₂`` is the sum of the roots of the
    eigenvalues of ``Lᵀ Σ₂ L``.
    """
    if len(second.mean) < len(first.mean):
        first, second = second, first
    values, vectors = np.linalg.eigh(first.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
    inner = np.linalg.eigvalsh(root.transpose(0, 2, 1) @ second.covariance @ root)
    fidelity = np.sqrt(np.maximum(inner, 0)).sum(axis=1)
    traces = sum(np.trace(side.covariance, axis1=1, axis2=2) for side in (first, second))
    gap = first.mean - second.mean
    return np.maximum((gap**2).sum(axis=1) + traces - 2 * fidelity, 0)


def stack_gaussians(sets: Sequence[Statistics], ddof: int = 1) -> Gaussians:
    """The Gaussians of several sets, in the precision of their statistics."""
    covariances = [covariance(s, ddof) for s in sets]
    return Gaussians(
        mean=jnp.stack([jnp.asarray(s.mean) for s in sets]),
        covariance=jnp.stack([0.5 * (c + c.T) for c in covariances]),
        rank=jnp.stack([rank_bound(s) for s in sets]),
    )


def frechet_terms(first: Gaussians, second: Gaussians, exact: bool = False) -> FrechetTable:
    """Distances of K Gaussians to M others, as a function to be compiled.

    Args:
        first: K Gaussians.
        second: M Gaussians of as many features.
        exact: use singular values throughout, which is slower and the only way on a TPU.

    Returns:
        Arrays [K, M].
    """
    (k, d), m = first.mean.shape, second.mean.shape[0]
    exact = exact or d <= SMALL
    traces, scaled, factors = zip(*(_factored(g) for g in (first, second)), strict=True)

    def pair(index: jax.Array) -> tuple[jax.Array, jax.Array]:
        i, j = index // m, index % m
        gap = first.mean[i] - second.mean[j]
        same = (gap == 0).all() & (first.covariance[i] == second.covariance[j]).all()
        mean_term = multiply(gap, gap)
        left, right = factors[0][i], factors[1][j]
        scale = 2 * jnp.sqrt(traces[0][i]) * jnp.sqrt(traces[1][j])
        sum_of_traces = traces[0][i] + traces[1][j]

        def singular() -> jax.Array:
            values = jnp.linalg.svd(multiply(left.T, right), compute_uv=False)
            return sum_of_traces - scale * values.sum()

        def squared() -> jax.Array:
            rank = jnp.minimum(first.rank[i], second.rank[j])
            fidelity, error = _sum_of_roots(congruence(left, scaled[1][j]), rank)
            rest = sum_of_traces - scale * fidelity
            uncertain = ~(scale * error <= TOLERANCE * jnp.abs(mean_term + rest))
            return lax.cond(uncertain, singular, lambda: rest)

        rest = singular() if exact else squared()
        return mean_term, jnp.where(same, 0, jnp.maximum(rest, 0))

    mean_term, rest = lax.map(pair, jnp.arange(k * m))
    mean_term, rest = mean_term.reshape(k, m), rest.reshape(k, m)
    return FrechetTable(mean_term + rest, mean_term, rest)


_frechet_terms = functools.partial(jax.jit, static_argnames="exact")(frechet_terms)


def _factored(gaussians: Gaussians) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Traces [K], covariances of unit trace [K, d, d] and their triangular factors [K, d, d].

    Unit traces keep tiny and huge features away from under- and overflow.
    """
    traces = jnp.trace(gaussians.covariance, axis1=1, axis2=2)
    scaled = gaussians.covariance / jnp.where(traces > 0, traces, 1)[:, None, None]
    factors = lax.map(lambda x: lower_factor(*x), (scaled, gaussians.rank))
    return traces, scaled, factors


def _sum_of_roots(matrix: jax.Array, rank: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum of the roots of the ``rank`` largest eigenvalues, and an estimate of its error.

    Eigenvalues λ err by a few ``eps · λ_max``, so their roots by that over ``2 √λ``.
    """
    values = eigenvalues(matrix)
    kept = jnp.arange(len(values)) >= len(values) - rank
    roots = jnp.sqrt(jnp.where(kept, jnp.maximum(values, 0), 0))
    noise = 4 * jnp.finfo(values.dtype).eps * values[-1]
    errors = noise / jnp.maximum(2 * roots, jnp.sqrt(noise))
    return roots.sum(), jnp.where(kept & (noise > 0), errors, 0).sum()


def _check(upstream: Sequence[Statistics], downstream: Sequence[Statistics]) -> None:
    for side, sets in (("upstream", upstream), ("downstream", downstream)):
        if not sets:
            raise ValueError(f"no {side} set; give at least one on each side")
        for i, statistics in enumerate(sets):
            where = f"{side} set {i}"
            if int(statistics.count) < 1:
                raise ValueError(f"{where} has no feature rows; sample at least one structure")
            if statistics.dimension != upstream[0].dimension:
                raise ValueError(
                    f"{where} has {statistics.dimension} features and upstream set 0 "
                    f"{upstream[0].dimension}; extract both with the same model"
                )
            if not (np.isfinite(statistics.mean).all() and np.isfinite(statistics.scatter).all()):
                raise ValueError(
                    f"the statistics of {where} are not finite; extract its features again"
                )
