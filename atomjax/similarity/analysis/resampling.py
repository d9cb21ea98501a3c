"""Distances of many choices of blocks, from the sums over each block.

Everything here is NumPy on the host: matrices are at most some dozens wide, and there are hundreds
of them.
"""

from typing import NamedTuple

import numpy as np

from atomjax.similarity.features.structure_sums import StructureSums, unpack


class Moments(NamedTuple):
    """Means [B, q] and covariances [B, q, q] of B choices."""

    mean: np.ndarray
    covariance: np.ndarray


def choice_moments(weights: np.ndarray, sums: StructureSums) -> Moments:
    """Moments of weighted blocks; covariances divide by the rows less one.

    Args:
        weights: [B, S] how often each block is taken in each choice.
        sums: of S blocks.
    """
    rows = weights @ sums.counts
    offset = weights @ sums.sums / rows[:, None]
    second = unpack(weights @ sums.products / rows[:, None], sums.dimension)
    central = second - offset[:, :, None] * offset[:, None, :]
    factor = np.where(rows > 1, rows / np.where(rows > 1, rows - 1, 1), 0)
    return Moments(offset + sums.center, central * factor[:, None, None])


def whole_moments(sums: StructureSums) -> Moments:
    """Moments of all blocks, as one choice."""
    return choice_moments(np.ones((1, len(sums.counts))), sums)


def without_each(sums: StructureSums) -> Moments:
    """Moments of all blocks but one, for every one of them."""
    blocks = len(sums.counts)
    return choice_moments(np.ones((blocks, blocks)) - np.eye(blocks), sums)


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


def merge_blocks(sums: StructureSums, count: int) -> StructureSums:
    """The same rows in at most ``count`` blocks, to which the old ones are dealt in turn."""
    blocks = len(sums.counts)
    if blocks <= count:
        return sums
    order = np.argsort(np.arange(blocks) % count, kind="stable")
    first = np.flatnonzero(np.diff(np.arange(blocks)[order] % count, prepend=-1))
    arrays = (sums.counts, sums.sums, sums.products, sums.structures)
    counts, totals, products, structures = (np.add.reduceat(a[order], first) for a in arrays)
    return StructureSums(counts, totals, products, sums.center, structures)


def pooled(first: StructureSums, second: StructureSums) -> StructureSums:
    """The blocks of both sets, the first set's before the second's."""
    i, j = np.triu_indices(first.dimension)
    shift = second.center - first.center
    moved = second.sums + second.counts[:, None] * shift
    cross = second.sums[:, i] * shift[j] + moved[:, j] * shift[i]
    return StructureSums(
        np.concatenate([first.counts, second.counts]),
        np.concatenate([first.sums, moved]),
        np.concatenate([first.products, second.products + cross]),
        first.center,
        np.concatenate([first.structures, second.structures]),
    )


def blocks_alike(first: StructureSums, second: StructureSums) -> tuple[StructureSums, ...]:
    """Both sets in blocks of about as many structures, so that they may be exchanged.

    One set may be kept in larger blocks: those of the other are merged to that size.
    """
    sizes = [float(s.structures.mean()) for s in (first, second)]
    largest = max(sizes)
    return tuple(
        merge_blocks(s, max(int(len(s.counts) * size / largest), 1))
        for s, size in zip((first, second), sizes, strict=True)
    )


def exchanges(first: int, second: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """[draws, first + second] ones for the pooled blocks that a draw puts into the first set."""
    chosen = rng.permuted(np.tile(np.arange(first + second) < first, (draws, 1)), axis=1)
    return chosen.astype(np.float64)
