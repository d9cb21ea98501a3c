"""Batch capacity: the static shape of a bucket, and the space that structures need in it.

One row of numbers describes a structure, a group of structures and a bucket alike. Over
a group the counts add up and the widths take their maximum, so fitting a bucket to a plan of
batches, and checking a batch against a bucket, are a few array operations.
"""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace

import numpy as np

from atomjax.graphs.interactions import InteractionGraphs

# Shapes from this size on are rounded up to a multiple of 8: friendlier to accelerators, and at
# most 3 % of padding.
_ROUND_FROM = 256
# Of a bucket that is shared: a width, and edges for each atom.
_LEAST_WIDTH, _LEAST_EDGES = 32, 16
# Neighbours of an atom that a tier of narrow slots may be cut at; see ``atomjax.graphs.tiers``.
WIDTHS = (8, 12, 16, 24)


class CapacityError(ValueError):
    """Structures that do not fit a bucket; the message names them and the setting to raise."""


@dataclass(frozen=True)
class Capacity:
    """The static shape of a batch, padding included; letters as in ``atomjax.graphs.batch``.

    Attributes:
        n_graph: G, structures, one of them padding.
        n_node: N, atoms, at least one of them padding.
        n_edge: E, main edges.
        max_neighbors: K, main neighbour slots of an atom.
        n_edge_a2ee2a: A, a2ee2a edges.
        max_a2ee2a: J, a2ee2a slots of an atom.
        readers_a2ee2a: a2ee2a edges that one atom sends.
        max_a2a: P, a2a slots of an atom.
        readers_a2a: a2a edges that one atom sends.
        n_quad: Q, atoms with a qint edge.
        max_quad: B, qint slots of an atom.
        readers_quad: qint edges that one atom sends.
        max_atoms: M, atoms of the largest structure.
        readers: R, main edges that one atom sends; graphs that a model does not have take 1.
        over_8, over_12, over_16, over_24: atoms with more main or a2ee2a neighbours than that.
    """

    n_graph: int
    n_node: int
    n_edge: int
    max_neighbors: int
    n_edge_a2ee2a: int
    max_a2ee2a: int
    readers_a2ee2a: int
    max_a2a: int
    readers_a2a: int
    n_quad: int
    max_quad: int
    readers_quad: int
    max_atoms: int
    readers: int
    over_8: int
    over_12: int
    over_16: int
    over_24: int

    def __post_init__(self):
        if self.n_graph < 2:
            raise CapacityError(f"n_graph is {self.n_graph}: at least 2, the last one is padding")
        for name in FIELDS:
            if getattr(self, name) < 1:
                raise CapacityError(f"{name} is {getattr(self, name)}: give at least 1")

    @property
    def limits(self) -> np.ndarray:
        """[fields] space for real structures in each field."""
        return np.array(astuple(self), dtype=np.int64) - _PADDING

    def enlarged(self, by: int) -> "Capacity":
        """The same with ``by`` more of everything."""
        return replace(self, **{name: getattr(self, name) + by for name in FIELDS})


def over(width: int) -> str:
    """The field that counts the atoms with more than ``width`` neighbours, one of `WIDTHS`."""
    return f"over_{width}"


FIELDS = tuple(field.name for field in fields(Capacity))
_OVER = tuple(over(width) for width in WIDTHS)
_COUNTS = ("n_graph", "n_node", "n_edge", "n_edge_a2ee2a", "n_quad", *_OVER)
_IS_COUNT = np.array([name in _COUNTS for name in FIELDS])
_PADDING = np.array([1 if name in ("n_graph", "n_node") else 0 for name in FIELDS])
_MEANING = {
    "n_graph": "structures",
    "n_node": "atoms",
    "n_edge": "main edges",
    "max_neighbors": "main neighbours of one atom",
    "n_edge_a2ee2a": "a2ee2a edges",
    "max_a2ee2a": "a2ee2a neighbours of one atom",
    "readers_a2ee2a": "a2ee2a edges sent by one atom",
    "max_a2a": "a2a neighbours of one atom",
    "readers_a2a": "a2a edges sent by one atom",
    "n_quad": "atoms with quadruplets",
    "max_quad": "qint neighbours of one atom",
    "readers_quad": "qint edges sent by one atom",
    "max_atoms": "atoms in one structure",
    "readers": "main edges sent by one atom",
    **{over(width): f"atoms with more than {width} neighbours" for width in WIDTHS},
}


