"""Seeded division of a data set into parts, by structure or by class."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from atomjax.structures.structure import Structure

Size = int | float | None


class SplitError(ValueError):
    """Parts that the data set cannot fill, or that leave a part empty."""


def split_indices(
    structures: Sequence[Structure],
    parts: Mapping[str, Size],
    *,
    by: Literal["structure", "class_key"] = "structure",
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Deal structures into disjoint parts.

    The same structures, parts and seed give the same division on every machine. Part sizes do not
    change the shuffle: parts are cut from one order, so that the first part keeps its structures
    when a later one grows.

    Args:
        structures: the whole data set.
        parts: name to size: an int is a number of structures, a float below 1 a fraction of the
            set, and None (once at most) takes what the others leave.
        by: "class_key" keeps all structures of a class in one part, so that a part's size is
            reached as nearly as whole classes allow, and never passed by more than one class.
        seed: seed of the shuffle.

    Returns:
        For each part, sorted indices into `structures`, int64.

    Raises:
        SplitError: the parts ask for more than there is, or a part would get nothing.
    """
    counts = _counts(parts, len(structures))
    rng = np.random.default_rng([seed, 0x5911])
    if by == "structure":
        order, ends = rng.permutation(len(structures)), np.arange(len(structures) + 1)
    elif by == "class_key":
        order, ends = _shuffled_classes(structures, rng)
    else:
        raise SplitError(f"by={by!r}; write 'structure' or 'class_key'")
    rest = [name for name, count in counts.items() if count is None]
    divided: dict[str, np.ndarray] = {}
    position = 0
    for name, count in counts.items():
        if count is None:
            continue
        whole = ends[min(np.searchsorted(ends, position + count), len(ends) - 1)]
        divided[name] = np.sort(order[position:whole])
        position = int(whole)
        if len(divided[name]) < count:
            raise SplitError(
                f"part {name!r} asks for {count} structures and gets {len(divided[name])}: whole"
                f" classes filled the other parts first. Ask for less, or split by 'structure'"
            )
    for name in rest:
        divided[name] = np.sort(order[position:])
        if len(divided[name]) == 0:
            raise SplitError(
                f"part {name!r} takes what the others leave, and they leave nothing of the"
                f" {len(structures)} structures; make {', '.join(sorted(set(parts) - {name}))}"
                " smaller"
            )
    return {name: divided[name] for name in parts}


def _counts(parts: Mapping[str, Size], total: int) -> dict[str, int | None]:
    counts: dict[str, int | None] = {}
    for name, size in parts.items():
        if isinstance(size, float):
            if not 0.0 <= size < 1.0:
                raise SplitError(
                    f"part {name!r} is {size}: a share lies between 0 and 1; write an int for a"
                    " number of structures"
                )
            # At least one structure for any share above zero.
            size = max(round(size * total), int(size > 0.0))
        if size is not None and size < 0:
            raise SplitError(f"part {name!r} is {size}; sizes cannot be negative")
        counts[name] = size
    if sum(count is None for count in counts.values()) > 1:
        raise SplitError("only one part can be None (what the others leave)")
    asked = sum(count or 0 for count in counts.values())
    shares = [size for size in parts.values() if isinstance(size, float)]
    if len(shares) == sum(size != 0 for size in parts.values()) and math.isclose(sum(shares), 1):
        # Each is rounded by itself; the largest makes up for it.
        largest = max(counts, key=lambda name: counts[name] or 0)
        rest = total - asked + (counts[largest] or 0)
        if rest > 0:
            counts[largest], asked = rest, total
    if asked > total:
        raise SplitError(
            f"parts {dict(parts)} ask for {asked} structures of a data set of {total};"
            " ask for less or make more"
        )
    return counts


def _shuffled_classes(
    structures: Sequence[Structure], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Structures class by class, and where each class starts and the last ends."""
    # A store knows them without reading structures, numbered in the order of the sorted keys.
    keys = getattr(structures, "class_ids", None)
    if keys is None:
        keys = np.array([structure.class_key for structure in structures], dtype=np.str_)
    # Numbered by sorted key: the order in which classes appear in a file must not matter.
    classes, number = np.unique(keys, return_inverse=True)
    place = np.empty(len(classes), dtype=np.int64)
    place[rng.permutation(len(classes))] = np.arange(len(classes))
    order = np.argsort(place[number], kind="stable")
    counts = np.bincount(place[number], minlength=len(classes))
    return order, np.concatenate([[0], np.cumsum(counts)])
