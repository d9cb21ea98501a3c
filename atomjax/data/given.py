"""Structures as people have them: files, stores, ASE's atoms, structures, or lists of these."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ase import Atoms

from atomjax.data.declarations import facts_of
from atomjax.data.fingerprint import fingerprint
from atomjax.data.settings import DECLARED, STATISTICS, UNITS, DatasetSettings
from atomjax.data.store_view import open_store
from atomjax.data.structures import read_dataset
from atomjax.runtime.config import ConfigError, build
from atomjax.structures import Structure, save_archive
from atomjax.structures.readers import (
    RecordNotes,
    StructureFile,
    from_atoms,
    guess_format,
    open_records,
)
from atomjax.structures.readers.layouts.records import structures_from
from atomjax.structures.store import Store

# What functions for use from Python take wherever they take structures.
Source: TypeAlias = str | os.PathLike[str] | Atoms | Structure | Iterable[Any]
# Options that say where labels are and in which units, as commands take them.
LABEL_OPTIONS = (
    "energy_key",
    "forces_key",
    "stress_key",
    "energy_unit",
    "length_unit",
    "force_unit",
    "stress_unit",
    "virial_key",
    "gradients_key",
    "format",
    "ase_format",
    "on_error",
    "use_tags",
)
# Units and the kind of energies of files whose format leaves them open; ASE's.
DEFAULTS: Mapping[str, str] = {"energy_unit": "eV", "length_unit": "Å", "energy_kind": "total"}


def structures_of(
    source: Source, *, outdated: Literal["raise", "drop"] = "raise", **options: Any
) -> Sequence[Structure]:
    """Structures of a source, in its order; a store and an open file are left on disk.

    Args:
        source: path of a file or store, `ase.Atoms`, a `Structure`, or several of these.
        outdated: treatment of labels that a calculator of ASE computed for other positions.
        **options: fields of a data set in a config, such as format, energy_unit and length_unit,
            and options of its reader, such as energy_key. Without them, units are those of the
            format or that the file states, else eV and Å. A `Structure` and a store are in eV and
            Å already.

    Raises:
        ConfigError: a file does not exist, or its options contradict its format.
        ReadError: a file or a frame cannot be read.
        TypeError: the source is of another type.
        ValueError: it holds no structure.
    """
    for name in ("split", "max_structures", "graph", "energy_coefficient", "force_coefficient"):
        if name in options and (name != "split" or not isinstance(options[name], str)):
            raise ConfigError(f"{name} is of data sets to train on; all structures are taken here")
    if isinstance(source, str | os.PathLike):
        return load_entry(build(DatasetSettings, file_entry("structures", Path(source), options)))
    if isinstance(source, Store | StructureFile):
        return source
    if isinstance(source, Atoms | Structure):
        source = [source]
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise _unknown(source)
    found: list[Structure] = []
    numbers = itertools.count()
    # Atoms that follow each other are read together, so that warnings come once.
    for is_atoms, items in itertools.groupby(source, lambda item: isinstance(item, Atoms)):
        if is_atoms:
            given = _atoms_options(options)
            found += from_atoms(items, outdated=outdated, numbers=numbers, **given)
            continue
        for item in items:
            if isinstance(item, Structure):
                found.append(item)
            elif isinstance(item, str | os.PathLike | Store | StructureFile):
                found += structures_of(item, outdated=outdated, **options)
            else:
                raise _unknown(item)
    if not found:
        raise ValueError("there are no structures: the list is empty")
    return found


def dataset_entry(
    name: str, source: Source | Mapping[str, Any], folder: Path, **options: Any
) -> dict[str, Any]:
    """The entry of a config for a source, so that the config's workflows take it.

    Args:
        name: name of the data set.
        source: as for :func:`structures_of`, or an entry of a config.
        folder: takes structures that no single file holds, as an archive named by its content.
        **options: as for :func:`structures_of`.

    Raises:
        ReadError: a file or a frame cannot be read.
        TypeError: the source is of another type.
    """
    if isinstance(source, Mapping):
        return {**source, "name": name}
    if isinstance(source, str | os.PathLike):
        return file_entry(name, Path(source), options)
    if isinstance(source, Store) and source.indices is None:
        return file_entry(name, source.path, options)
    structures = structures_of(source, **options)
    content: Any = fingerprint(structures)
    names = [[one.class_key, *sorted(one.targets)] for one in structures]
    if any(held != [one.formula] for held, one in zip(names, structures, strict=True)):
        content = [content, names]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    path = folder / f"{name}-{digest}.archive.npz"
    if not path.exists():
        save_archive(path, structures)
    has_energies = any(structure.energy is not None for structure in structures)
    kind = options.get("energy_kind", "total") if has_energies else "none"
    return file_entry(name, path, {"energy_kind": kind})


def load_entry(dataset: DatasetSettings) -> Sequence[Structure]:
    """The structures of a file or a store, as its entry in a config declares them.

    Raises:
        ConfigError: it is neither.
        ReadError: it cannot be read.
    """
    if dataset.kind not in ("read", "store"):
        raise ConfigError(
            f"dataset '{dataset.name}' is of kind \"{dataset.kind}\" where a file or a store is "
            'needed, kind "read" or "store"; `atomjax generate` writes files'
        )
    if dataset.kind == "store":
        return open_store(dataset.name, dataset.path)
    return read_dataset(dataset)


def file_entry(
    name: str, path: Path, options: Mapping[str, Any], *, otherwise: str | None = None
) -> dict[str, Any]:
    """The entry of a config for a file or store.

    Args:
        name: name of the data set.
        path: the file, or the folder of a store.
        options: as for :func:`structures_of`; fields of a data set are told from options of its
            reader.
        otherwise: format of a file whose name tells none.
    """
    path = path.expanduser()
    if path.name.endswith(STATISTICS):
        return {"name": name, "kind": "statistics", "path": str(path)}
    known = {field.name for field in dataclasses.fields(DatasetSettings)}
    if isinstance(options.get("split"), str):
        # The official part that a reader takes, not how a data set is divided.
        known.remove("split")
    fields = {key: value for key, value in options.items() if key in known}
    arguments = {key: value for key, value in options.items() if key not in known}
    if path.is_dir() and "format" not in fields and guess_format(path) is None:
        # Which targets are classes a store knows itself.
        arguments.pop("classes", None)
        entry: dict[str, Any] = {"name": name, "kind": "store", "path": str(path), **fields}
        return {**entry, "arguments": arguments} if arguments else entry
    if otherwise is not None and "format" not in fields and guess_format(path) is None:
        fields["format"] = otherwise
    facts = facts_of(name, fields.get("format"), str(path))
    declared = {key: fields.get(key) for key in DECLARED}
    missing, found = facts.undeclared(declared), DEFAULTS
    if not {*UNITS}.isdisjoint(missing):
        found = {**DEFAULTS, **_stated_units(path, fields.get("format"), arguments)}
    fields |= {key: found[key] for key in missing}
    # A name does not say which of several energies is meant.
    if facts.name and len(facts.energy_kinds) < 2:
        fields.setdefault("format", facts.name)
    return {"name": name, "kind": "read", "path": str(path), **fields, "arguments": arguments}


def _stated_units(
    path: Path, format_name: str | None, arguments: Mapping[str, Any]
) -> dict[str, str]:
    """Units that a file or its first record states, or that its reader takes."""
    notes, units = RecordNotes(), {}
    options = {name: value for name, value in arguments.items() if name != "on_error"}
    # What is wrong with a file is said where it is read.
    with contextlib.suppress(ValueError, OSError), warnings.catch_warnings(action="ignore"):
        records = open_records(path, format_name, notes=notes, **options)
        if isinstance(records, StructureFile):
            units = {key: getattr(records.options, key) for key in UNITS}
            records = records.records(0, 1)
        next(structures_from(records, "raise", [], notes), None)
    return {key: unit for key, unit in {**units, **notes.units}.items() if unit is not None}


def _atoms_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of atoms, which are no records of a file, and whose energies have no kind."""
    of_files = ("format", "ase_format", "on_error")
    given = {key: value for key, value in options.items() if key not in of_files}
    return {**given, "energy_key": ""} if given.pop("energy_kind", None) == "none" else given


def _unknown(source: Any) -> TypeError:
    kind = type(source).__name__
    return TypeError(
        f"structures are given as a path, ase.Atoms, Structure, a store, or a list of these, not "
        f"as {kind}"
    )
