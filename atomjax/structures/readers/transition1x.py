"""Transition-1x: ``Transition1x.h5``, conformations along and around reaction paths.

``data``, ``train``, ``val`` and ``test`` hold formulas, those hold reactions, and a reaction has
``atomic_numbers`` [N], ``positions`` [n, N, 3] in Å, ``wB97x_6-31G(d).energy`` [n] in eV and
``wB97x_6-31G(d).forces`` [n, N, 3] in eV/Å, beside groups of the same form for its reactant,
transition state and product (Schreiner et al., Sci. Data 9, 779, 2022).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import h5py

from atomjax.structures.readers.format import Format
from atomjax.structures.readers.layouts.conformations import Layout
from atomjax.structures.readers.layouts.hdf5 import ConformerFile
from atomjax.structures.readers.layouts.records import ReadError, ReadOptions
from atomjax.structures.readers.layouts.structure_file import SPLIT_ALIASES
from atomjax.structures.structure import Structure

LEVEL = "wB97x_6-31G(d)"
SPLIT_GROUPS = {"train": "train", "validation": "val", "test": "test"}
# eV, of the free atoms, by atomic number; those that the authors' program subtracts.
ATOMS = {
    1: -13.62222753701504,
    6: -1029.4130839658328,
    7: -1484.8710358098756,
    8: -2041.8396277138045,
    9: -2712.8213146878606,
}
END_POINTS = ("reactant", "transition_state", "product")


@dataclass(frozen=True, kw_only=True)
class Transition1xOptions(ReadOptions):
    """Options of Transition-1x.

    Attributes:
        energy_kind: "total", or "referenced" for the energy less that of the free atoms.
        class_by: "formula" or "reaction".
        end_points: read the relaxed reactants, transition states and products instead.
    """

    energy_kind: Literal["total", "referenced"] = "total"
    class_by: Literal["formula", "reaction"] = "formula"
    end_points: bool = False


class Transition1xFile(ConformerFile):
    """The conformations of all reactions, or of those in one of the file's splits."""

    options: Transition1xOptions
    what = "reaction"

    def __init__(self, path: Path, options: Transition1xOptions) -> None:
        energy = options.energy_key or f"{LEVEL}.energy"
        forces = options.forces_key or f"{LEVEL}.forces"
        super().__init__(path, options, Layout("atomic_numbers", "positions", energy, forces))

    def _groups(self, file: h5py.File) -> list[str]:
        split, root = self.options.split, "data"
        if split is not None:
            split = SPLIT_ALIASES.get(split, split)
            if split not in SPLIT_GROUPS:
                raise self._no_split(split, tuple(SPLIT_GROUPS))
            root = SPLIT_GROUPS[split]
        if root not in file:
            raise ReadError(f"{self.path}: has no group {root!r}; is it Transition1x.h5?")
        names = [
            f"{root}/{formula}/{reaction}"
            for formula, reactions in file[root].items()  # pyright: ignore[reportAttributeAccessIssue]
            for reaction in reactions
        ]
        if self.options.end_points:
            return [f"{name}/{point}" for name in names for point in END_POINTS]
        return names

    def _structure(self, record: int) -> Structure:
        structure = super()._structure(record)
        if self.options.energy_kind == "total" or structure.energy is None:
            return structure
        unknown = set(structure.atomic_numbers.tolist()) - ATOMS.keys()
        if unknown:
            raise ReadError(f"no energy of the free atom of {', '.join(map(str, unknown))}")
        atoms = sum(ATOMS[int(number)] for number in structure.atomic_numbers)
        return replace(structure, energy=structure.energy - atoms)

    def choose(self, split: str | None) -> None:
        """The splits are groups of the file, so that only theirs are indexed."""

    def _class_key(self, name: str) -> str:
        _, formula, reaction = name.split("/")[:3]
        return formula if self.options.class_by == "formula" else f"{formula}/{reaction}"


FORMAT = Format(
    name="transition1x",
    files="`Transition1x.h5`",
    about="class: formula, or formula/reaction; the file's own split",
    citation="Schreiner et al., Sci. Data 9, 779 (2022)",
    records=Transition1xFile,
    options=Transition1xOptions,
    energy_unit="eV",
    length_unit="Å",
    energy_kinds=("total", "referenced"),
    splits="parts",
)
