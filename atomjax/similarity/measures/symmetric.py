"""Symmetric matrices: products, factors and spectra that use the symmetry.

XLA has no symmetric rank-k update and its ``eigh`` always computes vectors. At the 3200 features
of EquiformerV2 the recursions below save half to two thirds of the products, and reduction to
tridiagonal form followed by bisection takes a tenth of the time of ``jnp.linalg.eigvalsh``.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import eigh_tridiagonal

HIGHEST = lax.Precision.HIGHEST
# Below this size one matrix product is faster than four.
BLOCK = 256
# Up to this size vectors that nobody reads cost no time, and the bisection takes 2 s to compile.
DIRECT = 320


def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
    """Matrix product in full precision (GPUs and TPUs round the factors otherwise)."""
    return jnp.matmul(a, b, precision=HIGHEST)


def mirror(lower: jax.Array) -> jax.Array:
    """The symmetric matrix with this lower triangle, [d, d]."""
    return jnp.tril(lower) + jnp.tril(lower, -1).T


def gram(rows: jax.Array) -> jax.Array:
    """``rowsᵀ rows`` [d, d] of rows [n, d], exactly symmetric, in half the work."""
    d = rows.shape[1]
    if d <= BLOCK:
        return mirror(multiply(rows.T, rows))
    left, right = rows[:, : d // 2], rows[:, d // 2 :]
    corner = multiply(right.T, left)
    return jnp.block([[gram(left), corner.T], [corner, gram(right)]])


def congruence(lower: jax.Array, matrix: jax.Array) -> jax.Array:
    """``Lᵀ S L`` for a lower triangular L and a symmetric S, in a third of the work.

    With halves of the rows and columns, the lower left block is ``L₂₂ᵀ (S₂₁ L₁₁ + S₂₂ L₂₁)``, the
    lower right one ``L₂₂ᵀ S₂₂ L₂₂``, and the upper left one ``L₁₁ᵀ S₁₁ L₁₁`` and a symmetric rest.

    Args:
        lower: [d, d] lower triangular.
        matrix: [d, d] symmetric.

    Returns:
        [d, d] of which only the lower triangle is to be read.
    """
    d = lower.shape[0]
    if d <= BLOCK:
        return multiply(lower.T, multiply(matrix, lower))
    h = d // 2
    l11, l21, l22 = lower[:h, :h], lower[h:, :h], lower[h:, h:]
    half = 0.5 * multiply(matrix[h:, h:], l21)
    mixed = multiply(matrix[h:, :h], l11) + half
    rest = multiply(l21.T, mixed)
    corner = multiply(l22.T, mixed + half)
    upper = congruence(l11, matrix[:h, :h]) + rest + rest.T
    return jnp.block([[upper, jnp.zeros_like(corner.T)], [corner, congruence(l22, matrix[h:, h:])]])


def eigenvalues(matrix: jax.Array) -> jax.Array:
    """All eigenvalues in ascending order, from the lower triangle; on CPU and GPU.

    Args:
        matrix: [d, d] symmetric.

    Returns:
        [d], each within a few ``eps · max |λ|``.
    """
    if matrix.shape[0] <= DIRECT:
        return jnp.linalg.eigvalsh(mirror(matrix))
    _, diagonal, off_diagonal, _ = lax.linalg.tridiagonal(matrix, lower=True)
    return eigh_tridiagonal(diagonal, off_diagonal, eigvals_only=True)


def lower_factor(matrix: jax.Array, rank: jax.Array) -> jax.Array:
    """A lower triangular L with ``L Lᵀ = matrix``, also where the matrix is singular.

    Cholesky's factor where the matrix has full rank to rounding. Otherwise the triangular factor
    of ``√D Vᵀ`` from the eigendecomposition ``V D Vᵀ``, without the eigenvalues that must be zero
    by the rank or are indistinguishable from it.

    Args:
        matrix: [d, d] symmetric and positive semi-definite to rounding.
        rank: [] integer, an upper bound of the rank.

    Returns:
        [d, d].
    """
    d = matrix.shape[0]
    cholesky = lax.linalg.cholesky(matrix, symmetrize_input=False)

    def spectral() -> jax.Array:
        values, vectors = jnp.linalg.eigh(matrix, symmetrize_input=False)
        noise = 8 * jnp.finfo(matrix.dtype).eps * values[-1]
        kept = (jnp.arange(d) >= d - rank) & (values > noise)
        scaled = vectors * jnp.sqrt(jnp.where(kept, values, 0))
        return jnp.tril(jnp.linalg.qr(scaled.T, mode="r").T)

    definite = (rank >= d) & jnp.isfinite(cholesky).all()
    return lax.cond(definite, lambda: jnp.tril(cholesky), spectral)
