"""Crystals as pymatgen writes them in JSON."""

from typing import Any

import numpy as np

from atomjax.structures.elements import atomic_number
from atomjax.structures.readers.layouts.records import ReadError


def crystal(described: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atoms and cell of a ``Structure`` of pymatgen as a dictionary.

    Args:
        described: with ``lattice.matrix`` [3, 3] Å, rows are vectors, and ``sites``, each with
            ``species`` and fractional coordinates ``abc``.

    Returns:
        Atomic numbers [N], positions [N, 3] Å, and the cell [3, 3] Å.

    Raises:
        ReadError: something is missing, or a site is shared by several elements.
    """
    try:
        cell = np.array(described["lattice"]["matrix"], dtype=np.float64)
        sites = described["sites"]
        fractional = np.array([site["abc"] for site in sites], dtype=np.float64)
        species = [site["species"] for site in sites]
    except (KeyError, TypeError, ValueError) as error:
        raise ReadError(f"no structure of pymatgen: lacks {error}") from error
    numbers = []
    for index, shares in enumerate(species):
        if len(shares) != 1 or abs(float(shares[0].get("occu", 1)) - 1.0) > 1e-8:
            raise ReadError(f"site {index} is partly occupied or shared: {shares}")
        numbers.append(atomic_number(str(shares[0]["element"])))
    return np.array(numbers), fractional @ cell, cell
