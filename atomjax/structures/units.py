"""Unit conversions to the units of this package: eV, Å and eV/Å.

Constants are CODATA 2022 (https://physics.nist.gov/cuu/Constants, adjustment of 2022), those with
an exact SI value from it. A factor multiplies a number in the named unit to give eV (or Å).
"""

import difflib
from collections.abc import Mapping

ELEMENTARY_CHARGE = 1.602176634e-19  # C, exact: J in one eV
AVOGADRO = 6.02214076e23  # 1/mol, exact
BOLTZMANN = 1.380649e-23 / ELEMENTARY_CHARGE  # eV/K, exact
HARTREE = 27.211386245981  # eV
BOHR = 0.529177210544  # Å
RYDBERG = HARTREE / 2.0  # eV
KCAL_PER_MOL = 4184.0 / (AVOGADRO * ELEMENTARY_CHARGE)  # eV, thermochemical calorie
KJ_PER_MOL = 1000.0 / (AVOGADRO * ELEMENTARY_CHARGE)  # eV
INVERSE_CM = 6.62607015e-34 * 299792458.0 * 100.0 / ELEMENTARY_CHARGE  # eV, exact
DEBYE = 1e-21 / 299792458.0 / ELEMENTARY_CHARGE * 1e10  # e Å, exact
# Time in which an atom of 1 u under 1 eV/Å is accelerated by 1 Å/time²; fs.
ATOMIC_MASS = 1.66053906892e-27  # kg
TIME = (ATOMIC_MASS * 1e-20 / ELEMENTARY_CHARGE) ** 0.5 * 1e15  # fs

ENERGY_UNITS: Mapping[str, float] = {
    "eV": 1.0,
    "meV": 1e-3,
    "Ha": HARTREE,
    "hartree": HARTREE,
    "mHa": HARTREE * 1e-3,
    "Ry": RYDBERG,
    "kcal/mol": KCAL_PER_MOL,
    "kJ/mol": KJ_PER_MOL,
    "cm-1": INVERSE_CM,
    "K": BOLTZMANN,
}
LENGTH_UNITS: Mapping[str, float] = {
    "Å": 1.0,
    "angstrom": 1.0,
    "Ang": 1.0,
    "bohr": BOHR,
    "a0": BOHR,
    "nm": 10.0,
    "pm": 0.01,
}
# eV/Å³ in one unit; others are written energy/length³.
STRESS_UNITS: Mapping[str, float] = {
    "eV/Å³": 1.0,
    "GPa": 1e9 * 1e-30 / ELEMENTARY_CHARGE,
    "kbar": 1e8 * 1e-30 / ELEMENTARY_CHARGE,
}


class UnitError(ValueError):
    """An unknown unit; the message lists the known ones."""


def energy_factor(unit: str) -> float:
    """Size in eV of one `unit` of energy, such as ``"kcal/mol"``.

    Raises:
        UnitError: the unit is unknown.
    """
    return _factor(unit, ENERGY_UNITS, "energy")


def length_factor(unit: str) -> float:
    """Size in Å of one `unit` of length, such as ``"bohr"``.

    Raises:
        UnitError: the unit is unknown.
    """
    return _factor(unit, LENGTH_UNITS, "length")


def force_factor(unit: str) -> float:
    """Size in eV/Å of one `unit` of force, written energy/length, such as ``"kcal/mol/Å"``.

    Raises:
        UnitError: the unit is unknown.
    """
    energy, slash, length = unit.rpartition("/")
    if not slash or length not in LENGTH_UNITS:
        raise UnitError(
            f"unknown force unit {unit!r}; write an energy unit, a slash and a length unit,"
            " such as 'eV/Å' or 'kcal/mol/Å'"
        )
    return energy_factor(energy) / length_factor(length)


def stress_factor(unit: str) -> float:
    """Size in eV/Å³ of one `unit` of stress: ``"GPa"``, ``"kbar"``, or such as ``"Ha/bohr³"``.

    Raises:
        UnitError: the unit is unknown.
    """
    energy, slash, length = unit.rpartition("/")
    if slash and length.endswith("³") and length[:-1] in LENGTH_UNITS:
        return energy_factor(energy) / length_factor(length[:-1]) ** 3
    return _factor(unit, STRESS_UNITS, "stress")


def _factor(unit: str, known: Mapping[str, float], kind: str) -> float:
    if unit in known:
        return known[unit]
    folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(unit.lower(), folded, n=1)
    hint = f", did you mean {folded[near[0]]!r}?" if near else "."
    raise UnitError(f"unknown {kind} unit {unit!r}{hint} Known: {', '.join(known)}")
