"""Data sets in files of ``torch.save``, read without PyTorch and without unpickling.

Such a file is a zip archive with one pickle, ``<name>/data.pkl``, and the storages of its tensors,
``<name>/data/<key>``, which the pickle names by persistent identifiers (layout:
``torch/serialization.py``, ``_save``).
"""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.structures.pickled_arrays import STORAGE_TYPES, TENSORS
from atomjax.structures.pickles import Global, PickleError, load


def load_torch_archive(path: Path, allowed: Mapping[str, Callable[..., Any]]) -> Any:
    """What was saved, with tensors as arrays.

    Args:
        path: the file.
        allowed: names that may occur beside those of plain data and tensors.

    Raises:
        PickleError: the file is damaged, in another format, or holds more than data.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _load(archive, allowed)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, KeyError) as error:
        if isinstance(error, PickleError | FileNotFoundError):
            raise
        raise PickleError(
            f"not a readable file of torch.save ({error}); it is damaged or of another format"
        ) from error


def _load(archive: zipfile.ZipFile, allowed: Mapping[str, Callable[..., Any]]) -> Any:
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
        if kind != "storage" or not isinstance(storage_type, Global):
            raise PickleError(f"refused: an object stored outside of the pickle ({kind!r})")
        if key not in storages:
            values = np.frombuffer(
                archive.read(f"{folder}data/{key}"), STORAGE_TYPES[storage_type.name]
            )
            if len(values) != count:
                raise PickleError(f"storage {key} has {len(values)} of {count} numbers")
            storages[key] = values
        return storages[key]

    types = dict.fromkeys(STORAGE_TYPES, _never)
    return load(archive.read(pickles[0]), {**TENSORS, **types, **allowed}, storage)


def _never(*_: Any) -> None:
    raise PickleError("refused to make an empty storage")
