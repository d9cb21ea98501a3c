"""Data sets in files of ``torch.save``, read without PyTorch and without unpickling.

Such a file is a zip archive with one pickle, ``<name>/data.pkl``, and the storages of its tensors,
``<name>/data/<key>``, which the pickle names by persistent identifiers. Before version 1.6 the
pickle stood between a header and the storages, one after the other (layouts:
``torch/serialization.py``, ``_save`` and ``_legacy_save``).
"""

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from atomjax.structures.pickled_arrays import STORAGE_TYPES, TENSORS, read_preamble
from atomjax.structures.pickles import PLAIN, Global, PickleError, load, load_next

REBUILDERS = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")


def load_torch_archive(path: Path, allowed: Mapping[str, Callable[..., Any]]) -> Any:
    """What was saved, with tensors as arrays.

    Args:
        path: the file.
        allowed: names that may occur beside those of plain data and tensors.

    Raises:
        PickleError: the file is damaged, in another format, or holds more than data.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _load_zip(archive, allowed)
        with path.open("rb") as file:
            return _load_legacy(file, allowed)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, KeyError) as error:
        if isinstance(error, FileNotFoundError) or _is_refusal(error):
            raise
        raise PickleError(
            f"not a readable file of torch.save ({error}); it is damaged or of another format"
        ) from error


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, PickleError) and not str(error).startswith("damaged pickled data")


def _load_zip(archive: zipfile.ZipFile, allowed: Mapping[str, Callable[..., Any]]) -> Any:
    names = set(archive.namelist())
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise PickleError("not a file of torch.save: it has no data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
        raise PickleError("tensors in big-endian order; save them on a little-endian machine")
    storages: dict[str, np.ndarray] = {}

    def storage(identifier: Any) -> np.ndarray:
        kind, storage_type, key, _, count = identifier
        dtype = _storage_dtype(kind, storage_type)
        if key not in storages:
            storages[key] = np.frombuffer(archive.read(f"{folder}data/{key}"), dtype)
            if len(storages[key]) != count:
                raise PickleError(f"storage {key} has {len(storages[key])} of {count} numbers")
        return storages[key]

    return load(archive.read(pickles[0]), {**TENSORS, **STORAGES, **allowed}, storage)


def _load_legacy(file: BinaryIO, allowed: Mapping[str, Callable[..., Any]]) -> Any:
    read_preamble(file)
    start, size = file.tell(), os.fstat(file.fileno()).st_size
    table = {**TENSORS, **STORAGES, **allowed}
    declared: dict[str, tuple[np.dtype, int]] = {}

    def declare(identifier: Any) -> None:
        kind, storage_type, key, _, count, view = identifier
        if view is not None:
            raise PickleError("a storage that is a view of another; save the file again")
        declared[str(key)] = (_storage_dtype(kind, storage_type), int(count))

    # The storages come after the pickle that needs them: it is read twice, first without tensors.
    without = dict.fromkeys(REBUILDERS, lambda *_: None)
    load_next(file, {**table, **without}, declare)
    storages: dict[str, np.ndarray] = {}
    for key in load_next(file, PLAIN):
        dtype, count = declared[key]
        stored = int.from_bytes(file.read(8), "little")
        left = (size - file.tell()) // dtype.itemsize
        if stored != count or not 0 <= count <= left:
            raise PickleError(f"storage {key} has {min(stored, left)} of {count} numbers")
        storages[key] = np.fromfile(file, dtype, count)
    file.seek(start)
    return load_next(file, table, lambda identifier: storages[str(identifier[2])])


def _storage_dtype(kind: Any, storage_type: Any) -> np.dtype:
    if kind != "storage" or not isinstance(storage_type, Global):
        raise PickleError(f"refused: an object stored outside of the pickle ({kind!r})")
    return STORAGE_TYPES[storage_type.name]


def _never(*_: Any) -> None:
    raise PickleError("refused to make an empty storage")


STORAGES: Mapping[str, Callable[..., Any]] = dict.fromkeys(STORAGE_TYPES, _never)
