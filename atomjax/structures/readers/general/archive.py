"""Archives of structures that atomjax writes itself, which keep every number as it is."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from atomjax.structures.archive import load_archive
from atomjax.structures.readers.format import Format
from atomjax.structures.readers.layouts.records import ReadError, ReadOptions
from atomjax.structures.structure import Structure

LABELS = {"energy": "energy_key", "forces": "forces_key", "stress": "stress_key"}


def records(path: Path, options: ReadOptions) -> Iterator[tuple[str, Callable[[], Structure]]]:
    """The structures of an archive.

    Raises:
        ArchiveError: the file is damaged or something else.
        ReadError: an option asks for a label under another name.
    """
    changes: dict[str, Any] = {"source": options.source} if options.source else {}
    for label, option in LABELS.items():
        if getattr(options, option):
            raise ReadError(f"{path}: an archive has one {label}; leave {option} out")
        if getattr(options, option) == "":
            changes[label] = None
    for structure in load_archive(path)[0]:
        fields = {**vars(structure), **changes}
        yield structure.identifier, partial(Structure.unchecked, **fields)


FORMAT = Format(
    name="archive",
    files="`.archive.npz`",
    about="what `atomjax.structures.save_archive` wrote: all fields of a `Structure`",
    records=records,
    keys=("stress_key",),
    energy_unit="eV",
    length_unit="Å",
    suffixes=(".archive.npz",),
)
