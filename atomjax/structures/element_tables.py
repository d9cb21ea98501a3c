"""Tables of a number for each element, and directions among them, as plain values and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atomjax.structures.element_fit import TABLE_SIZE
from atomjax.structures.elements import SYMBOLS, atomic_number


class ReferencesError(ValueError):
    """Labels that cannot be referenced; the message names them and the remedy."""


def check_seen(numbers: np.ndarray, seen: np.ndarray) -> None:
    """Raise ReferencesError for atomic numbers [N] that are not among the seen [119]."""
    unseen = np.unique(numbers[~seen[numbers]])
    if len(unseen):
        names = ", ".join(SYMBOLS[z] for z in unseen)
        known = ", ".join(SYMBOLS[z] for z in np.flatnonzero(seen))
        raise ReferencesError(
            f"no reference for {names}: the training set held only {known}."
            " Add structures with these elements to the fit, or leave such structures out"
        )


def by_symbol(table: np.ndarray, seen: np.ndarray) -> dict[str, float]:
    """Symbol → number, of the elements seen."""
    return {SYMBOLS[z]: float(table[z]) for z in np.flatnonzero(seen)}


def to_directions(table: np.ndarray) -> list[dict[str, float]]:
    """Directions [k, 119] as plain values."""
    return [by_symbol(direction, direction != 0) for direction in table]


def from_directions(values: Sequence[Mapping[str, float]]) -> np.ndarray:
    """The inverse of :func:`to_directions`."""
    return np.array([from_symbols(direction)[0] for direction in values]).reshape(-1, TABLE_SIZE)


def from_symbols(values: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers [119], and whether there is one [119]; the inverse of :func:`by_symbol`."""
    table, seen = np.zeros(TABLE_SIZE), np.zeros(TABLE_SIZE, dtype=bool)
    for symbol, value in values.items():
        table[atomic_number(symbol)] = float(value)
        seen[atomic_number(symbol)] = True
    return table, seen


def check_fields(values: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Raise ReferencesError where fields are missing or unknown."""
    missing, extra = set(names) - set(values), set(values) - set(names)
    if missing or extra:
        raise ReferencesError(
            f"references must hold {', '.join(names)};"
            f" missing: {sorted(missing) or 'none'}, unknown: {sorted(extra) or 'none'}"
        )


def check_scales(values: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Raise ReferencesError for a scale that is not positive."""
    for name in names:
        if not float(values[name]) > 0.0:
            raise ReferencesError(f"{name} must be positive, got {values[name]}")
