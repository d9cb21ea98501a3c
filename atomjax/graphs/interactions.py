"""The interaction graphs of a structure: the four of GemNet-OC, or some of them.

The atom-to-atom graph (a2a) holds all edges within its cutoff, and the others draw from it: the
main graph, whose edges carry embeddings and all have a reverse, the atom-to-edge graph (a2ee2a) and
the quadruplet graph (qint). Source: Gasteiger et al., GemNet-OC, arXiv:2204.02782. Models with a
single graph (EquiformerV2, Liao et al., arXiv:2306.12059) read the main graph alone, directed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atomjax.graphs.config import KINDS, OTHERS, GraphConfig
from atomjax.graphs.neighbors import Edges, GraphError, find_edges, image_codes, is_small_molecule
from atomjax.structures.structure import Structure

# Bounds the memory of the vectorised search over molecules, 24 bytes of vector a pair.
_PAIRS_PER_BLOCK = 100_000


@dataclass(frozen=True)
class InteractionGraphs:
    """The graphs of one structure; each has its edges sorted by receiver, then by distance.

    Attributes:
        n_node: number of atoms.
        kind: ``GraphConfig.kind``. Graphs that it does not have are empty; where it is not
            symmetric, ``main`` is ``main_directed``, and ``swap`` is empty.
        main: main graph after symmetrisation: every edge is there with its reverse.
        swap: [E] int32 index of the reverse of each main edge.
        a2a: atom-to-atom graph.
        a2ee2a: atom-to-edge and edge-to-atom graph.
        qint: middle edges of the quadruplets.
        main_directed: main graph before symmetrisation.
    """

    n_node: int
    kind: str
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


def build_given(
    structure: Structure, config: GraphConfig, given: Mapping[str, Collection[tuple[int, ...]]]
) -> InteractionGraphs:
    """The graphs of one structure with given edges in place of those that limits leave.

    Args:
        structure: a ``Structure``.
        config: cutoffs, and how the main graph is made symmetric.
        given: graph ("main", the directed one, and the others of the kind) → edges (sender,
            receiver, three offsets), all within the graph's cutoff.

    Raises:
        GraphError: an edge is not there within the cutoffs.
    """
    cutoffs = config.cutoffs(periodic=bool(np.any(structure.pbc)))
    edges, reverse = find_edges([structure], max(cutoffs.values()))
    keys, masks = edge_keys(edges), {}
    for name in ("a2a", "main", "a2ee2a", "qint"):
        wanted = set(given[name])
        masks[name] = np.array([key in wanted for key in keys], dtype=bool)
        if masks[name].sum() < len(wanted):
            raise GraphError(
                f"{structure!r}: {len(wanted) - masks[name].sum()} given edges of graph {name!r} "
                f"are farther than {max(cutoffs.values())} Å; raise the cutoff"
            )
    return _assemble(config, edges, reverse, masks, np.array([0, len(structure.positions)]))[0]


def edge_keys(edges: Edges) -> list[tuple[int, ...]]:
    """(sender, receiver, three offsets) of each edge."""
    return [tuple(row) for row in np.c_[edges.senders, edges.receivers, edges.offsets].tolist()]


def _block_ends(structures: Sequence[Structure]) -> list[int]:
    """Block boundaries: runs of small molecules share a block, all others have their own."""
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
    first = np.cumsum([0, *(len(s.positions) for s in structures)])
    cutoffs = config.cutoffs(periodic=bool(np.any(structures[0].pbc)))
    # Every edge has its reverse here; each graph is a choice of these edges.
    edges, reverse = find_edges(structures, max(cutoffs.values()))
    present = np.ones(len(edges), dtype=bool)
    rank = _rank(edges, present)
    if "a2a" in cutoffs:
        present = _within_limit(edges, present, rank, config.max_neighbors_a2a, config)
    if rngs is not None and config.edge_dropout > 0:
        present &= _survivors(edges, reverse, present, first, config, rngs)
        rank = _rank(edges, present)

    def choose(graph: str, limit: int | None) -> np.ndarray:
        near = present & (edges.distances <= cutoffs[graph])
        return _within_limit(edges, near, rank, limit, config)

    # Slices are shared with a2a where they are the same, so that it comes first.
    masks = {"a2a": present} if "a2a" in cutoffs else {}
    masks["main"] = choose("main", config.max_neighbors)
    if "a2ee2a" in cutoffs:
        masks["a2ee2a"] = choose("a2ee2a", config.max_neighbors_a2ee2a)
    if "qint" in cutoffs:
        tags = np.concatenate([s.tags for s in structures])
        tagged = _with_tags(edges, tags, config.qint_tags)
        masks["qint"] = tagged & choose("qint", config.max_neighbors_qint)
    return _assemble(config, edges, reverse, masks, first)


def _assemble(
    config: GraphConfig,
    edges: Edges,
    reverse: np.ndarray,
    masks: Mapping[str, np.ndarray],
    first: np.ndarray,
) -> list[InteractionGraphs]:
    """The graphs of the chosen edges, the main one with its reverses where the kind has them.

    Args:
        config: kind, and rule of symmetrisation.
        edges: all edges.
        reverse: [E] place of the reverse of each.
        masks: graph → [E] chosen edges; "main" is directed. "a2a" comes first.
        first: [S + 1] first atom of each structure, and the number of atoms.
    """
    swap = np.zeros(0, dtype=np.int64)  # of a directed graph there is none
    if KINDS[config.kind].symmetric:
        both = _symmetric(edges, reverse, masks["main"], config)
        masks = {**masks, "main": both, "main_directed": masks["main"]}
        swap = (np.cumsum(both) - 1)[reverse[both]]
    tables = {name: _chosen(edges, mask) for name, mask in masks.items()}
    return _split(config.kind, first, tables, swap)


def _chosen(edges: Edges, mask: np.ndarray) -> Edges:
    return edges if mask.all() else edges.take(np.flatnonzero(mask))


def _rank(edges: Edges, present: np.ndarray) -> np.ndarray:
    """[E] place of each edge among those of its receiver that are present, nearest first."""
    index = np.flatnonzero(present)
    count = np.bincount(edges.receivers.take(index))
    rank = np.zeros(len(edges), dtype=np.int64)
    rank[index] = np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)
    return rank


def _within_limit(
    edges: Edges,
    candidates: np.ndarray,
    rank: np.ndarray,
    limit: int | None,
    config: GraphConfig,
) -> np.ndarray:
    """[E] which of the candidates, a ball around each receiver, are among its nearest."""
    if limit is None:
        return candidates
    if config.shells == "cut":
        return candidates & (rank < limit)
    # Distances decide and nothing else, so that no order of atoms or choice of cell does.
    keep = config.shells == "keep"
    at = np.flatnonzero(candidates & (rank == (limit - 1 if keep else limit)))
    tolerance = config.shell_tolerance if keep else -config.shell_tolerance
    farthest = np.full(int(edges.receivers.max(initial=0)) + 1, np.inf)
    farthest[edges.receivers.take(at)] = edges.distances.take(at) + tolerance
    return candidates & (edges.distances <= farthest.take(edges.receivers))


def _survivors(
    edges: Edges,
    reverse: np.ndarray,
    present: np.ndarray,
    first: np.ndarray,
    config: GraphConfig,
    rngs: Sequence[np.random.Generator],
) -> np.ndarray:
    """[E] which edges are left by the dropout."""
    index = np.flatnonzero(present)
    n_edge = np.diff(np.searchsorted(edges.receivers.take(index), first))
    draws = np.zeros(len(edges))
    draws[index] = np.concatenate([rng.random(n) for rng, n in zip(rngs, n_edge, strict=True)])
    if KINDS[config.kind].symmetric and config.symmetrization != "index":
        # A union of independent draws would hardly drop a pair, an intersection twice as many.
        one = np.minimum(np.arange(len(edges)), reverse)
        draws = np.where(present[one], draws[one], draws)
    return draws >= config.edge_dropout


def _with_tags(edges: Edges, tags: np.ndarray, wanted: tuple[int, ...]) -> np.ndarray:
    """[E] which edges have an end with one of the tags."""
    chosen = np.isin(tags, wanted)
    return chosen[edges.senders] | chosen[edges.receivers]


def _symmetric(
    edges: Edges, reverse: np.ndarray, directed: np.ndarray, config: GraphConfig
) -> np.ndarray:
    """[E] the chosen edges, with the reverse of each or without those that lack it."""
    if config.symmetrization == "union":
        return directed | directed[reverse]
    if config.symmetrization == "intersection":
        return directed & directed[reverse]
    earlier = edges.senders < edges.receivers
    loops = np.flatnonzero(edges.senders == edges.receivers)
    earlier[loops] = image_codes(edges.offsets[loops]) < 0
    earlier &= directed
    return earlier | earlier[reverse]


def _split(
    kind: str,
    first: np.ndarray,
    tables: Mapping[str, Edges],
    swap: np.ndarray,
) -> list[InteractionGraphs]:
    """The tables of many structures cut into one set of graphs for each."""
    cuts = {name: np.searchsorted(table.receivers, first) for name, table in tables.items()}
    local = {name: _localized(table, first, cuts[name]) for name, table in tables.items()}
    main = cuts["main"]
    swap = (swap - np.repeat(main[:-1], np.diff(main))[: len(swap)]).astype(np.int32)
    bounds = {name: cut.tolist() for name, cut in cuts.items()}
    absent: dict[str, Edges] = dict.fromkeys(OTHERS, _slice(local["main"], 0, 0))
    graphs = []
    for i, n in enumerate(np.diff(first).tolist()):
        own, a2a = absent.copy(), None
        for name, table in tables.items():
            start, stop = bounds[name][i : i + 2]
            # As many edges as a2a has are those of a2a; the main graph may have others.
            if a2a is not None and (
                table is tables["a2a"] or (name != "main" and stop - start == len(a2a))
            ):
                own[name] = a2a
            else:
                own[name] = _slice(local[name], start, stop)
            a2a = own["a2a"] if name == "a2a" else a2a
        own.setdefault("main_directed", own["main"])
        cut_swap = swap[slice(*bounds["main"][i : i + 2])]
        graphs.append(InteractionGraphs(n_node=n, kind=kind, swap=cut_swap, **own))
    return graphs


def _localized(table: Edges, first: np.ndarray, cut: np.ndarray) -> tuple[np.ndarray, ...]:
    """Columns of a table over many structures, atoms numbered within each structure."""
    shift = np.repeat(first[:-1], np.diff(cut)).astype(np.int32)
    senders, receivers = table.senders - shift, table.receivers - shift
    return senders, receivers, table.offsets, table.vectors, table.distances


def _slice(columns: tuple[np.ndarray, ...], start: int, stop: int) -> Edges:
    return Edges(*(column[start:stop] for column in columns))
