"""OC20 and OC22: LMDB files of pickled PyTorch-Geometric graphs, read without unpickling.

Under the keys ``"0"``, ``"1"``, … lie graphs (see `pyg_graphs`) with the fields ``pos`` [N, 3] Å,
``atomic_numbers`` [N], ``cell`` [1, 3, 3] Å, ``tags`` [N], ``fixed`` [N], ``y`` (or ``energy``) eV,
``force`` (or ``forces``) [N, 3] eV/Å, ``sid`` and ``fid``, the numbers of the system and of the
frame. Energies are adsorption energies in OC20 and total energies in OC22
(https://fair-chem.github.io, DATASET.md of the Open Catalyst Project).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.safe_pickle import ARRAYS, PLAIN, PickleError, load
from atomjax.structures.readers.format import Format
from atomjax.structures.readers.layouts.catalyst_systems import (
    CatalystOptions,
    SystemTable,
    system_table,
)
from atomjax.structures.readers.layouts.lmdb_shards import Shard, Shards, find_shards
from atomjax.structures.readers.layouts.pyg_graphs import graph_fields
from atomjax.structures.readers.layouts.records import ReadError, scalar
from atomjax.structures.readers.layouts.structure_file import StructureFile
from atomjax.structures.structure import Structure

SPLIT_FOLDERS = {"validation": "val_id", "test": "test_id"}


class GraphFile(StructureFile):
    """The graphs of one LMDB file, or of all in a folder."""

    options: CatalystOptions

    def __init__(self, path: Path, options: CatalystOptions, systems: SystemTable) -> None:
        super().__init__(path, options)
        self._systems = systems
        self._shards = Shards(find_shards(path, (".lmdb",)), _length)
        if not len(self._shards):
            raise ReadError(f"{path}: holds no record")

    def _count(self) -> int:
        return len(self._shards)

    def _identifier(self, record: int) -> str:
        shard, number = self._shards.locate(record)
        return f"{shard.path.name}:{number}"

    def _structure(self, record: int) -> Structure:
        shard, number = self._shards.locate(record)
        stored = shard.get(str(number))
        if stored is None:
            raise ReadError(f"no entry under the key {str(number)!r}; entries are missing")
        fields, options = graph_fields(stored), self.options
        missing = [name for name in ("atomic_numbers", "pos") if name not in fields]
        if missing:
            raise ReadError(f"no {', '.join(missing)}; this graph has: {', '.join(sorted(fields))}")
        system, frame = _integer(fields, "sid"), _integer(fields, "fid")
        identifier = self._identifier(record)
        if system is not None:
            identifier += f":sid{system}" + ("" if frame is None else f":fid{frame}")
        cell = fields.get("cell")
        pbc = np.asarray(fields.get("pbc", cell is not None)).astype(bool)
        energy = _label(fields, options.energy_key, "y", "energy")
        if energy is not None and (energy := scalar(energy)) is None:
            raise ReadError("the energy is not one number")
        return options.structure(
            atomic_numbers=np.asarray(fields["atomic_numbers"]),
            positions=np.asarray(fields["pos"]),
            cell=None if cell is None else np.asarray(cell).reshape(3, 3),
            pbc=pbc.reshape(-1) if pbc.size == 3 else bool(pbc.all()),
            tags=fields.get("tags"),
            fixed=None if "fixed" not in fields else np.asarray(fields["fixed"]) != 0,
            energy=self._systems.energy(energy, system),
            forces=_label(fields, options.forces_key, "force", "forces"),
            class_key=self._systems.class_key(system),
            identifier=identifier,
            source=options.source or self.path.stem,
        )


def _label(fields: Mapping[str, Any], key: str | None, *usual: str) -> Any:
    if key == "":
        return None
    if key is None:
        return next((fields[name] for name in usual if name in fields), None)
    if key not in fields:
        raise ReadError(f"no field {key!r}; this graph has: {', '.join(sorted(fields))}")
    return fields[key]


def _integer(fields: Mapping[str, Any], name: str) -> int | None:
    value = scalar(fields[name]) if name in fields else None
    return None if value is None else int(value)


def _length(shard: Shard) -> int:
    stored = shard.get("length")
    if stored is None:
        return shard.entries
    try:
        stated = scalar(load(stored, {**PLAIN, **ARRAYS}))
    except PickleError as error:
        raise ReadError(f"{shard.path}: the entry 'length': {error}") from error
    length = -1 if stated is None else int(stated)
    if not 0 <= length <= shard.entries:
        raise ReadError(
            f"{shard.path}: the entry 'length' is {length}, the file has {shard.entries} entries;"
            " it is damaged"
        )
    return length


def split_folder(path: Path, split: str | None) -> Path:
    """The folder of a split, such as ``val_ood_ads``, below the folder of a data set.

    Raises:
        ReadError: there is no such folder; those that there are are listed.
    """
    if split is None:
        return path
    names = [split, SPLIT_FOLDERS.get(split, split)]
    found = next((path / name for name in names if (path / name).is_dir()), None)
    if found is None:
        folders = sorted(p.name for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
        raise ReadError(
            f"{path}: no split {split!r}: a split is a folder of this one, and there are:"
            f" {', '.join(folders) or 'none'}"
        )
    return found


def oc20_records(path: Path, options: CatalystOptions) -> GraphFile:
    """Opens S2EF LMDB files of OC20: one file, or a folder of them."""
    return GraphFile(split_folder(path, options.split), options, system_table(options, "oc20"))


def oc22_records(path: Path, options: CatalystOptions) -> GraphFile:
    """Opens S2EF-Total LMDB files of OC22: one file, or a folder of them."""
    return GraphFile(split_folder(path, options.split), options, system_table(options, "oc22"))


OC20 = Format(
    name="oc20",
    files="folders of S2EF `*.lmdb`",
    about="class: slab and adsorbate, bulk, or trajectory; total energies with `oc20_ref.pkl`",
    licence="CC BY 4.0",
    citation="Chanussot et al., ACS Catal. 11, 6059 (2021)",
    records=oc20_records,
    options=CatalystOptions,
    energy_unit="eV",
    length_unit="Å",
    energy_kinds=("adsorption", "total"),
    suffixes=(".lmdb",),
    is_folder=True,
    splits="folders",
)

OC22 = Format(
    name="oc22",
    files="folders of S2EF-Total `*.lmdb`",
    about="class: as `oc20`",
    licence="CC BY 4.0",
    citation="Tran et al., ACS Catal. 13, 3066 (2023)",
    records=oc22_records,
    options=CatalystOptions,
    energy_unit="eV",
    length_unit="Å",
    energy_kinds=("total",),
    is_folder=True,
    splits="folders",
)
