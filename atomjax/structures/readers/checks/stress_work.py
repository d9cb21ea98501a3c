"""Test of numbers that were read as stresses, by the energies.

From one cell of the same atoms to the next, of strain ε, while atoms move by δ beside following the
cell, the energy changes by ΔE = V σ : ε - Σ F · δ, with means of both ends up to third order in the
step. Virials, which are -V σ, pressures and other units give another multiple of the first term.

In a cell that stays, what changes the stress changes the forces, and V |Δσ| is about |ΔF| times the
distance of neighbours: of the metals and alloys tried (1 to 9 atoms at random, and crystals of
4 to 108), |Δσ|² V / |ΔF|² was below 0.2 Å⁻¹, and V² times as much for virials in their place.
"""

from collections.abc import Sequence

import numpy as np

from atomjax.structures.readers.checks.force_sign import LONGEST_STEP, is_one
from atomjax.structures.structure import Structure

# Strains between which the rule is reliable and tells something.
STRAINS = (1e-5, 0.1)
# Å; motion that is none, where there are no forces to multiply it with.
STILL = 1e-3
# Steps that decide, the share of y²s that stresses leave unexplained where they are doubted,
# and the share that a multiple of them then has to explain.
LEAST = 3
DOUBTFUL = 0.5
EXPLAINED = 0.8
# Å⁻¹; |Δσ|² V / |ΔF|² in one cell, from which on virials are likely.
LOUD = 1.8
# Compositions whose last record is kept.
KEPT = 64


class StressWork:
    """Energy changes along changes of the cell, and the work that stresses explain them with.

    Attributes:
        count: number of steps.
        still: number of steps in which the cell stays.
        sums: Σ y², Σ y a, Σ a², Σ y b, Σ b² over them, eV²: y is ΔE + Σ F · δ, a the work of what
            was read as stresses, b that of the same numbers without the volume. Then, over steps in
            which the cell stays, Σ |Δσ|² V and Σ |ΔF|².
    """

    def __init__(self) -> None:
        self.count = self.still = 0
        self.sums = np.zeros(7)
        self._last: dict[bytes, tuple[Structure, float]] = {}

    def add(self, structure: Structure, volumeless: float) -> None:
        """Take a record.

        Args:
            structure: the record; one without energy or stress says nothing.
            volumeless: value in eV of a number that was read as 1 eV/Å³.
        """
        if structure.energy is None or structure.stress is None:
            return
        key = structure.atomic_numbers.tobytes()
        before = self._last.pop(key, None)
        if before is not None:
            self._step(before, (structure, volumeless))
        self._last[key] = structure, volumeless
        if len(self._last) > KEPT:
            del self._last[next(iter(self._last))]

    def _step(self, *ends: tuple[Structure, float]) -> None:
        first, second = (structure for structure, _ in ends)
        cell = (first.cell + second.cell) / 2
        gradient = np.linalg.solve(cell, second.cell - first.cell)
        strain = (gradient + gradient.T) / 2
        if np.abs(gradient).max() <= STRAINS[0]:
            self._change(first, second)
            return
        if np.abs(gradient).max() > STRAINS[1]:
            return
        moved = _fractions(second) - _fractions(first)
        moved = (moved - np.round(moved)) @ cell
        change, work, plain = float(second.energy or 0) - float(first.energy or 0), 0.0, 0.0
        if np.linalg.norm(moved) > LONGEST_STEP:
            return
        for structure, volumeless in ends:
            assert structure.stress is not None
            if structure.forces is not None:
                change += float(np.sum(structure.forces * moved)) / 2
            elif np.abs(moved).max() > STILL:
                return
            half = float(np.sum(structure.stress * strain)) / 2
            work += half * abs(np.linalg.det(structure.cell))
            plain += half * volumeless
        self.count += 1
        self.sums[:5] += change**2, change * work, work**2, change * plain, plain**2

    def _change(self, first: Structure, second: Structure) -> None:
        if first.forces is None or second.forces is None:
            return
        assert first.stress is not None
        assert second.stress is not None
        volume = abs(np.linalg.det(first.cell))
        self.still += 1
        self.sums[5] += float(np.sum((second.stress - first.stress) ** 2)) * volume
        self.sums[6] += float(np.sum((second.forces - first.forces) ** 2))

    def merge(self, values: Sequence[float]) -> None:
        """Add the sums of another, given its `to_list`."""
        self.count += int(values[0])
        self.still += int(values[1])
        self.sums += values[2:]

    def to_list(self) -> list[float]:
        """Counts and sums as JSON."""
        return [self.count, self.still, *self.sums.tolist()]

    def finding(self) -> str | None:
        """Likely meaning of stresses that are none, and the remedy; None where nothing is odd."""
        total, by_work, work, by_plain, plain, stresses, forces = self.sums.tolist()
        if self.count < LEAST or not (total and work and plain):
            if self.still < LEAST or stresses <= LOUD * forces or not forces:
                return None
            return (
                f"between {self.still:,} pairs of records of one cell the stresses change by far"
                " more than the forces: if they are virials, virial_key= reads them as -virial/V"
            )
        slope, slope_of_plain = by_work / work, by_plain / plain
        if (total - 2 * by_work + work) / total < DOUBTFUL or slope * by_work < EXPLAINED * total:
            return None
        seem = "in another unit: check stress_unit and energy_unit"
        if is_one(slope_of_plain):
            seem = "virials: virial_key= reads them as -virial/V"
            if slope_of_plain > 0:
                seem = "stresses times the volume: divide them by it"
        elif is_one(slope):
            seem = "of the other sign: turn it in the file"
        return (
            f"along {self.count:,} changes of the cell the energies change by {slope:+.3g} times"
            f" the work of the stresses, which seem to be {seem}"
        )


def _fractions(structure: Structure) -> np.ndarray:
    return np.linalg.solve(structure.cell.T, structure.positions.T).T
