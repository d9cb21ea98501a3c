"""The file formats that can be read, and what each fixes: units, the kind of energy, splits.

Facts only, so that a config can be checked without opening a file or importing a parser. The
readers themselves are in `atomjax.structures.readers`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Format:
    """What is known of a format before a file is opened.

    Attributes:
        energy_unit: of its energies; None where files differ and the user has to say.
        length_unit: of positions; None likewise.
        force_unit: of forces; None means energy_unit / length_unit.
        energy_kinds: what its energies can mean, the default first; empty where files differ.
        suffixes: file names that tell the format.
        is_folder: whether a folder can be given instead of a file.
        splits: "parts" where it brings or defines train, validation and test parts, "folders"
            where each split is a folder of files, "none" otherwise.
        trajectory: whether a file holds the frames of one simulation, which are not independent.
    """

    energy_unit: str | None = None
    length_unit: str | None = None
    force_unit: str | None = None
    energy_kinds: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    is_folder: bool = False
    splits: Literal["parts", "folders", "none"] = "none"
    trajectory: bool = False

    @property
    def fixes_units(self) -> bool:
        """Whether units need not be declared."""
        return self.length_unit is not None

    def undeclared(self, declared: Mapping[str, Any], *, guessed: bool = False) -> list[str]:
        """What the format leaves open and has to be said of a file, and `declared` does not say.

        Args:
            declared: "energy_unit", "length_unit" and "energy_kind".
            guessed: the format was told from the file's name, which says nothing of the kind of
                energy where there are several.
        """
        open_ones = [] if self.fixes_units else ["length_unit"]
        if declared.get("energy_kind") != "none" and self.energy_unit is None:
            open_ones.append("energy_unit")
        if not self.energy_kinds or (guessed and len(self.energy_kinds) > 1):
            open_ones.append("energy_kind")
        return [name for name in open_ones if declared.get(name) is None]


def _official(energy_unit: str, *energy_kinds: str, length_unit: str = "Å", **facts) -> Format:
    known = {"energy_unit": energy_unit, "length_unit": length_unit, "splits": "parts"}
    return Format(energy_kinds=energy_kinds, **{**known, **facts})


FORMATS: Mapping[str, Format] = {
    "extxyz": Format(suffixes=(".xyz", ".extxyz")),
    "ase_db": Format(suffixes=(".db",)),
    "comp6": Format(suffixes=(".h5", ".hdf5")),
    "ase": Format(suffixes=(".traj", ".cif", ".vasp")),
    "aselmdb": Format(suffixes=(".aselmdb",), is_folder=True, splits="folders"),
    "ani1x": _official("Ha", "total"),
    "transition1x": _official("eV", "total", "referenced"),
    "oc20": _official(
        "eV", "adsorption", "total", suffixes=(".lmdb",), is_folder=True, splits="folders"
    ),
    "oc20_extxyz": _official("eV", "adsorption", "total", is_folder=True, splits="folders"),
    "oc22": _official("eV", "total", is_folder=True, splits="folders"),
    "rmd17": _official("kcal/mol", "total", trajectory=True),
    "md22": _official("kcal/mol", "total", trajectory=True),
    "spice": _official("Ha", "total", "referenced", length_unit="bohr"),
    "qm9": _official("eV", "none", is_folder=True),
    "qmof": _official("eV", "none", is_folder=True),
    "matbench": _official("eV", "none", suffixes=(".json.gz",)),
    "cif_csv": _official("eV", "none", suffixes=(".csv",), splits="none"),
}


def guess_format(path: Path) -> str | None:
    """The format that a file's name tells, or None."""
    name = path.name.lower()
    for format_name, facts in FORMATS.items():
        if name.endswith(facts.suffixes or ("\0",)):
            return format_name
    return None
