"""Samples of structures that represent a set.

Data sets of structures have long tails: a few compositions make up most of them. The strategies
are those of arXiv:2502.11085 (section 3.2 and appendix C); a class is for instance a chemical
formula, or the bulk below a slab. All are seeded, take time and memory in proportion to the number
of structures, and return a shuffled sample.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atomjax.structures import Structure
from atomjax.structures.store import Store

# Sample size of the published numbers for every set.
DEFAULT_SIZE = 10_000
# Classes whose names are kept.
NAMED_CLASSES = 100_000


class SamplingError(ValueError):
    """A sample of this size cannot be drawn this way."""


def class_keys(structures: Sequence[Structure]) -> np.ndarray | Iterable[str]:
    """Class of each structure; of a store its number in the index, without reading a structure."""
    if isinstance(structures, Store):
        return structures.class_ids
    return (structure.class_key for structure in structures)


def class_names(structures: Sequence[Structure], classes: Sequence[Any]) -> tuple[str, ...]:
    """Names of classes, in their order; none where there are too many to keep."""
    if len(classes) > NAMED_CLASSES:
        return ()
    if isinstance(structures, Store):
        return tuple(structures.class_keys[number] for number in classes)
    return tuple(map(str, classes))


def class_codes(keys: Iterable[Hashable] | np.ndarray) -> tuple[np.ndarray, list[Hashable]]:
    """Numbers the classes in the order in which they appear.

    Args:
        keys: the class of each structure: strings, numbers or tuples.

    Returns:
        [n] int64 number of each structure's class, and the classes.
    """
    numbers: dict[Hashable, int] = {}
    values = keys.tolist() if isinstance(keys, np.ndarray) else keys
    codes = np.fromiter((numbers.setdefault(key, len(numbers)) for key in values), np.int64)
    return codes, list(numbers)


def sample(
    codes: np.ndarray, size: int = DEFAULT_SIZE, strategy: str = "balanced", seed: int = 0
) -> np.ndarray:
    """Draws structures.

    Args:
        codes: [n] number of each structure's class, from :func:`class_codes`.
        size: number of structures to draw.
        strategy: "random", distinct structures; "balanced", ``⌊size / classes⌋`` of each class,
            repeating where a class has fewer, and the remainder one each from a random choice of
            classes; "balanced_unique", the same without repetition, round after round until full;
            "stratified", every class with a single structure and the others in proportion;
            "uniform", one of each class and the rest at random.
        seed: seed of the draw.

    Returns:
        [size] indices, in random order. Only "balanced" may repeat an index.

    Raises:
        SamplingError: the strategy is unknown, or the classes do not allow the size.
    """
    if strategy not in STRATEGIES:
        raise SamplingError(
            f"strategy={strategy!r} is not known; use one of {', '.join(STRATEGIES)}"
        )
    codes = np.asarray(codes)
    if size < 1 or not len(codes):
        raise SamplingError(
            f"cannot draw {size} of {len(codes)} structures; both must be at least 1"
        )
    if strategy != "balanced" and size > len(codes):
        raise SamplingError(
            f"cannot draw {size} distinct structures of {len(codes)}; lower the size, or use "
            'strategy="balanced", which repeats'
        )
    rng = np.random.default_rng(seed)
    return rng.permutation(STRATEGIES[strategy](_Classes(codes, rng), size, rng))


@dataclass(frozen=True)
class WeightedSample:
    """Distinct structures that represent a set.

    Attributes:
        indices: [S] of the structures, each once.
        weights: [S] how much each counts.
    """

    indices: np.ndarray
    weights: np.ndarray


def weighted_sample(
    codes: np.ndarray, size: int = DEFAULT_SIZE, strategy: str = "balanced", seed: int = 0
) -> WeightedSample:
    """Draw distinct structures, and weigh them where :func:`sample` would repeat some.

    A class that "balanced" repeats to fill its share is taken whole, and its structures divide the
    share among them: what repetition has on average, without its noise. Draws without repetition
    are those of :func:`sample`, with weights of one.

    Args:
        codes: [n] number of each structure's class, from :func:`class_codes`.
        size: number to draw; for "balanced" more than there are takes all.
        strategy: see :func:`sample`.
        seed: seed of the draw.

    Returns:
        The structures in random order, with weights of mean one.

    Raises:
        SamplingError: as :func:`sample`.
    """
    codes = np.asarray(codes)
    repeated = count_repeats(sample(codes, size, strategy, seed))
    if (repeated.weights == 1).all():
        return repeated
    sizes = np.bincount(codes)
    if size >= len(codes):
        members = np.arange(len(codes))
        weights = 1 / sizes[codes]
    else:
        drawn, owners = repeated.indices, codes[repeated.indices]
        short = np.bincount(owners, repeated.weights > 1, len(sizes)) > 0
        even = np.bincount(owners, repeated.weights, len(sizes)) / np.maximum(sizes, 1)
        members = np.union1d(drawn, np.flatnonzero(short[codes]))
        weights = np.where(short, even, 1.0)[codes[members]]
    order = np.random.default_rng(seed).permutation(len(members))
    return WeightedSample(members[order], (weights / weights.mean())[order])


def count_repeats(indices: np.ndarray) -> WeightedSample:
    """A draw with repetition as its distinct structures, weighted by how often each was drawn.

    In the order in which they appear first.
    """
    distinct, first, counts = np.unique(indices, return_index=True, return_counts=True)
    order = np.argsort(first)
    return WeightedSample(distinct[order], counts[order].astype(np.float64))


class _Classes:
    """Structures sorted by class, in random order inside each.

    Attributes:
        members: [n] indices of the structures.
        sizes: [K] structures of each class.
        starts: [K] where each class begins in ``members``.
    """

    def __init__(self, codes: np.ndarray, rng: np.random.Generator):
        shuffled = rng.permutation(len(codes))
        order = np.argsort(codes[shuffled], kind="stable")
        self.members = shuffled[order]
        sizes = np.bincount(codes)
        self.sizes = sizes[sizes > 0]
        self.starts = np.cumsum(self.sizes) - self.sizes

    def take(self, counts: np.ndarray) -> np.ndarray:
        """The first ``counts[k]`` structures of each class."""
        return self.members[_leading(self.starts, counts)]


def _leading(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Positions ``starts[k], starts[k] + 1, …`` of the first ``counts[k]`` of each class."""
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1])


