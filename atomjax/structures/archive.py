"""A list of structures as one ``.npz`` file: ragged arrays side by side, no pickled objects.

Atoms of all structures are concatenated; ``n_atom`` says where each structure ends. Labels that
some structures lack have a mask beside them. A JSON text holds what the writer wants to remember.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.runtime.files import PARSE_ERRORS, DamagedFile, read_npz, write_npz
from atomjax.structures.structure import Structure

FORMAT = "atomjax-structures-1"
MEND = "delete it and make it again"


class ArchiveError(ValueError):
    """A file that is no archive of structures, or a damaged one."""


def save_archive(
    path: str | os.PathLike[str],
    structures: Sequence[Structure],
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write structures to `path`; readers see the old file or the whole new one, never a part.

    Args:
        path: the file to write, its folder is made where missing.
        structures: structures to store, in this order.
        metadata: JSON values to keep beside them.

    Returns:
        The path written.
    """
    target = Path(path)
    arrays = _to_arrays(structures)
    arrays["metadata"] = np.array(json.dumps(dict(metadata or {}), sort_keys=True))
    write_npz(target, arrays, compressed=True)
    return target


def load_archive(path: str | os.PathLike[str]) -> tuple[list[Structure], dict[str, Any]]:
    """Read an archive of `save_archive`.

    Returns:
        The structures, and the metadata.

    Raises:
        FileNotFoundError: there is no such file.
        ArchiveError: the file is damaged or something else.
    """
    try:
        arrays = read_npz(Path(path), MEND)
    except DamagedFile as error:
        raise ArchiveError(str(error)) from error
    if str(arrays.get("format")) != FORMAT:
        raise ArchiveError(
            f"{path}: format {str(arrays.get('format'))!r}, this version reads {FORMAT!r}; {MEND}"
        )
    # Archives of before checksums may hold anything.
    try:
        return _from_arrays(arrays), json.loads(str(arrays["metadata"]))
    except PARSE_ERRORS as error:
        raise ArchiveError(f"{path} is damaged ({error!r}); {MEND}") from error


def _to_arrays(structures: Sequence[Structure]) -> dict[str, np.ndarray]:
    names = sorted({name for s in structures for name in s.targets})
    count = len(structures)

    def joined(parts: list[np.ndarray], shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.concatenate(parts) if parts else np.zeros((0, *shape), dtype)

    return {
        "format": np.array(FORMAT),
        "n_atom": np.array([len(s) for s in structures], dtype=np.int64),
        "atomic_numbers": joined([s.atomic_numbers for s in structures], (), np.int32),
        "positions": joined([s.positions for s in structures], (3,), np.float64),
        "tags": joined([s.tags for s in structures], (), np.int32),
        "fixed": joined([s.fixed for s in structures], (), np.bool_),
        "forces": joined(
            [np.zeros((len(s), 3)) if s.forces is None else s.forces for s in structures],
            (3,),
            np.float64,
        ),
        "has_forces": np.array([s.forces is not None for s in structures], dtype=bool),
        "stress": np.array(
            [np.zeros((3, 3)) if s.stress is None else s.stress for s in structures]
        ).reshape(count, 3, 3),
        "has_stress": np.array([s.stress is not None for s in structures], dtype=bool),
        "cell": np.array([s.cell for s in structures]).reshape(count, 3, 3),
        "pbc": np.array([s.pbc for s in structures], dtype=bool).reshape(count, 3),
        "energy": np.array([s.energy or 0.0 for s in structures], dtype=np.float64),
        "has_energy": np.array([s.energy is not None for s in structures], dtype=bool),
        "target_names": np.array(names, dtype=np.str_),
        "targets": np.array(
            [[_number(s.targets.get(name)) for name in names] for s in structures], dtype=np.float64
        ).reshape(count, len(names)),
        "target_classes": np.array(
            [[_text(s.targets.get(name)) for name in names] for s in structures], dtype=np.str_
        ).reshape(count, len(names)),
        "has_target": np.array(
            [[name in s.targets for name in names] for s in structures], dtype=bool
        ).reshape(count, len(names)),
        "class_key": np.array([s.class_key for s in structures], dtype=np.str_),
        "source": np.array([s.source for s in structures], dtype=np.str_),
        "identifier": np.array([s.identifier for s in structures], dtype=np.str_),
    }


def _from_arrays(arrays: Mapping[str, np.ndarray]) -> list[Structure]:
    ends = np.cumsum(arrays["n_atom"])
    names = [str(name) for name in arrays["target_names"]]
    structures = []
    # Archives of before stresses were read have none.
    has_stress = arrays.get("has_stress", np.zeros(len(ends), dtype=bool))
    # Those of before there were classes have none of them.
    classes = arrays.get("target_classes", np.full(arrays["targets"].shape, ""))
    for i, (end, size) in enumerate(zip(ends, arrays["n_atom"], strict=True)):
        atoms = slice(int(end - size), int(end))
        present = arrays["has_target"][i]
        structures.append(
            Structure(
                atomic_numbers=arrays["atomic_numbers"][atoms],
                positions=arrays["positions"][atoms],
                cell=arrays["cell"][i],
                pbc=arrays["pbc"][i],
                tags=arrays["tags"][atoms],
                fixed=arrays["fixed"][atoms],
                energy=float(arrays["energy"][i]) if arrays["has_energy"][i] else None,
                forces=arrays["forces"][atoms] if arrays["has_forces"][i] else None,
                stress=arrays["stress"][i] if has_stress[i] else None,
                targets={
                    name: str(text) or float(value)
                    for name, value, text, given in zip(
                        names, arrays["targets"][i], classes[i], present, strict=True
                    )
                    if given
                },
                class_key=str(arrays["class_key"][i]),
                source=str(arrays["source"][i]),
                identifier=str(arrays["identifier"][i]),
            )
        )
    return structures


def _number(target: float | str | None) -> float:
    return target if isinstance(target, float) else 0.0


def _text(target: float | str | None) -> str:
    return target if isinstance(target, str) else ""
