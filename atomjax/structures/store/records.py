"""One structure as bytes: its arrays one after the other, with nothing that its neighbours share.

What many structures have in common (class key, source, names of targets, classes, the wording of
the identifier) is a `Group`, written once; what has to be found without reading a record (atoms,
energy, which arrays there are) is a row of the index. The record holds the rest, little-endian:

    positions [N, 3], forces [N, 3], cell [3, 3] f8, stress [3, 3] f8, targets f8,
    numbers of the identifier (LEB128), atomic numbers [N] u1, marks [N] u1 (the tag, and 4 for a
    fixed atom)

where positions and forces are f4, or f8 in a store of that precision, and an array that says
nothing (no cell, all tags 2, no fixed atom) is left out.
"""

import re
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from atomjax.structures.structure import TAG_ADSORBATE, Structure

Precision = Literal["float32", "float64"]
FLOATS = {"float32": np.dtype("<f4"), "float64": np.dtype("<f8")}

HAS_ENERGY, HAS_FORCES, HAS_CELL, HAS_MARKS = (1 << i for i in range(4))
FIRST_PBC = 4
HAS_STRESS = 1 << 7
Label = Literal["energy", "forces", "stress"]
LABELS: dict[Label, int] = {"energy": HAS_ENERGY, "forces": HAS_FORCES, "stress": HAS_STRESS}
FIXED = 4
PLACE = "\0"
# Numbers as they are written without leading zeros, so that they come back as they were.
NUMBER = re.compile(r"(?<!\d)(?:0|[1-9]\d{0,17})(?!\d)", re.ASCII)
_F8 = np.dtype("<f8")


class Group(NamedTuple):
    """Fields that several structures share."""

    class_key: str  # field of `Structure`
    source: str  # field of `Structure`
    identifier: str  # field of `Structure`, each number in it replaced by a placeholder
    # Names of the targets, in the order of their values; a class with its name.
    targets: tuple[str | tuple[str, str], ...]


def target_names(listed: Iterable[Any]) -> tuple[str | tuple[str, str], ...]:
    """The targets of a group as a JSON file lists them."""
    return tuple(one if isinstance(one, str) else (one[0], one[1]) for one in listed)


@dataclass(frozen=True)
class Row:
    """Index entry of one structure."""

    n_atom: int  # N
    flags: int  # bits for the arrays that the record has, and for pbc
    energy: float  # eV, zero where there is none
    checksum: int  # CRC-32 of the record and of the fields above


def encode(structure: Structure, precision: Precision) -> tuple[Group, Row, bytes]:
    """The group, the row of the index and the record of one structure.

    Raises:
        ValueError: the identifier has a null character.
    """
    kind = FLOATS[precision]
    if PLACE in structure.identifier:
        raise ValueError(f"{structure!r}: its identifier has a null character; give it another")
    numbers = [int(text) for text in NUMBER.findall(structure.identifier)]
    template = NUMBER.sub(PLACE, structure.identifier)
    named = structure.targets.items()
    targets = tuple((name, v) if isinstance(v, str) else name for name, v in named)
    group = Group(structure.class_key, structure.source, template, targets)
    flags = sum(1 << (FIRST_PBC + i) for i in range(3) if structure.pbc[i])
    parts = [structure.positions.astype(kind).tobytes()]
    if structure.energy is not None:
        flags |= HAS_ENERGY
    if structure.forces is not None:
        flags |= HAS_FORCES
        parts.append(structure.forces.astype(kind).tobytes())
    if structure.cell.any():
        flags |= HAS_CELL
        parts.append(structure.cell.astype(_F8).tobytes())
    if structure.stress is not None:
        flags |= HAS_STRESS
        parts.append(structure.stress.astype(_F8).tobytes())
    values = [value for value in structure.targets.values() if isinstance(value, float)]
    parts.append(np.array(values, _F8).tobytes())
    parts.append(b"".join(map(_varint, numbers)))
    parts.append(structure.atomic_numbers.astype(np.uint8).tobytes())
    marks = structure.tags + FIXED * structure.fixed
    if (marks != TAG_ADSORBATE).any():
        flags |= HAS_MARKS
        parts.append(marks.astype(np.uint8).tobytes())
    record = b"".join(parts)
    n_atom, energy = len(structure), float(structure.energy or 0.0)
    return group, Row(n_atom, flags, energy, checksum(record, n_atom, flags, energy)), record


def checksum(record: bytes, n_atom: int, flags: int, energy: float) -> int:
    """CRC-32 of a record and of its index entry."""
    return zlib.crc32(record, zlib.crc32(struct.pack("<IBd", n_atom, flags, energy)))


def decode(record: bytes, group: Group, row: Row, precision: Precision) -> Structure:
    """The structure that `encode` was given, positions and forces in the store's precision.

    Raises:
        ValueError: the record does not match its checksum.
    """
    n, flags = row.n_atom, row.flags
    if checksum(record, n, flags, row.energy) != row.checksum:
        raise ValueError("the record does not match its checksum")
    kind, place = FLOATS[precision], 0

    def take(dtype: np.dtype, count: int) -> np.ndarray:
        nonlocal place
        array = np.frombuffer(record, dtype, count, place)
        place += array.nbytes
        return array

    positions = take(kind, 3 * n).astype(np.float64).reshape(n, 3)
    forces = None
    if flags & HAS_FORCES:
        forces = take(kind, 3 * n).astype(np.float64).reshape(n, 3)
    cell = take(_F8, 9).reshape(3, 3) if flags & HAS_CELL else np.zeros((3, 3))
    stress = take(_F8, 9).reshape(3, 3).astype(np.float64) if flags & HAS_STRESS else None
    values = iter(take(_F8, sum(isinstance(one, str) for one in group.targets)).tolist())
    targets = dict((one, next(values)) if isinstance(one, str) else one for one in group.targets)
    identifier, place = _fill(group.identifier, record, place)
    small = np.dtype(np.uint8)
    atomic_numbers = take(small, n).astype(np.int32)
    marks = take(small, n) if flags & HAS_MARKS else np.full(n, TAG_ADSORBATE, small)
    return Structure.unchecked(
        atomic_numbers=atomic_numbers,
        positions=positions,
        cell=np.array(cell, np.float64),
        pbc=np.array([flags >> (FIRST_PBC + i) & 1 for i in range(3)], np.bool_),
        tags=(marks % FIXED).astype(np.int32),
        fixed=marks >= FIXED,
        energy=row.energy if flags & HAS_ENERGY else None,
        forces=forces,
        stress=stress,
        targets=targets,
        class_key=group.class_key,
        source=group.source,
        identifier=identifier,
    )


def _varint(number: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first, the highest bit set where more follow."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _fill(template: str, record: bytes, place: int) -> tuple[str, int]:
    """The identifier with its numbers, and where the record goes on."""
    texts = template.split(PLACE)
    filled = [texts[0]]
    for text in texts[1:]:
        number = shift = 0
        while True:
            byte = record[place]
            place += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        filled += (str(number), text)
    return "".join(filled), place
