"""Structures with impossible geometry or labels, as a flipped digit in a file leaves them.

Text files carry no checksums, so a damaged number is read like any other. It leaves atoms on top
of each other, enormous forces, or an energy far from those of all other structures.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from atomjax.graphs.neighbors import find_edges
from atomjax.structures import References, Structure

# Å; two hydrogen atoms are 0.74 apart.
CLOSEST = 0.4
# eV/Å on a free atom; Open Catalyst leaves out what is above 50.
LARGEST_FORCE = 50.0
# Energies per atom this many robust standard deviations from most others, and this far in eV.
FAR_OFF, FAR_OFF_EV = 20.0, 0.5
# Half the width of the shortest interval with half the values → standard deviation, of a normal
# distribution.
ROBUST = 1.4826
# Records that a line names.
SHOWN = 5


def find_outliers(
    splits: Mapping[str, Sequence[Structure]], references: References | None
) -> dict[str, list[str]]:
    """Kind of outlier → records of any split, "split: identifier" or "split: place in it".

    Args:
        splits: split → structures in memory.
        references: what is taken out of the energies; None leaves energies out.
    """
    close, strong, energies, names = [], [], [], []
    for split, structures in splits.items():
        for place, structure in enumerate(structures):
            name = f"{split}: {structure.identifier or place}"
            if len(find_edges([structure], CLOSEST)[0]):
                close.append(name)
            if _largest_force(structure) > LARGEST_FORCE:
                strong.append(name)
            residual = _residual(structure, references)
            if residual is not None:
                energies.append(residual)
                names.append(name)
    found = {
        f"atoms closer than {CLOSEST} Å": close,
        f"forces above {LARGEST_FORCE:g} eV/Å": strong,
        "energies far from all others": [names[i] for i in _far_off(np.array(energies))],
    }
    return {kind: records for kind, records in found.items() if records}


def describe_outliers(outliers: Mapping[str, Sequence[str]]) -> list[str]:
    """A line for each kind, with the first records."""
    return [
        f"{kind}: {', '.join(records[:SHOWN])}"
        + (f" and {len(records) - SHOWN:,} more" if len(records) > SHOWN else "")
        for kind, records in outliers.items()
    ]


def _largest_force(structure: Structure) -> float:
    """Length of the longest force on a free atom, eV/Å."""
    if structure.forces is None:
        return 0.0
    free = structure.forces[~structure.fixed]
    return float(np.linalg.norm(free, axis=1).max(initial=0.0))


def _residual(structure: Structure, references: References | None) -> float | None:
    """Energy less that of its elements, eV/atom; None where it is not known."""
    numbers = structure.atomic_numbers
    if structure.energy is None or references is None or not references.seen[numbers].all():
        return None
    return references.residual_energy(structure) / len(structure)


def _far_off(values: np.ndarray) -> np.ndarray:
    """Places of the values that are far from the half that lies closest together.

    Where two levels of theory are mixed in equal parts, the median of all lies between them.
    """
    if len(values) == 0:
        return np.zeros(0, dtype=int)
    ordered, half = np.sort(values), (len(values) + 1) // 2
    widths = ordered[half - 1 :] - ordered[: len(values) - half + 1]
    least, start = float(widths.min()), int(widths.argmin())
    distance = np.abs(values - (ordered[start] + least / 2))
    return np.flatnonzero(distance > max(FAR_OFF * ROBUST * least / 2, FAR_OFF_EV))
