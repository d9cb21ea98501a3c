"""Compiled functions that several trainings in one process share.

Trainings of one model on one task under one schedule differ by their weights and their seed, both
of which are arguments of the compiled functions. Tracing them once instead of every time is what
makes a study of many short trainings affordable.
"""

from collections.abc import Callable, Hashable
from typing import TypeVar

T = TypeVar("T")


class CompiledFunctions:
    """Functions by everything that they were made from."""

    def __init__(self):
        self._made: dict[Hashable, object] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The function of this key, made where there is none yet.

        Args:
            key: all facts that determine the function.
            make: makes it.
        """
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]  # type: ignore[assignment]
        return made
