"""ASE atoms to structures, for the formats that ASE parses."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian
from ase.stress import voigt_6_to_full_3x3_stress

from atomjax.structures.readers.layouts.records import ReadError, ReadOptions, scalar
from atomjax.structures.structure import Structure


def structure_from_atoms(
    atoms: Atoms, options: ReadOptions, values: Mapping[str, Any], identifier: str, source: str
) -> Structure:
    """One structure from ASE atoms and the scalars stored beside them.

    Energies, forces and stresses come from the attached calculator as stored, before constraints,
    unless the options name another key. Stresses have ASE's sign, positive under tension, and count
    where all three directions repeat. Atoms that `FixAtoms`, or `FixCartesian` in all directions,
    holds are fixed; other constraints leave their atoms free to move, so their forces count.

    Raises:
        ReadError: a label that the options name is missing.
    """
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    energy = _label("energy", options.energy_key, results, values)
    if energy is not None and (energy := scalar(energy)) is None:
        raise ReadError("the energy is not one number")
    own = {options.energy_key or "energy", options.stress_key or "stress"}
    return options.structure(
        atomic_numbers=atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell.array,
        pbc=atoms.pbc,
        tags=atoms.arrays.get("tags"),
        fixed=fixed_atoms(atoms),
        energy=energy,
        forces=_label("forces", options.forces_key, results, atoms.arrays),
        stress=_stress(atoms, options, results, values),
        targets=options.convert_targets({k: v for k, v in values.items() if k not in own}),
        class_key=str(values.get("class_key", "")),
        identifier=identifier,
        source=options.source or source,
    )


def _stress(
    atoms: Atoms, options: ReadOptions, results: Mapping[str, Any], values: Mapping[str, Any]
) -> np.ndarray | None:
    """[3, 3] in the file's unit; None without a label or without three periodic directions."""
    found = _label("stress", options.stress_key, results, values)
    if found is None or not np.all(atoms.pbc):
        return None
    array = np.asarray(found, dtype=np.float64)
    if array.shape == (6,):
        return voigt_6_to_full_3x3_stress(array)
    if array.size != 9:
        raise ReadError(f"the stress has shape {list(array.shape)}, expected [3, 3] or Voigt's [6]")
    return array.reshape(3, 3)


def fixed_atoms(atoms: Atoms) -> np.ndarray:
    """[N] bool, atoms that cannot move at all."""
    fixed = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms) or (
            isinstance(constraint, FixCartesian) and np.all(constraint.mask)
        ):
            fixed[constraint.index] = True
    return fixed


def _label(
    name: str, key: str | None, results: Mapping[str, Any], others: Mapping[str, Any]
) -> Any:
    """A calculator's result, or the named entry beside it; None where the format's own lacks."""
    if key is None:
        return results.get(name, others.get(name))
    if key == "":
        return None
    for place in (results, others):
        if key in place:
            return place[key]
    known = ", ".join(sorted({*results, *others})) or "nothing"
    raise ReadError(f"no {name} under the key {key!r}; this record has: {known}")
