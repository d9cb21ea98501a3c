"""Structures with impossible geometry or labels, and forces that do not go with the energies.

Text files carry no checksums, so a damaged number is read like any other. It leaves atoms on top
of each other, enormous forces, or an energy far from those of all other structures. Forces in
another unit than the energies leave another work than these.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from atomjax.graphs.neighbors import find_edges
from atomjax.structures import References, Structure
from atomjax.structures.readers.checks.force_sign import LONGEST_STEP, is_one, slope_of_work

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
# Structures of one composition among which similar ones are looked for, and pairs that tell.
COMPARED, LEAST_PAIRS = 300, 10


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


def question_forces(structures: Sequence[Structure]) -> list[str]:
    """A line where energies do not change by the work of the forces between similar structures.

    Args:
        structures: structures in memory; of those with the same atoms in the same cell, pairs at
            most 1.5 Å apart are compared.
    """
    groups: dict[tuple[bytes, bytes], list[Structure]] = {}
    for structure in structures:
        if structure.energy is not None and structure.forces is not None:
            key = structure.atomic_numbers.tobytes(), structure.cell.tobytes()
            group = groups.setdefault(key, [])
            if len(group) < COMPARED:
                group.append(structure)
    pairs = [pair for group in groups.values() for pair in _similar(group)]
    slope = slope_of_work(pairs) if len(pairs) >= LEAST_PAIRS else None
    if slope is None or (slope < 0 and is_one(slope)):
        return []
    return [
        f"doubtful    between {len(pairs):,} pairs of similar structures the energy changes by "
        f"{-slope:.3g} times the work of the forces: energies or forces have another unit or sign"
    ]


def _similar(group: Sequence[Structure]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Positions, energies and forces of each structure and of the nearest one to it."""
    if len(group) < 2:
        return []
    positions = np.array([structure.positions for structure in group])
    flat = positions.reshape(len(group), -1)
    pairs = set()
    for i, row in enumerate(flat):
        step = np.linalg.norm(flat - row, axis=1)
        step[step == 0.0] = np.inf  # itself, and copies
        j = int(step.argmin())
        if step[j] < LONGEST_STEP:
            pairs.add((min(i, j), max(i, j)))
    energies = np.array([structure.energy for structure in group])
    forces = np.array([structure.forces for structure in group])
    return [(positions[[i, j]], energies[[i, j]], forces[[i, j]]) for i, j in sorted(pairs)]


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