@dataclass(frozen=True)
class Sizes:
    """Sizes of S structures in every field of a ``Capacity``, padding not included.

    Attributes:
        table: [S, fields] int64, columns in the order of ``FIELDS``.
    """

    table: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    def column(self, name: str) -> np.ndarray:
        """[S] one field of all structures."""
        return self.table[:, FIELDS.index(name)]

    @classmethod
    def measure(cls, graphs: Sequence[InteractionGraphs]) -> "Sizes":
        """The sizes of structures from their graphs."""
        n_node = np.array([g.n_node for g in graphs], dtype=np.int64)
        main = _degrees(graphs, n_node, "main")
        a2ee2a = _degrees(graphs, n_node, "a2ee2a")
        a2a = _degrees(graphs, n_node, "a2a")
        qint = _degrees(graphs, n_node, "qint")
        columns = {
            "n_graph": np.ones_like(n_node),
            "n_node": n_node,
            "n_edge": np.array([len(g.main) for g in graphs], dtype=np.int64),
            "max_neighbors": _most(main[0], n_node),
            "n_edge_a2ee2a": np.array([len(g.a2ee2a) for g in graphs], dtype=np.int64),
            "max_a2ee2a": _most(a2ee2a[0], n_node),
            "readers_a2ee2a": _most(a2ee2a[1], n_node),
            "max_a2a": _most(a2a[0], n_node),
            "readers_a2a": _most(a2a[1], n_node),
            "n_quad": _total(qint[0] > 0, n_node),
            "max_quad": _most(qint[0], n_node),
            "readers_quad": _most(qint[1], n_node),
            "max_atoms": n_node,
            "readers": _most(main[1], n_node),
        }
        neighbors = np.maximum(main[0], a2ee2a[0])
        columns |= {over(width): _total(neighbors > width, n_node) for width in WIDTHS}
        return cls(np.stack([columns[name] for name in FIELDS], axis=1).astype(np.int64))

    @classmethod
    def concatenate(cls, parts: Iterable["Sizes"]) -> "Sizes":
        """Sizes of several sets of structures, one after the other."""
        return cls(
            np.concatenate([np.zeros((0, len(FIELDS)), np.int64), *(p.table for p in parts)])
        )

    def with_dropout(self, drawn: "Sizes") -> "Sizes":
        """These sizes under edge dropout, from one random draw of it.

        Counts are those of the draw. Widths that dropout can only lower stay; where it lets
        farther neighbours into a graph, as the next whole shell behind a limit, a tenth is added,
        up to what the a2a graph allows where there is one.
        """
        table = self.table.copy()
        table[:, _IS_COUNT] = drawn.table[:, _IS_COUNT]
        bound = self.column("readers_a2a")
        bound = np.where(bound > 0, bound, np.iinfo(np.int64).max)
        grows = ["max_neighbors", "readers", "readers_a2ee2a", "readers_quad"]
        received = ("max_a2ee2a", "max_quad")
        grows += [n for n in received if np.any(drawn.column(n) > self.column(n))]
        for name in grows:
            seen = np.maximum(self.column(name), drawn.column(name))
            grown = np.maximum(self.column(name), np.minimum(-(-seen * 11 // 10), bound))
            table[:, FIELDS.index(name)] = grown
        return Sizes(in_one_tier(table))

    def with_all_widths(self, needs: np.ndarray) -> np.ndarray:
        """``needs`` [groups, fields] with widths that hold any of these structures."""
        return np.where(_IS_COUNT, needs, np.maximum(needs, self.table.max(axis=0)))

    def needs(self, groups: Sequence[np.ndarray]) -> np.ndarray:
        """[groups, fields] joint needs of each group of structures (arrays of indices)."""
        needs = np.zeros((len(groups), len(FIELDS)), dtype=np.int64)
        length = np.array([len(group) for group in groups], dtype=np.int64)
        filled = np.flatnonzero(length)
        if len(filled):
            rows = self.table[np.concatenate([groups[i] for i in filled.tolist()])]
            start = np.cumsum(length[filled]) - length[filled]
            sums = np.add.reduceat(rows[:, _IS_COUNT], start, axis=0)
            needs[np.ix_(filled, np.flatnonzero(_IS_COUNT))] = sums
            maxima = np.maximum.reduceat(rows[:, ~_IS_COUNT], start, axis=0)
            needs[np.ix_(filled, np.flatnonzero(~_IS_COUNT))] = maxima
        return needs


def in_one_tier(table: np.ndarray) -> np.ndarray:
    """Sizes or needs [..., fields] with all atoms among those of many neighbours.

    A shape that is to hold what has not been seen has room for any number of these.
    """
    table = table.copy()
    table[..., [FIELDS.index(name) for name in _OVER]] = table[..., [FIELDS.index("n_node")]]
    return table


def fit_capacity(needs: np.ndarray, *, margin: float = 0.0) -> Capacity:
    """The smallest bucket that holds each of some groups of structures.

    Args:
        needs: [groups, fields] from :meth:`Sizes.needs`.
        margin: fraction to enlarge the needs by, for groups not yet seen.
    """
    most = np.max(needs, axis=0, initial=0)
    if margin:
        most = in_one_tier(most)
    # Margins are for sums that vary from batch to batch; the number of structures does not.
    grown = np.where(_IS_COUNT, np.ceil(most * (1 + margin)).astype(np.int64), most)
    grown[FIELDS.index("n_graph")] = most[FIELDS.index("n_graph")]
    sizes = np.maximum(grown, 1) + _PADDING
    rounded = np.where(_IS_COUNT & (sizes >= _ROUND_FROM), -(-sizes // 8) * 8, sizes)
    rounded[FIELDS.index("n_graph")] = sizes[FIELDS.index("n_graph")]
    return Capacity(*rounded.tolist())


def shared_capacity(sizes: Sizes, batch_size: int, n_node: int) -> Capacity:
    """A coarse bucket, in powers of two, so that sets of like structures have the same one.

    Args:
        sizes: sizes of the structures of a set, any one of which will fit.
        batch_size: most structures in a batch.
        n_node: atoms in a batch, or those of the largest structure.
    """
    most = np.array([_power_of_two(size) for size in sizes.table.max(axis=0).tolist()])
    per_atom = sizes.table.sum(axis=0) / max(sizes.column("n_node").sum(), 1)
    ratios = np.array([_power_of_two(int(np.ceil(ratio))) for ratio in per_atom])
    ratios = np.where(ratios > 1, np.maximum(ratios, _LEAST_EDGES), 1)
    atoms = max(n_node, int(most[FIELDS.index("n_node")]))
    widths = np.where(most > 1, np.maximum(most, _LEAST_WIDTH), 1)
    limits = np.where(_IS_COUNT, np.maximum(atoms * ratios, most), widths)
    limits[FIELDS.index("n_graph")] = batch_size
    return Capacity(*(limits + _PADDING).tolist())


def _power_of_two(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()


def check_fits(sizes: Sizes, capacity: Capacity, identifiers: Sequence[str]) -> None:
    """Check that structures fit into one batch together.

    Raises:
        CapacityError: they do not; names a structure and the field of ``Capacity`` to raise.
    """
    if not len(sizes):
        return
    need = sizes.needs([np.arange(len(sizes))])[0]
    over = np.flatnonzero(need > capacity.limits)
    if not len(over):
        return
    # A width that one structure exceeds comes first: a smaller batch cures sums alone.
    field = min(over.tolist(), key=lambda i: bool(_IS_COUNT[i]))
    name = FIELDS[field]
    largest = int(np.argmax(sizes.table[:, field]))
    row = dict(zip(FIELDS, sizes.table[largest].tolist(), strict=True))
    has = f"{row['n_node']} atoms, {row['n_edge']} main edges"
    raise_to = f"raise Capacity.{name} from {getattr(capacity, name)} to "
    raise_to += f"{need[field] + _PADDING[field]} or more"
    if _IS_COUNT[field]:
        problem = f"the {len(sizes)} structures of a batch need {need[field]} {_MEANING[name]}"
        problem += f", the bucket holds {capacity.limits[field]}; the largest is "
        problem += f"{identifiers[largest]!r} ({has})"
        raise_to += ", or lower batch_size"
    else:
        problem = f"structure {identifiers[largest]!r} ({has}) needs {need[field]} "
        problem += f"{_MEANING[name]}, the bucket holds {capacity.limits[field]}"
    raise CapacityError(f"{problem}: {raise_to}; capacity=None fits it to the data")


def _degrees(
    graphs: Sequence[InteractionGraphs], n_node: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Edges that each atom of all structures receives and sends, two arrays [sum of n_node]."""
    edges = [getattr(g, name) for g in graphs]
    shift = np.repeat((np.cumsum(n_node) - n_node).astype(np.int32), [len(e) for e in edges])
    none = np.zeros(0, dtype=np.int32)
    total = int(n_node.sum())
    received = np.concatenate([none, *(e.receivers for e in edges)]) + shift
    sent = np.concatenate([none, *(e.senders for e in edges)]) + shift
    return np.bincount(received, minlength=total), np.bincount(sent, minlength=total)


def _most(per_atom: np.ndarray, n_node: np.ndarray) -> np.ndarray:
    """[S] largest value among the atoms of each structure."""
    if not len(n_node):
        return np.zeros(0, dtype=np.int64)
    return np.maximum.reduceat(per_atom, np.cumsum(n_node) - n_node)


def _total(per_atom: np.ndarray, n_node: np.ndarray) -> np.ndarray:
    """[S] sum over the atoms of each structure."""
    if not len(n_node):
        return np.zeros(0, dtype=np.int64)
    return np.add.reduceat(per_atom.astype(np.int64), np.cumsum(n_node) - n_node)
