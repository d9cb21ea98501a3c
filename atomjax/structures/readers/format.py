"""What a reader says of its format: facts known before a file is opened, options, and the reader.

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
    """One file format; without a name, what is known of files of an unknown one."""

    name: str = ""  # in configs
    files: str = ""  # what its files are called, for the documentation
    about: str = ""  # what is read, or what the parts and classes are; for the documentation
    licence: str = ""  # of the data, as their publishers or archives state it
    citation: str = ""  # where the data set is published
    # Opens a file; the result is a `StructureFile` where records have numbers.
    records: Callable[[Path, Any], Records | StructureFile] = _unreadable
    options: type[ReadOptions] = ReadOptions  # that it takes; those of type `Path` follow data.root
    keys: tuple[str, ...] = ()  # which of `LABEL_KEYS` it heeds
    energy_unit: str | None = None  # of its energies; None where files differ: the user has to say
    length_unit: str | None = None  # of positions; None likewise
    force_unit: str | None = None  # of forces; None means energy_unit / length_unit
    energy_kinds: tuple[str, ...] = ()  # what energies can mean, default first; empty: files differ
    suffixes: tuple[str, ...] = ()  # endings of file names that tell the format
    is_folder: bool = False  # whether a folder can be given instead of a file
    # "parts": it has train, validation and test parts; "folders": each split is a folder of files.
    splits: Literal["parts", "folders", "none"] = "none"
    trajectory: bool = (
        False  # whether a file holds one simulation, whose frames are not independent
    )

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
