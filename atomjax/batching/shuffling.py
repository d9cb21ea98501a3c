"""Random orders that are computed place by place, so that none has to be kept or drawn before."""

from collections.abc import Sequence

import numpy as np
from grain.experimental import index_shuffle

_ROUNDS = 4
# Shorter orders are drawn whole. The cipher permutes at least this many numbers and goes on until
# one is inside the range: an order of 20 took 40 ms, for every epoch of a small data set.
_CIPHERED = 1 << 16


def shuffled(places: np.ndarray, size: int, key: Sequence[int]) -> np.ndarray:
    """Entries at some places of a random order of 0, ..., size - 1.

    A long order is a keyed permutation (grain's ``index_shuffle``, a block cipher on the range), so
    a place costs the same whether the range has 10^5 numbers or 10^9, and nothing is kept of it.

    Args:
        places: [K] from 0 to size - 1.
        size: numbers in the order.
        key: key of the order; other keys, other orders.

    Returns:
        [K] int64.
    """
    seed = int(np.random.SeedSequence(list(key)).generate_state(1)[0])
    if size < _CIPHERED:
        return np.random.default_rng(seed).permutation(size)[places]
    last = size - 1
    order = (index_shuffle(i, max_index=last, seed=seed, rounds=_ROUNDS) for i in places.tolist())
    return np.fromiter(order, np.int64, len(places))
