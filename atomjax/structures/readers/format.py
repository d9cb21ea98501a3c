"""Description of a format by its reader: facts known before a file is opened, and options.

A module of this folder reads one format and ends with its `Format`; CONTRIBUTING.md shows one.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from atomjax.structures.readers.layouts.records import ReadOptions
from atomjax.structures.readers.layouts.structure_file import StructureFile
from atomjax.structures.structure import Structure

Records = Iterable[tuple[str, Callable[[], Structure]]]
LABEL_KEYS = ("gradients_key", "stress_key", "stress_unit", "virial_key")


def _unreadable(path: Path, options: Any) -> Records:
    raise ValueError(f"{path}: its format is not known")


@dataclass(frozen=True, kw_only=True)
class Format:
    """One file format; without a name, the defaults for an unknown one."""

    name: str = ""  # name in configs
    files: str = ""  # names of its files, for the documentation
    about: str = ""  # labels read, or parts and classes; for the documentation
    licence: str = ""  # licence of the data, as their publishers or archives state it
    citation: str = ""  # publication of the data set
    # Opens a file; the result is a `StructureFile` where records have numbers. Raises ReadError for
    # files that are damaged, cut short or of another layout, and options that it cannot meet.
    records: Callable[[Path, Any], Records | StructureFile] = _unreadable
    # Options of the reader; those of type `Path` follow data.root.
    options: type[ReadOptions] = ReadOptions
    keys: tuple[str, ...] = ()  # those of `LABEL_KEYS` that it heeds
    energy_unit: str | None = None  # unit of its energies; None: files differ, the user gives it
    length_unit: str | None = None  # unit of positions; None likewise
    force_unit: str | None = None  # unit of forces; None means energy_unit / length_unit
    energy_kinds: tuple[str, ...] = ()  # kinds of its energies, default first; empty: files differ
    states_units: bool = False  # whether its files may state their units themselves
    suffixes: tuple[str, ...] = ()  # endings of file names, by which the format is guessed
    # Names of files in lower case, likewise; "poscar" is one of "POSCAR.relaxed", too.
    names: tuple[str, ...] = ()
    is_folder: bool = False  # whether a folder can be given instead of a file
    # "parts": it has train, validation and test parts; "folders": each split is a folder of files.
    splits: Literal["parts", "folders", "none"] = "none"
    trajectory: bool = False  # whether a file is one simulation, whose frames are not independent

    @property
    def fixes_units(self) -> bool:
        """Whether units need not be declared."""
        return self.length_unit is not None

    @property
    def path_options(self) -> tuple[str, ...]:
        """Names of the options that are paths."""
        types = get_type_hints(self.options)
        names = [field.name for field in fields(self.options)]
        return tuple(n for n in names if Path in (types[n], *get_args(types[n])))

    def undeclared(self, declared: Mapping[str, Any], *, guessed: bool = False) -> list[str]:
        """Names of the fields that the format leaves open and `declared` does not give.

        Args:
            declared: "energy_unit", "length_unit" and "energy_kind".
            guessed: whether the format was guessed from the file's name, which does not give the
                kind of energy where there are several.
        """
        open_ones = [] if self.fixes_units else ["length_unit"]
        if declared.get("energy_kind") != "none" and self.energy_unit is None:
            open_ones.append("energy_unit")
        if not self.energy_kinds or (guessed and len(self.energy_kinds) > 1):
            open_ones.append("energy_kind")
        return [name for name in open_ones if declared.get(name) is None]
