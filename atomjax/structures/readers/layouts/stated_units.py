"""Units that a file states itself: believed, and compared with those that are declared."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from atomjax.structures import units
from atomjax.structures.readers.layouts.records import ReadError, ReadOptions

# Spellings of other programs, folded to lower case.
SPELLINGS = {
    "a": "Å",
    "ang": "Å",
    "angstrom": "Å",
    "angstroms": "Å",
    "bohr": "bohr",
    "a0": "bohr",
    "hartree": "Ha",
    "hartrees": "Ha",
    "ha": "Ha",
    "ev": "eV",
    "mev": "meV",
    "electronvolt": "eV",
    "rydberg": "Ry",
    "ry": "Ry",
    "kcal": "kcal",
    "kj": "kJ",
    "mol": "mol",
    "nm": "nm",
}
# Entries of a record that state a unit, in lower case without underscores and the plural's s.
UNIT_KEYS = {
    "energyunit": "energy_unit",
    "lengthunit": "length_unit",
    "distanceunit": "length_unit",
    "positionunit": "length_unit",
    "positionsunit": "length_unit",
    "forceunit": "force_unit",
    "forcesunit": "force_unit",
}
# Entries of a database's metadata that hold the units of its properties, and that of lengths.
PROPERTY_UNITS = ("_property_unit_dict", "property_units", "units")
LENGTH_UNITS = ("_distance_unit", "distance_unit", "length_unit")
LENGTHS = ("positions", "distance", "length")
# Versions of CODATA differ in the ninth digit; units differ in the first.
SAME = 1e-4

Options = TypeVar("Options", bound=ReadOptions)


def spelled(unit: str) -> str:
    """A unit as this package spells it: "hartree/bohr" is "Ha/bohr"."""
    return "/".join(SPELLINGS.get(part.strip().lower(), part.strip()) for part in unit.split("/"))


def stated_units(metadata: Mapping[str, Any], options: ReadOptions) -> dict[str, str]:
    """The units that the metadata of one of ASE's databases state, as SchNetPack or others write.

    Raises:
        ReadError: units that the options give to targets are others, or units of properties are
            stated in a form that is not read.
    """
    properties = _property_units(metadata)
    lengths = [metadata.get(key) for key in LENGTH_UNITS] + [properties.get(k) for k in LENGTHS]
    plain = record_units(metadata)
    found = {
        "energy_unit": properties.get(options.energy_key or "energy") or plain.get("energy_unit"),
        "length_unit": next(filter(None, lengths), None) or plain.get("length_unit"),
        "force_unit": properties.get(options.gradients_key or options.forces_key or "forces")
        or plain.get("force_unit"),
    }
    for name, unit in options.target_units.items():
        stated = properties.get(name)
        if stated is not None and not _same_energy_unit(stated, unit):
            raise ReadError(
                f"the database states {name} in {stated!r}, but target_units has {unit!r}"
            )
    return {name: str(unit) for name, unit in found.items() if unit}


def _property_units(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Property → unit, as a mapping in the metadata or a list of pairs says."""
    for key in PROPERTY_UNITS:
        table = metadata.get(key)
        if isinstance(table, list):
            try:
                table = dict(table)
            except (TypeError, ValueError) as error:
                raise ReadError(
                    f"the metadata state {key} = {str(table)[:80]}, which is neither a mapping of"
                    " properties to units nor a list of pairs of these; write one"
                ) from error
        if isinstance(table, Mapping):
            return table
    return {}


def with_stated_units(options: Options, stated: Mapping[str, str], path: Any) -> Options:
    """The options with the units that a file states, where none are declared; noted as well.

    Args:
        options: as declared.
        stated: "energy_unit", "length_unit" and "force_unit" as the file has them, where it does.
        path: path of the file, for messages.

    Raises:
        ReadError: a declared unit is another one, or the file's is unknown and none is declared.
    """
    if not stated:
        return options
    factors: Mapping[str, Callable[[str], float]] = {
        "energy_unit": units.energy_factor,
        "length_unit": units.length_factor,
        "force_unit": units.force_factor,
    }
    found = {}
    for name, text in stated.items():
        unit = spelled(text)
        try:
            factor = factors[name](unit)
        except units.UnitError as error:
            if getattr(options, name) is not None:
                continue
            raise ReadError(f"{path}: states {name}={text!r}: {error}") from error
        options.notes.units[name] = unit
        declared = getattr(options, name)
        if declared is None:
            found[name] = unit
        elif not math.isclose(factors[name](declared), factor, rel_tol=SAME):
            raise ReadError(
                f"{path}: the file states {name}={text!r}, but {name}={declared!r} is declared;"
                f" declare what the file says, or leave {name} out"
            )
    return dataclasses.replace(options, **found)


def record_units(values: Mapping[str, Any]) -> dict[str, str]:
    """The units that a record states beside its labels, as in ``energy_unit=kcal/mol``.

    A lone ``units=Ha`` is that of energies, where it is a unit of energy.
    """
    found = {}
    for key, value in values.items():
        value = value.decode(errors="replace") if isinstance(value, bytes) else value
        if not isinstance(value, str):
            continue
        joined = str(key).lower().replace("_", "").removesuffix("s")
        if joined == "unit" and _is_energy_unit(value):
            found.setdefault("energy_unit", value)
        elif joined in UNIT_KEYS:
            found[UNIT_KEYS[joined]] = value
    return found


def _is_energy_unit(text: str) -> bool:
    try:
        units.energy_factor(spelled(text))
    except units.UnitError:
        return False
    return True


def _same_energy_unit(first: str, second: str) -> bool:
    """Whether two spellings are one unit of energy; an unknown one is like any other."""
    try:
        sizes = [units.energy_factor(spelled(unit)) for unit in (first, second)]
    except units.UnitError:
        return True
    return math.isclose(*sizes, rel_tol=SAME)
