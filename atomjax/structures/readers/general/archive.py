"""Archives of structures that atomjax writes itself, which keep every number as it is."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.structures.archive import load_archive
from atomjax.structures.readers.format import Format
from atomjax.structures.readers.layouts.records import ReadError, ReadOptions
from atomjax.structures.states import STATES
from atomjax.structures.structure import TAG_ADSORBATE, Structure

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
        yield structure.identifier, partial(_chosen, structure, options, changes)


def _chosen(structure: Structure, options: ReadOptions, changes: dict[str, Any]) -> Structure:
    """A structure with the tags and targets that are asked for."""
    own = dict(changes)
    if not options.use_tags:
        own["tags"] = np.full_like(structure.tags, TAG_ADSORBATE)
    if options.targets is not None or options.target_units:
        texts = [name for name, value in structure.targets.items() if isinstance(value, str)]
        classes = tuple(dict.fromkeys([*options.classes, *texts]))
        found = replace(options, classes=classes).convert_targets(structure.targets)
        asked = found if options.targets is None else {*options.targets, *options.target_units}
        own["targets"] = {n: v for n, v in found.items() if n in asked or n in STATES}
    return Structure.unchecked(**{**vars(structure), **own})


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
