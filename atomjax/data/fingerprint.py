"""Fingerprints of data, by which a resumed training finds and describes changes."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atomjax.structures.store import Store
from atomjax.structures.structure import Structure

_SIZE = 16


def fingerprint(structures: Sequence[Structure]) -> dict[str, Any]:
    """Fingerprint of structures, their order and their labels, as JSON.

    Returns:
        "structures", their number, and digests: "order" of the arrangements one after the other,
        "content" of them whatever their order, "labels" of the labels one after the other. Those
        of a store are of its checksums, which cover labels.
    """
    if isinstance(structures, Store):
        parts = [row.tobytes() for row in structures.checksums]
        labels = structures.energies.tobytes()
    else:
        parts = [_arrangement(structure) for structure in structures]
        labels = b"".join(map(_labels, structures))
    return {
        "structures": len(structures),
        "order": _digest(b"".join(parts)),
        "content": _digest(b"".join(sorted(parts))),
        "labels": _digest(labels),
    }


def describe_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Difference between two fingerprints, in words; None where they agree."""
    if before["structures"] != now["structures"]:
        return f"it had {before['structures']:,} structures and has {now['structures']:,}"
    if before["content"] != now["content"]:
        return "its structures are others"
    if before["order"] != now["order"]:
        return "its structures come in another order"
    return "its labels are others" if before["labels"] != now["labels"] else None


def _arrangement(structure: Structure) -> bytes:
    arrays = ("atomic_numbers", "positions", "cell", "pbc", "tags", "fixed")
    return _digest(b"".join(getattr(structure, name).tobytes() for name in arrays)).encode()


def _labels(structure: Structure) -> bytes:
    arrays = [structure.forces, structure.stress]
    numbers = [np.nan if structure.energy is None else structure.energy]
    targets = [value for _, value in sorted(structure.targets.items())]
    numbers += [value for value in targets if isinstance(value, float)]
    classes = "".join(f"\0{value}" for value in targets if isinstance(value, str))
    data = np.array(numbers).tobytes() + b"".join(
        b"-" if a is None else a.tobytes() for a in arrays
    )
    return _digest(data + classes.encode()).encode()


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=_SIZE).hexdigest()
