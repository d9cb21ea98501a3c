"""The interaction graphs of a structure: the four of GemNet-OC, or one of nearest neighbours.

From one atom-to-atom graph (a2a) within the cutoff the others keep the nearest neighbours of
each receiver: the main graph, whose edges carry embeddings, the atom-to-edge graph (a2ee2a) and
the quadruplet graph (qint). Source: Gasteiger et al., GemNet-OC, arXiv:2204.02782; neighbour
limits and cutoffs as in JMP (Shoghi et al., arXiv:2310.16802). Models with a single graph
(EquiformerV2, Liao et al., arXiv:2306.12059) read the main graph alone, directed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from atomjax.graphs.neighbors import (
    Edges,
    edge_order,
    find_edges,
    image_codes,
    is_small_molecule,
)
from atomjax.structures.structure import Structure

# Bounds the memory of the vectorised search over molecules, 24 bytes of vector a pair.
_PAIRS_PER_BLOCK = 100_000

GraphKind = Literal["gemnet_oc", "nearest"]


@dataclass(frozen=True)
class GraphConfig:
    """How the graphs of a data set are built.

    Attributes:
        kind: "gemnet_oc" for its four graphs; "nearest" for a main graph alone, in which every
            receiver has its nearest senders and an edge need not have a reverse.
        cutoff: Å, for structures that are periodic in any direction.
        cutoff_molecule: Å, for structures that are not.
        max_neighbors: nearest senders of each receiver in the main graph, before the
            symmetrisation of the kind "gemnet_oc".
        max_neighbors_a2ee2a: the same in the atom-to-edge graph; this field and the next three
            are read for the kind "gemnet_oc" only.
        max_neighbors_qint: the same in the quadruplet graph, before the tag filter.
        max_neighbors_a2a: the same in the atom-to-atom graph, which the others draw from.
        qint_tags: a quadruplet's middle edge must have at least one end with such a tag.
        edge_dropout: probability that a directed edge within the cutoff, and with it its copies
            in all graphs, is dropped in training, before the nearest are chosen.
    """

    kind: GraphKind = "gemnet_oc"
    cutoff: float = 12.0
    cutoff_molecule: float = 8.0
    max_neighbors: int = 30
    max_neighbors_a2ee2a: int = 20
    max_neighbors_qint: int = 8
    max_neighbors_a2a: int = 1000
    qint_tags: tuple[int, ...] = (1, 2)
    edge_dropout: float = 0.0

    def __post_init__(self):
        if self.kind not in get_args(GraphKind):
            raise ValueError(
                f"GraphConfig.kind is {self.kind!r}: give one of {get_args(GraphKind)}"
            )
        for name in ("cutoff", "cutoff_molecule"):
            if not getattr(self, name) > 0:
                raise ValueError(f"GraphConfig.{name} is {getattr(self, name)}: give Å, above 0")
        limits = ("", "_a2ee2a", "_qint", "_a2a")
        for name in (f"max_neighbors{suffix}" for suffix in limits):
            if getattr(self, name) < 1:
                raise ValueError(f"GraphConfig.{name} is {getattr(self, name)}: give at least 1")
            if self.kind == "gemnet_oc" and getattr(self, name) > self.max_neighbors_a2a:
                raise ValueError(
                    f"GraphConfig.{name} is {getattr(self, name)}, more than max_neighbors_a2a "
                    f"({self.max_neighbors_a2a}), the graph it draws from: raise the latter"
                )
        if not 0 <= self.edge_dropout < 1:
            raise ValueError(f"GraphConfig.edge_dropout is {self.edge_dropout}: give 0 <= p < 1")

    @classmethod
    def from_base(
        cls, cutoff: float, max_neighbors: int, *, cutoff_molecule: float | None = None, **fields
    ) -> "GraphConfig":
        """Limits of all graphs in GemNet-OC's proportions (30 : 20 : 8 : 1000).

        Args:
            cutoff: Å.
            max_neighbors: limit of the main graph.
            cutoff_molecule: Å; the same as ``cutoff`` by default.
            **fields: further fields as they are.
        """
        return cls(
            cutoff=cutoff,
            cutoff_molecule=cutoff if cutoff_molecule is None else cutoff_molecule,
            max_neighbors=max_neighbors,
            max_neighbors_a2ee2a=int(max_neighbors * 20 / 30),
            max_neighbors_qint=int(max_neighbors * 8 / 30),
            max_neighbors_a2a=int(max_neighbors * 1000 / 30),
            **fields,
        )


@dataclass(frozen=True)
class InteractionGraphs:
    """The graphs of one structure; each has its edges sorted by receiver, then by distance.

    Attributes:
        n_node: number of atoms.
        kind: of ``GraphConfig``. Where it is "nearest", ``main`` is ``main_directed``, and
            ``swap`` and the other graphs are empty.
        main: main graph after symmetrisation: every edge is there with its reverse.
        swap: [E] int32 index of the reverse of each main edge.
        a2a: atom-to-atom graph.
        a2ee2a: atom-to-edge and edge-to-atom graph.
        qint: middle edges of the quadruplets.
        main_directed: main graph before symmetrisation.
    """

    n_node: int
    kind: GraphKind
    main: Edges
    swap: np.ndarray
    a2a: Edges
    a2ee2a: Edges
    qint: Edges
    main_directed: Edges

    @property
    def nbytes(self) -> int:
        """Memory held by the arrays in bytes, shared ones counted once."""
        edges = (self.main, self.a2a, self.a2ee2a, self.qint, self.main_directed)
        return self.swap.nbytes + sum({id(e): e.nbytes for e in edges}.values())


def build_interactions(
    structure: Structure, config: GraphConfig, rng: np.random.Generator | None = None
) -> InteractionGraphs:
    """The interaction graphs of one structure.

    Args:
        structure: a ``Structure``.
        config: cutoffs and neighbour limits.
        rng: source of the edge dropout; without it no edge is dropped.

    Raises:
        GraphError: offsets out of range (see ``neighbors.find_edges``).
    """
    return build_many([structure], config, None if rng is None else [rng])[0]


def build_many(
    structures: Sequence[Structure],
    config: GraphConfig,
    rngs: Sequence[np.random.Generator] | None = None,
) -> list[InteractionGraphs]:
    """The interaction graphs of many structures, vectorised over them.

    Args:
        structures: the structures.
        config: cutoffs and neighbour limits.
        rngs: source of the edge dropout of each structure; without it no edge is dropped.

    Raises:
        GraphError: as :func:`build_interactions`.
    """
    graphs: list[InteractionGraphs] = []
    start = 0
    for stop in _block_ends(structures):
        block = None if rngs is None else rngs[start:stop]
        graphs += _build_block(structures[start:stop], config, block)
        start = stop
    return graphs


def _block_ends(structures: Sequence[Structure]) -> list[int]:
    """Where to cut the structures: small molecules in runs, all others one by one."""
    ends, pairs = [], 0
    for i, structure in enumerate(structures):
        small = is_small_molecule(structure)
        if i and (not small or pairs == 0 or pairs > _PAIRS_PER_BLOCK):
            ends.append(i)
            pairs = 0
        pairs += len(structure.positions) ** 2 if small else 0
    return [*ends, len(structures)] if structures else []


def _build_block(
    structures: Sequence[Structure],
    config: GraphConfig,
    rngs: Sequence[np.random.Generator] | None,
) -> list[InteractionGraphs]:
    n_node = np.array([len(s.positions) for s in structures], dtype=np.int64)
    first = np.concatenate([[0], np.cumsum(n_node)])
    periodic = np.any(structures[0].pbc)
    a2a = find_edges(structures, config.cutoff if periodic else config.cutoff_molecule)
    rank = _rank(a2a.receivers, first[-1])
    if config.kind == "nearest":
        if rngs is not None and config.edge_dropout > 0:
            a2a = a2a.take(_survivors(a2a, first, config.edge_dropout, rngs))
            rank = _rank(a2a.receivers, first[-1])
        return _split_directed(n_node, first, _nearest(a2a, rank, config.max_neighbors))
    if len(a2a) and rank.max() >= config.max_neighbors_a2a:
        a2a = a2a.take(np.flatnonzero(rank < config.max_neighbors_a2a))
        rank = _rank(a2a.receivers, first[-1])
    if rngs is not None and config.edge_dropout > 0:
        a2a = a2a.take(_survivors(a2a, first, config.edge_dropout, rngs))
        rank = _rank(a2a.receivers, first[-1])
    main_directed = _nearest(a2a, rank, config.max_neighbors)
    main, swap = _symmetrize(main_directed)
    a2ee2a = _nearest(a2a, rank, config.max_neighbors_a2ee2a)
    tags = np.concatenate([s.tags for s in structures])
    qint = _with_tags(_nearest(a2a, rank, config.max_neighbors_qint), tags, config.qint_tags)
    return _split(n_node, first, (main, a2a, a2ee2a, qint, main_directed), swap)


def _rank(receivers: np.ndarray, n_node: int) -> np.ndarray:
    """[E] place of each edge among those of its receiver, which are sorted by distance."""
    count = np.bincount(receivers, minlength=n_node)
    return np.arange(len(receivers)) - np.repeat(np.cumsum(count) - count, count)


def _nearest(edges: Edges, rank: np.ndarray, limit: int) -> Edges:
    keep = np.flatnonzero(rank < limit)
    return edges if len(keep) == len(rank) else edges.take(keep)


def _survivors(
    edges: Edges, first: np.ndarray, dropout: float, rngs: Sequence[np.random.Generator]
) -> np.ndarray:
    n_edge = np.diff(np.searchsorted(edges.receivers, first))
    draws = [rng.random(n) for rng, n in zip(rngs, n_edge, strict=True)]
    return np.flatnonzero(np.concatenate(draws) >= dropout)


def _with_tags(edges: Edges, tags: np.ndarray, wanted: tuple[int, ...]) -> Edges:
    chosen = np.isin(tags, wanted)
    if chosen.all():
        return edges
    keep = chosen[edges.senders] | chosen[edges.receivers]
    return edges.take(np.flatnonzero(keep))


def _symmetrize(edges: Edges) -> tuple[Edges, np.ndarray]:
    """One of each pair of opposite edges, then the reverse of each, and who reverses whom."""
    earlier = edges.senders < edges.receivers
    loops = np.flatnonzero(edges.senders == edges.receivers)
    earlier[loops] = image_codes(edges.offsets[loops]) < 0
    half = edges.take(np.flatnonzero(earlier))
    both = half.mirrored()
    order = edge_order(both)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return both.take(order), place[(order + len(half)) % max(len(order), 1)]


def _split(
    n_node: np.ndarray, first: np.ndarray, tables: Sequence[Edges], swap: np.ndarray
) -> list[InteractionGraphs]:
    """The tables of many structures cut into one set of graphs for each."""
    cuts = [np.searchsorted(table.receivers, first) for table in tables]
    local = [_localized(table, first, cut) for table, cut in zip(tables, cuts, strict=True)]
    swap = (swap - np.repeat(cuts[0][:-1], np.diff(cuts[0]))).astype(np.int32)
    bounds = np.stack(cuts, axis=1).tolist()
    graphs = []
    for n, start, stop in zip(n_node.tolist(), bounds[:-1], bounds[1:], strict=True):
        a2a = _slice(local[1], start[1], stop[1])
        cut_edges = [a2a if stop[i] - start[i] == len(a2a) else None for i in range(5)]
        cut_edges[0] = None  # the main graph need not equal a2a even when it has as many edges
        main, a2a, a2ee2a, qint, main_directed = (
            edges if edges is not None else _slice(local[i], start[i], stop[i])
            for i, edges in enumerate(cut_edges)
        )
        swap_cut = swap[start[0] : stop[0]]
        graphs.append(
            InteractionGraphs(n, "gemnet_oc", main, swap_cut, a2a, a2ee2a, qint, main_directed)
        )
    return graphs


def _split_directed(n_node: np.ndarray, first: np.ndarray, table: Edges) -> list[InteractionGraphs]:
    """The nearest neighbours of many structures cut into the graphs of each."""
    cut = np.searchsorted(table.receivers, first)
    local = _localized(table, first, cut)
    empty, no_swap = _slice(local, 0, 0), np.zeros(0, dtype=np.int32)
    graphs = []
    for n, start, stop in zip(n_node.tolist(), cut[:-1].tolist(), cut[1:].tolist(), strict=True):
        main = _slice(local, start, stop)
        graphs.append(InteractionGraphs(n, "nearest", main, no_swap, empty, empty, empty, main))
    return graphs


def _localized(table: Edges, first: np.ndarray, cut: np.ndarray) -> tuple[np.ndarray, ...]:
    """Columns of a table over many structures, atoms numbered within each structure."""
    shift = np.repeat(first[:-1], np.diff(cut)).astype(np.int32)
    senders, receivers = table.senders - shift, table.receivers - shift
    return senders, receivers, table.offsets, table.vectors, table.distances


def _slice(columns: tuple[np.ndarray, ...], start: int, stop: int) -> Edges:
    return Edges(*(column[start:stop] for column in columns))
