"""ASE's atoms to structures, for the formats that ASE parses, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from atomjax.structures.readers.layouts.label_keys import (
    CELL_PARAMETERS,
    array_of,
    describe_keys,
    is_cell_name,
    note_unused,
)
from atomjax.structures.readers.layouts.records import (
    EmptyRecord,
    ReadError,
    ReadOptions,
    scalar,
)
from atomjax.structures.readers.layouts.stated_units import record_units, with_stated_units
from atomjax.structures.structure import TAG_ADSORBATE, Structure

# Arrays of ASE's atoms that are no label.
OWN_ARRAYS = ("numbers", "positions", "tags")


def structure_from_atoms(
    atoms: Atoms, options: ReadOptions, values: Mapping[str, Any], identifier: str, source: str
) -> Structure:
    """One structure from ASE atoms and the scalars stored beside them.

    Energies, forces and stresses come from the attached calculator as stored, before constraints,
    or from entries of their names, unless the options name another key. Stresses have ASE's sign,
    positive under tension, and count where all three directions repeat. Atoms that `FixAtoms`, or
    `FixCartesian` in all directions, holds are fixed; other constraints leave their atoms free to
    move, so their forces count.

    Raises:
        ReadError: a label that the options name is missing, an entry looks like a cell that the
            format does not read, or the record states other units than those that are declared.
    """
    if not len(atoms):
        raise EmptyRecord("there are no atoms")
    options = with_stated_units(options, record_units(values), "the record")
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    arrays = {name: array for name, array in atoms.arrays.items() if name not in OWN_ARRAYS}
    held = {**values, **arrays, **results}
    _check_cell(atoms, values)
    energy = _label("energy", options.energy_key, held)
    if energy is not None and scalar(energy) is None:
        raise ReadError(
            f"the energy is not one number but {str(energy)[:60]!r}; write a number, and its unit"
            " as energy_unit"
        )
    energy = scalar(energy)
    forces = _forces(options, held)
    labels = _stress(atoms, options, held)
    _note(atoms, options, held, {"energy": energy, "forces": forces, **labels})
    own = {
        options.energy_key or "energy",
        options.stress_key or "stress",
        options.virial_key,
        "class_key",
    }
    return options.structure(
        atomic_numbers=atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell.array,
        pbc=atoms.pbc,
        tags=atoms.arrays.get("tags"),
        fixed=fixed_atoms(atoms),
        energy=energy,
        forces=forces,
        **labels,
        targets={k: v for k, v in values.items() if k not in own},
        class_key=_class_key(values.get("class_key", "")),
        identifier=identifier,
        source=options.source or source,
    )


def to_atoms(structure: Structure, **results: Any) -> Atoms:
    """ASE's atoms of a structure, with results, or with its labels where none are given.

    Args:
        structure: the structure.
        **results: energy (eV), forces [N, 3] (eV/Å), stress [3, 3] (eV/Å³); None is left out.
    """
    tagged = bool(np.any(structure.tags != TAG_ADSORBATE))
    atoms = Atoms(
        structure.atomic_numbers,
        structure.positions,
        cell=structure.cell,
        pbc=structure.pbc,
        tags=structure.tags if tagged else None,
        constraint=FixAtoms(mask=structure.fixed) if structure.fixed.any() else None,
    )
    if structure.class_key != structure.formula:
        atoms.info["class_key"] = structure.class_key
    names = ("energy", "forces", "stress")
    given = results or {name: getattr(structure, name) for name in names}
    held = {name: value for name, value in given.items() if value is not None}
    if "stress" in held:
        held["stress"] = full_3x3_to_voigt_6_stress(held["stress"])
    if held:
        atoms.calc = SinglePointCalculator(atoms, **held)
    if not results:
        # An energy among them would be read back as the label.
        own = {name: value for name, value in structure.targets.items() if name not in names}
        atoms.info |= own
    return atoms


def _class_key(value: Any) -> str:
    """A class key as text; ASE's extended XYZ takes "T" and "F" for truth values."""
    return str(value)[:1] if isinstance(value, bool | np.bool_) else str(value)


def _check_cell(atoms: Atoms, values: Mapping[str, Any]) -> None:
    """Raise for lattice vectors under a name that the format does not know."""
    if atoms.cell.array.any():
        return
    lengths = {str(key): value for key, value in values.items() if str(key) in CELL_PARAMETERS}
    if len(lengths) == len(CELL_PARAMETERS):
        values = {**values, "cell": [*lengths.values()]}
    for key, value in values.items():
        # One length is that of a cube; an integer counts or names something.
        is_length = isinstance(value, float) and value > 0.0
        if is_cell_name(str(key)) and (is_length or array_of(value).size in (3, 6, 9)):
            raise ReadError(
                f"{key}={np.asarray(value).tolist()} looks like a cell and is not read as one, so"
                " that the structure would have none; write Lattice= (extended XYZ is"
                " case-sensitive), or another name if it is no cell"
            )


def _forces(options: ReadOptions, held: Mapping[str, Any]) -> np.ndarray | None:
    """[N, 3] in the file's unit."""
    if options.gradients_key:
        return -np.asarray(_label("forces", options.gradients_key, held), dtype=np.float64)
    return _label("forces", options.forces_key, held)


def _stress(
    atoms: Atoms, options: ReadOptions, held: Mapping[str, Any]
) -> dict[str, np.ndarray | None]:
    """The stress, or the virial that stands for it, [3, 3] in the file's unit.

    None without a label or without three periodic directions. A stress that is not finite is one
    that was not computed, unless its key was asked for.
    """
    kind = "virial" if options.virial_key else "stress"
    key = options.virial_key or options.stress_key
    found = _label(kind, key, held)
    if found is None or not np.all(atoms.pbc):
        return {kind: None}
    array = np.asarray(found, dtype=np.float64)
    if array.shape == (6,):
        array = voigt_6_to_full_3x3_stress(array)
    if array.size != 9:
        raise ReadError(f"the {kind} has shape {list(array.shape)}, expected [3, 3] or Voigt's [6]")
    if key is None and not np.isfinite(array).all():
        return {kind: None}
    return {kind: array.reshape(3, 3)}


def _note(
    atoms: Atoms, options: ReadOptions, held: Mapping[str, Any], read: Mapping[str, Any]
) -> None:
    """Note which keys the record holds, and which of them look like a label that is not read."""
    options.notes.held.update(str(key) for key in held)
    keys = {
        "energy": options.energy_key,
        "forces": options.gradients_key or options.forces_key,
        "stress": options.virial_key or options.stress_key,
    }
    wanted = [kind for kind, key in keys.items() if key is None]
    volume = float(abs(np.linalg.det(atoms.cell.array))) if np.all(atoms.pbc) else 0.0
    targets = (*(options.targets or ()), *options.classes)
    others = {str(key): value for key, value in held.items() if key not in targets}
    note_unused(options.notes, others, read, wanted, len(atoms), volume)


def fixed_atoms(atoms: Atoms) -> np.ndarray:
    """[N] bool, atoms that cannot move at all."""
    fixed = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms) or (
            isinstance(constraint, FixCartesian) and np.all(constraint.mask)
        ):
            fixed[constraint.index] = True
    return fixed


def _label(name: str, key: str | None, held: Mapping[str, Any]) -> Any:
    """The entry under the label's name, or under the key asked for; None where there is none."""
    if key is None:
        return held.get(name)
    if key == "":
        return None
    if key not in held:
        raise ReadError(f"no {name} under the key {key!r}; {describe_keys(name, held)}")
    return held[key]
