"""Compiled functions that the trainings of one process share.

Trainings of one model on one task under one schedule differ by their weights and their seed, both
of which are arguments of the compiled functions. Tracing them once instead of every time is what
makes a study of many short trainings affordable, and the second training of a notebook quick.
"""

from collections.abc import Callable, Hashable
from typing import TypeVar

T = TypeVar("T")
# Functions that are kept, two for each training; every one holds its programs in memory.
MOST = 16


class CompiledFunctions:
    """Functions by everything that they were made from, those that were used last.

    Args:
        most: number of functions that are kept.
    """

    def __init__(self, most: int = MOST):
        self._most = most
        self._made: dict[Hashable, object] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The function of this key, made where there is none yet."""
        made: T = self._made.pop(key) if key in self._made else make()  # type: ignore[assignment]
        # The last used is the last in order.
        self._made[key] = made
        while len(self._made) > self._most:
            del self._made[next(iter(self._made))]
        return made


COMPILED = CompiledFunctions()
