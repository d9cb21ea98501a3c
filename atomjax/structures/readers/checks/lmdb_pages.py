"""The tree of an LMDB file, checked before the library follows its pointers.

LMDB maps a file into memory and trusts what is in it: a damaged length or page number makes it
touch what is not there, which ends the process. Layout of version 1 as in LMDB's ``mdb.c``
(OpenLDAP, 0.9), 64 bits, little-endian: pages of a fixed size, the first two of which describe the
file; a tree of branch and leaf pages, whose nodes are a key and a child, a value, or the first page
and length of a value that has pages of its own.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atomjax.structures.readers.layouts.records import ReadError

# Pages of keys that opening a file checks: some 300,000 records, a quarter of a second.
MOST_PAGES = 8192
_HEADER = 16
_META = struct.Struct("<II16x" + "IHHQQQQQ" * 2 + "QQ")
_MAGIC = 0xBEEFC0DE
_NONE = (1 << 64) - 1
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_OWN_PAGES = 1


@dataclass(frozen=True)
class Tree:
    """Description of the tree in the newer of the first two pages.

    Attributes:
        page_size: bytes of a page.
        last: number of the last page.
        root: page of the tree; None where there are no records.
        depth: pages from the root to a leaf.
        pages: number of pages of keys, branches and leaves.
        entries: records.
    """

    page_size: int
    last: int
    root: int | None
    depth: int
    pages: int
    entries: int


def check_pages(path: Path, most: int | None = MOST_PAGES) -> None:
    """Refuse a file whose pages point outside of it.

    Args:
        path: the file.
        most: pages of keys beyond which only the first pages are checked; None checks any number,
            and that values with pages of their own begin as they should.

    Raises:
        ReadError: it is damaged.
    """
    size = path.stat().st_size
    if size < 2 * _HEADER + _META.size:
        raise damaged_lmdb(path, f"{size} bytes are no LMDB file")
    data = np.asarray(np.memmap(path, np.uint8, "r"))
    tree = _tree(path, data)
    if (tree.last + 1) * tree.page_size > size:
        raise damaged_lmdb(path, f"{size} of {(tree.last + 1) * tree.page_size} bytes")
    if tree.root is None or (most is not None and tree.pages > most):
        return
    found = sum(_leaves(path, data, tree, tree.root, 1, whole=most is None))
    if found != tree.entries:
        raise damaged_lmdb(path, f"it has {found} records and says {tree.entries}")


def _tree(path: Path, data: np.ndarray) -> Tree:
    page_size, metas = 0, []
    for number in range(2):
        start = number * page_size + _HEADER
        if start + _META.size > len(data):
            raise damaged_lmdb(path, "its second page is missing")
        fields = _META.unpack_from(data.data, start)
        magic, version = fields[:2]
        free, main = fields[2:10], fields[10:18]
        page_size = free[0]
        if magic != _MAGIC or version != 1:
            raise damaged_lmdb(path, f"page {number} is not the description of an LMDB file")
        if not 512 <= page_size <= 1 << 16 or page_size & (page_size - 1):
            raise damaged_lmdb(path, f"its pages would have {page_size} bytes")
        last, transaction = fields[18:]
        _, _, depth, branches, leaves, _, entries, root = main
        own = Tree(
            page_size, last, root if root != _NONE else None, depth, branches + leaves, entries
        )
        metas.append((transaction, own))
    return max(metas, key=lambda meta: meta[0])[1]


def _leaves(
    path: Path, data: np.ndarray, tree: Tree, number: int, level: int, *, whole: bool
) -> Iterator[int]:
    """The number of records of each leaf below a page, after a check of all on the way."""
    start = number * tree.page_size
    if not 2 <= number <= tree.last or level > tree.depth:
        raise damaged_lmdb(path, f"page {number} is not there")
    page = data[start : start + tree.page_size]
    own, _, flags, lower, upper = struct.unpack_from("<QHHHH", data.data, start)
    kind = _LEAF if level == tree.depth else _BRANCH
    if own != number or flags & 0xF != kind or not _HEADER <= lower <= upper <= tree.page_size:
        raise damaged_lmdb(path, f"page {number} is not as it was written")
    nodes = page[_HEADER : lower - (lower - _HEADER) % 2].view("<u2").astype(np.int64)
    if len(nodes) and not upper <= nodes.min() <= nodes.max() <= tree.page_size - 8:
        raise damaged_lmdb(path, f"page {number} has a record outside itself")
    fields = page[nodes[:, None] + np.arange(8)].view("<u2").astype(np.int64)
    low, high, bits, keys = fields.reshape(-1, 4).T
    length = low | high << 16
    begins = nodes + 8 + keys
    if kind == _BRANCH:
        if len(nodes) < 2 or (begins > tree.page_size).any():
            raise damaged_lmdb(path, f"page {number} has a key outside itself")
        for child in (length | bits << 32).tolist():
            yield from _leaves(path, data, tree, child, level + 1, whole=whole)
        return
    apart = bits & _OWN_PAGES != 0
    if (begins + np.where(apart, 8, length) > tree.page_size).any():
        raise damaged_lmdb(path, f"page {number} has a value outside itself")
    places = page[begins[apart][:, None] + np.arange(8)].view("<u8").reshape(-1)
    _check_values(path, data, tree, places, length[apart], whole)
    yield len(nodes)


def _check_values(
    path: Path, data: np.ndarray, tree: Tree, places: np.ndarray, lengths: np.ndarray, whole: bool
) -> None:
    """Raise where values with pages of their own do not lie in the file."""
    pages = -(-(lengths + _HEADER) // tree.page_size)
    if not len(places):
        return
    if places.min() < 2 or places.max() > tree.last or (places + pages - 1 > tree.last).any():
        raise damaged_lmdb(path, "a value reaches beyond the end of the file")
    for place, count in zip(places.tolist(), pages.tolist(), strict=True) if whole else ():
        own, _, flags, written = struct.unpack_from("<QHHI", data.data, place * tree.page_size)
        if own != place or flags & 0xF != _OVERFLOW or written != count:
            raise damaged_lmdb(path, f"page {place} is not the first of a value of {count} pages")


def damaged_lmdb(path: Path, reason: object) -> ReadError:
    """The error of an LMDB file, which gives the reason."""
    return ReadError(
        f"{path}: not a readable LMDB file ({reason}); it is damaged or truncated, copy it again"
    )
