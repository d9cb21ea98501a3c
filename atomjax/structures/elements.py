"""Chemical elements: symbols and atomic numbers, and formulas made of them."""

from collections.abc import Iterable

import numpy as np
from ase.data import chemical_symbols

# Index = atomic number; index 0 is no element.
SYMBOLS: tuple[str, ...] = tuple(chemical_symbols)
MAX_ATOMIC_NUMBER = len(SYMBOLS) - 1
ATOMIC_NUMBERS: dict[str, int] = {symbol: z for z, symbol in enumerate(SYMBOLS) if z}


def atomic_number(symbol: str) -> int:
    """Atomic number of a symbol such as ``"Cu"``.

    Raises:
        ValueError: the symbol is no element.
    """
    try:
        return ATOMIC_NUMBERS[symbol]
    except KeyError:
        raise ValueError(
            f"{symbol!r} is not a chemical symbol; write it like 'H' or 'Cu' (capital first)"
        ) from None


def hill_formula(atomic_numbers: np.ndarray | Iterable[int]) -> str:
    """Formula in Hill order: C, then H, then the rest by symbol; by symbol alone without C."""
    numbers, counts = np.unique(np.asarray(atomic_numbers, dtype=np.int64), return_counts=True)
    amounts = {SYMBOLS[z]: int(n) for z, n in zip(numbers, counts, strict=True)}
    leading = [symbol for symbol in ("C", "H") if symbol in amounts and "C" in amounts]
    order = leading + sorted(set(amounts) - set(leading))
    return "".join(f"{s}{amounts[s] if amounts[s] > 1 else ''}" for s in order)