def _rounds(sizes: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """[K] how many each class gives if all give one at a time while they can, until ``size``.

    The classes that give in the last round are a random choice. ``size`` is at most the sum.
    """
    # After r full rounds, classes have given min(r, their size); the largest r that fits.
    low, high = 0, int(sizes.max())
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(sizes, middle).sum() <= size:
            low = middle
        else:
            high = middle - 1
    counts = np.minimum(sizes, low)
    left = np.flatnonzero(sizes > low)
    counts[rng.permutation(left)[: size - counts.sum()]] += 1
    return counts


def _random(classes: _Classes, size: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(len(classes.members), size, replace=False)


def _balanced(classes: _Classes, size: int, rng: np.random.Generator) -> np.ndarray:
    sizes, starts = classes.sizes, classes.starts
    share = size // len(sizes)
    short = sizes < share
    again = np.repeat(np.flatnonzero(short), share)
    drawn = [
        _leading(starts, np.where(short, 0, share)),
        starts[again] + rng.integers(0, sizes[again]),
    ]
    unused = np.delete(np.arange(len(classes.members)), np.concatenate(drawn))
    owners = np.searchsorted(starts, unused, side="right") - 1
    left = np.bincount(owners, minlength=len(sizes))
    missing = size - share * len(sizes)
    new = min(missing, len(unused))
    drawn.append(unused[_leading(np.cumsum(left) - left, _rounds(left, new, rng))])
    # Where every structure is in the sample already, members of random classes repeat.
    owners = rng.choice(len(sizes), missing - new, replace=False)
    drawn.append(starts[owners] + rng.integers(0, sizes[owners]))
    return classes.members[np.concatenate(drawn)]


def _balanced_unique(classes: _Classes, size: int, rng: np.random.Generator) -> np.ndarray:
    return classes.take(_rounds(classes.sizes, size, rng))


def _stratified(classes: _Classes, size: int, rng: np.random.Generator) -> np.ndarray:
    single = classes.sizes == 1
    others = np.where(single, 0, classes.sizes)
    rest = size - int(single.sum())
    if rest < (others > 0).sum():
        raise SamplingError(
            f"a stratified sample of {size} keeps the {single.sum()} classes of one structure and "
            f"has no room for one of each of the {(others > 0).sum()} others; draw at least "
            f'{len(classes.sizes)}, or use strategy="balanced_unique"'
        )
    expected = others * (rest / max(others.sum(), 1))
    counts = np.floor(expected).astype(np.int64)
    # The rest goes to the largest fractions, ties at random.
    order = np.lexsort((rng.random(len(counts)), counts - expected))
    counts[order[: rest - counts.sum()]] += 1
    return classes.take(np.where(single, 1, counts))


def _uniform(classes: _Classes, size: int, rng: np.random.Generator) -> np.ndarray:
    if size <= len(classes.sizes):
        raise SamplingError(
            f"a uniform sample takes one of each of the {len(classes.sizes)} classes and then "
            f'others, so it needs more than {size}; enlarge it or use strategy="balanced_unique"'
        )
    rest = np.delete(np.arange(len(classes.members)), classes.starts)
    more = rng.choice(rest, size - len(classes.sizes), replace=False)
    return classes.members[np.concatenate([classes.starts, more])]


STRATEGIES: dict[str, Callable[[_Classes, int, np.random.Generator], np.ndarray]] = {
    "random": _random,
    "balanced": _balanced,
    "balanced_unique": _balanced_unique,
    "stratified": _stratified,
    "uniform": _uniform,
}
