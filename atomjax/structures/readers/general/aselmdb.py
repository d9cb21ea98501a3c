"""fairchem's ``.aselmdb``: databases of ASE in LMDB files, one or the shards of a folder.

Rows are zlib-compressed JSON under their ids; "nextid", "metadata" and "deleted_ids" are no rows
(layout: ``ase_db_backends``, and fairchem 1.x, ``core/datasets/lmdb_database.py``).
"""

from pathlib import Path
from typing import Any

import numpy as np
from ase.db.row import AtomsRow
from ase.io.jsonio import decode

from atomjax.structures.readers.checks.bounded import inflate
from atomjax.structures.readers.format import LABEL_KEYS, Format
from atomjax.structures.readers.layouts.atoms import structure_from_atoms
from atomjax.structures.readers.layouts.lmdb_shards import Shard, Shards, find_shards
from atomjax.structures.readers.layouts.records import RECORD_ERRORS, ReadError, ReadOptions
from atomjax.structures.readers.layouts.stated_units import stated_units, with_stated_units
from atomjax.structures.readers.layouts.structure_file import StructureFile
from atomjax.structures.readers.open_catalyst import split_folder
from atomjax.structures.structure import Structure

RESERVED = ("nextid", "metadata", "deleted_ids")


class AseLmdbFile(StructureFile):
    """The rows of one file, or of all in a folder, in order of their ids."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        super().__init__(path, options)
        self._ids: dict[Path, np.ndarray] = {}
        self._shards = Shards(find_shards(path, (".aselmdb", ".lmdb")), self._find_ids)
        if not len(self._shards):
            raise ReadError(f"{path}: holds no row")
        for shard in self._shards.shards:
            metadata = _json(shard, "metadata") or {}
            self.options = with_stated_units(
                self.options, stated_units(metadata, self.options), shard.path
            )

    def _find_ids(self, shard: Shard) -> int:
        rows = shard.entries - sum(shard.get(key) is not None for key in RESERVED)
        deleted = np.unique(np.asarray(_json(shard, "deleted_ids"), dtype=int).reshape(-1))
        # Ids are given one after the other, so that those which were deleted are the only gaps.
        following = _json(shard, "nextid")
        end = rows + len(deleted) + 1 if following is None else int(following)
        ids = np.setdiff1d(np.arange(1, end), deleted)
        if len(ids) != rows:
            raise ReadError(
                f"{shard.path}: {rows} rows, but ids for {len(ids)} of them; is this a database of"
                " ASE?"
            )
        self._ids[shard.path] = ids
        return rows

    def _count(self) -> int:
        return len(self._shards)

    def _locate(self, record: int) -> tuple[Shard, int]:
        shard, number = self._shards.locate(record)
        return shard, int(self._ids[shard.path][number])

    def _identifier(self, record: int) -> str:
        shard, row = self._locate(record)
        return f"{shard.path.name}:{row}"

    def _structure(self, record: int) -> Structure:
        shard, number = self._locate(record)
        content = _json(shard, str(number))
        if not isinstance(content, dict):
            raise ReadError("no row under this id; rows are missing")
        # Software other than ASE's writes null for a field that it leaves empty.
        content = {key: value for key, value in content.items() if value is not None}
        for key in ("data", "key_value_pairs"):
            if not isinstance(content.setdefault(key, {}), dict):
                raise ReadError(
                    f"{key} is {type(content[key]).__name__}, expected an object of names and"
                    " values; write the row again"
                )
        missing = [key for key in ("numbers", "positions") if key not in content]
        if missing:
            raise ReadError(
                f"no {', '.join(missing)}; the row holds: {', '.join(content)}; write it again"
            )
        if not np.array_equal(content["numbers"], np.asarray(content["numbers"]).astype(int)):
            raise ReadError(f"numbers: {content['numbers']} are no atomic numbers; write it again")
        row = AtomsRow({**content, "id": number})
        values = {**content["data"], **content["key_value_pairs"]}
        return structure_from_atoms(
            row.toatoms(), self.options, values, self._identifier(record), self.path.stem
        )


def _json(shard: Shard, key: str) -> Any:
    """The content of an entry, or None where there is none."""
    stored = shard.get(key)
    if stored is None:
        return [] if key == "deleted_ids" else None
    try:
        return decode(inflate(stored, f"{shard.path}: the entry {key!r}").decode())
    except ReadError:
        raise
    # Errors of ASE's decoder on damaged arrays.
    except RECORD_ERRORS as error:
        raise ReadError(
            f"{shard.path}: the entry {key!r} is not compressed JSON ({error}); it is damaged or"
            " from other software"
        ) from error


def records(path: Path, options: ReadOptions) -> AseLmdbFile:
    """Opens ``.aselmdb`` files."""
    return AseLmdbFile(split_folder(path, options.split), options)


FORMAT = Format(
    name="aselmdb",
    files="`.aselmdb`",
    about="fairchem's databases, one or a folder of them",
    records=records,
    keys=LABEL_KEYS,
    states_units=True,
    suffixes=(".aselmdb",),
    is_folder=True,
    splits="folders",
)
