"""Random orders that are computed place by place, so that none has to be kept or drawn before."""

from collections.abc import Sequence

import numpy as np
from grain.experimental import index_shuffle

_ROUNDS = 4


def shuffled(places: np.ndarray, size: int, key: Sequence[int]) -> np.ndarray:
    """Entries at some places of a random order of 0, ..., size - 1.

    The order is a keyed permutation (grain's ``index_shuffle``, a block cipher on the range), so a
    place costs the same whether the range has ten numbers or 10^9, and nothing is kept of it.

    Args:
        places: [K] from 0 to size - 1.
        size: numbers in the order.
        key: key of the order; other keys, other orders.

    Returns:
        [K] int64.
    """
    seed = int(np.random.SeedSequence(list(key)).generate_state(1)[0])
    last = size - 1
    order = (index_shuffle(i, max_index=last, seed=seed, rounds=_ROUNDS) for i in places.tolist())
    return np.fromiter(order, np.int64, len(places))
