"""Structures and their graphs → one padded ``GraphBatch`` of numpy arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jraph
import numpy as np
from numpy.typing import DTypeLike

from atomjax.graphs.batch import (
    AtomToAtomGraph,
    AtomToEdgeGraph,
    GraphBatch,
    Leaf,
    QuadrupletGraph,
    Slots,
    Targets,
)
from atomjax.graphs.capacity import Capacity, Sizes, check_fits, fit_capacity
from atomjax.graphs.config import KINDS, GraphConfig
from atomjax.graphs.interactions import InteractionGraphs, build_many
from atomjax.graphs.neighbors import image_codes
from atomjax.graphs.tiers import make_tiers
from atomjax.structures.properties import TargetScale
from atomjax.structures.references import References
from atomjax.structures.structure import Structure


@dataclass(frozen=True)
class Labels:
    """Labels of one structure, in the units that the model is trained on.

    Attributes:
        energy: scaled energy, or None.
        forces: [N, 3] scaled forces, or None.
        properties: scaled properties by name, those that the structure has.
        dataset: index of the structure's data set.
        index: index of the structure in its data set.
        stress: [3, 3] scaled stress, or None.
        fixed_atoms: whether the forces of atoms that are held fixed count.
    """

    energy: float | None = None
    forces: np.ndarray | None = None
    properties: Mapping[str, float] = field(default_factory=dict)
    dataset: int = 0
    index: int = 0
    stress: np.ndarray | None = None
    fixed_atoms: bool = False


def read_labels(
    structure: Structure,
    *,
    references: References | None = None,
    scales: Sequence[TargetScale] = (),
    dataset: int = 0,
    index: int = 0,
) -> Labels:
    """The labels of a structure in training units.

    Args:
        structure: the structure.
        references: offsets and scales of energies and forces; None leaves labels as they are.
        scales: the properties to read, with offset and scale of each.
        dataset: index of the structure's data set.
        index: index of the structure in its data set.

    Raises:
        ReferencesError: an element without a reference, or none of the properties is there, where
            there are no references of energies either.
    """
    energy, forces, stress = structure.energy, structure.forces, structure.stress
    if references is not None:
        energy = None if energy is None else references.normalize_energy(structure)
        forces = None if forces is None else references.normalize_forces(structure)
        stress = None if stress is None else references.normalize_stress(structure)
    held = [scale for scale in scales if scale.name in structure.targets]
    # Some may be missing; a structure without any label is a mistake, which the first one names.
    wanted = held or (scales[:1] if references is None else ())
    properties = {scale.name: scale.normalize(structure) for scale in wanted}
    return Labels(energy, forces, properties, dataset, index, stress)


def pack(
    graphs: Sequence[InteractionGraphs],
    structures: Sequence[Structure],
    capacity: Capacity,
    *,
    labels: Sequence[Labels] | None = None,
    property_names: Sequence[str] = (),
    stress: bool = False,
    dtype: DTypeLike = np.float32,
    kind: str | None = None,
) -> GraphBatch:
    """Pack structures into one batch of static shape.

    Args:
        graphs: interaction graphs of the structures.
        structures: the structures, none for a batch of padding.
        capacity: the shape.
        labels: labels of the structures; by default their own energies and forces, unscaled.
        property_names: properties of the batch; zero and masked for structures without them.
        stress: whether stresses are among the targets.
        dtype: float type of the result.
        kind: kind of the graphs; by default the first one's, for padding alone ``GraphConfig``'s.

    Returns:
        A batch whose leaves are numpy arrays.

    Raises:
        CapacityError: the structures exceed the shape; names the field to raise.
        ValueError: the graphs are not all of one kind.
    """
    kind = _kind(graphs, kind)
    check_fits(Sizes.measure(graphs), capacity, [s.identifier for s in structures])
    labels = labels or [read_labels(s, index=i) for i, s in enumerate(structures)]
    n_node = np.array([g.n_node for g in graphs], dtype=np.int64)
    first = np.cumsum(n_node) - n_node
    graph, slots, senders = _main_graph(graphs, structures, first, capacity, dtype)
    make = {"a2ee2a": _atom_to_edge, "a2a": _atom_to_atom, "qint": _quadruplets}
    others = {name: make[name](graphs, first, capacity, dtype) for name in KINDS[kind].others}
    swap = reverse = tiers = None
    if KINDS[kind].symmetric:
        swap = _swap(graphs, capacity)
        tiers = make_tiers(slots, others.get("a2ee2a"), capacity)
    else:
        edges = np.arange(len(senders))
        reverse = _reverse(senders, edges, capacity.n_node, capacity.readers, capacity.n_edge)
    structure_of_atom = np.repeat(np.arange(len(graphs)), n_node)
    atoms = _slots(structure_of_atom, capacity.n_graph, capacity.max_atoms, capacity.n_node)
    return GraphBatch(
        graph=graph,
        slots=slots,
        swap=swap,
        reverse=reverse,
        atoms=atoms,
        node_graph=_padded(structure_of_atom, capacity.n_node, capacity.n_graph - 1),
        a2ee2a=others.get("a2ee2a"),
        a2a=others.get("a2a"),
        quadruplets=others.get("qint"),
        targets=_targets(structures, labels, property_names, capacity, dtype, stress),
        tiers=tiers,
    )


def pack_structures(
    structures: Sequence[Structure],
    config: GraphConfig | None = None,
    capacity: Capacity | None = None,
    dtype: DTypeLike = np.float32,
    slack: int = 0,
) -> GraphBatch:
    """Build the graphs of a few structures and pack them into one batch.

    Args:
        structures: the structures.
        config: cutoffs and neighbour limits; the defaults if None.
        capacity: the shape; fitted to these structures if None.
        dtype: float type of the result.
        slack: by how much more than needed to pad every field of a fitted capacity.

    Raises:
        CapacityError: the structures exceed the shape.
        GraphError: a graph cannot be built.
    """
    config = GraphConfig() if config is None else config
    graphs = build_many(structures, config)
    if capacity is None:
        together = Sizes.measure(graphs).needs([np.arange(len(graphs))])
        capacity = fit_capacity(together).enlarged(slack)
    return pack(graphs, structures, capacity, dtype=dtype, kind=config.kind)


def _kind(graphs: Sequence[InteractionGraphs], kind: str | None) -> str:
    """The kind of all graphs of a batch."""
    kind = kind or (graphs[0].kind if graphs else GraphConfig.kind)
    others = {g.kind for g in graphs} - {kind}
    if others:
        raise ValueError(
            f"a batch of graphs of kind {kind!r} cannot hold graphs of kind {others.pop()!r}; "
            "give the data sets of a run the same GraphConfig.kind"
        )
    return kind


@dataclass(frozen=True)
class _Table:
    """The edges of one graph of all structures of a batch, atoms numbered through the batch."""

    senders: np.ndarray
    receivers: np.ndarray
    vectors: np.ndarray
    n_edge: np.ndarray


def _table(
    graphs: Sequence[InteractionGraphs], first: np.ndarray, name: str, dtype: DTypeLike
) -> _Table:
    edges = [getattr(g, name) for g in graphs]
    n_edge = np.array([len(e) for e in edges], dtype=np.int64)
    shift = np.repeat(first.astype(np.int32), n_edge)
    none = np.zeros(0, dtype=np.int32)
    vectors = [np.zeros((0, 3)), *(e.vectors for e in edges)]
    return _Table(
        np.concatenate([none, *(e.senders for e in edges)]) + shift,
        np.concatenate([none, *(e.receivers for e in edges)]) + shift,
        np.concatenate(vectors, dtype=dtype, casting="same_kind"),
        n_edge,
    )


def _images(graphs: Sequence[InteractionGraphs], name: str) -> np.ndarray:
    """Image codes of the edges of one graph of all structures."""
    none = np.zeros((0, 3), dtype=np.int32)
    return image_codes(np.concatenate([none, *(getattr(g, name).offsets for g in graphs)]))


def _padded(values: np.ndarray, length: int, fill: float, dtype: DTypeLike = np.int32) -> Leaf:
    """``values`` followed by ``fill`` up to ``length`` rows."""
    padded = np.full((length, *values.shape[1:]), fill, dtype=dtype)
    padded[: len(values)] = values
    return padded


def _dense(
    places: np.ndarray, values: np.ndarray, shape: tuple[int, ...], fill: float, dtype: DTypeLike
) -> Leaf:
    """``values`` written to flat ``places`` of an array whose leading two axes are slots."""
    array = np.full((shape[0] * shape[1], *shape[2:]), fill, dtype=dtype)
    array[places] = values
    return array.reshape(shape)


def _places(owners: np.ndarray, n_owner: int, width: int) -> np.ndarray:
    """Flat slot ``owner * width + k`` of each row, given the sorted owners of the rows."""
    count = np.bincount(owners, minlength=n_owner)
    rank = np.arange(len(owners)) - np.repeat(np.cumsum(count) - count, count)
    return owners * width + rank


def _slots(owners: np.ndarray, n_owner: int, width: int, n_row: int) -> Slots:
    """Slots of rows at their sorted owners; rows beyond ``owners`` are padding."""
    places = _places(owners, n_owner, width)
    return Slots(
        index=_dense(places, np.arange(len(owners)), (n_owner, width), n_row, np.int32),
        position=_padded(places, n_row, n_owner * width),
    )


def _reverse(read: np.ndarray, readers: np.ndarray, n_read: int, width: int, nothing: int) -> Leaf:
    """[n_read, width] the ``readers`` of each row, given the row that each of them reads."""
    # Sorting 16-bit numbers takes linear time.
    compact = read.astype(np.uint16) if n_read <= 2**16 else read
    order = np.argsort(compact, kind="stable")
    places = _places(read.take(order), n_read, width)
    return _dense(places, readers.take(order), (n_read, width), nothing, np.int32)


def _main_graph(
    graphs: Sequence[InteractionGraphs],
    structures: Sequence[Structure],
    first: np.ndarray,
    capacity: Capacity,
    dtype: DTypeLike,
) -> tuple[jraph.GraphsTuple, Slots, np.ndarray]:
    """The main graph, its slots, and the senders of the real edges."""
    table = _table(graphs, first, "main", dtype)
    n, e, g = capacity.n_node, capacity.n_edge, capacity.n_graph
    n_node = _padded(np.array([graph.n_node for graph in graphs], dtype=np.int64), g, 0)
    n_edge = _padded(table.n_edge, g, 0)
    n_node[-1], n_edge[-1] = n - n_node.sum(), e - n_edge.sum()
    none = np.zeros(0, dtype=np.int32)
    atomic_numbers = np.concatenate([none, *(s.atomic_numbers for s in structures)])
    tags = np.concatenate([none, *(s.tags for s in structures)])
    positions = np.concatenate([np.zeros((0, 3)), *(s.positions for s in structures)])
    cells = np.array([s.cell for s in structures], dtype=np.float64).reshape(-1, 3, 3)
    graph = jraph.GraphsTuple(
        nodes={
            "atomic_numbers": _padded(atomic_numbers, n, 0),
            "tags": _padded(tags, n, 0),
            "positions": _padded(positions, n, 0, dtype),
        },
        edges={
            "vector": _padded(table.vectors, e, 0, dtype),
            "image": _padded(_images(graphs, "main"), e, 0),
        },
        senders=_padded(table.senders, e, n - 1),
        receivers=_padded(table.receivers, e, n - 1),
        n_node=n_node,
        n_edge=n_edge,
        globals={"cell": _padded(cells, g, 0, dtype)},
    )
    return graph, _slots(table.receivers, n, capacity.max_neighbors, e), table.senders


def _swap(graphs: Sequence[InteractionGraphs], capacity: Capacity) -> Leaf:
    """[E] the reverse of each main edge of the batch."""
    n_edge = np.array([len(graph.main) for graph in graphs], dtype=np.int64)
    local = np.concatenate([np.zeros(0, np.int32), *(graph.swap for graph in graphs)])
    swap = np.arange(capacity.n_edge, dtype=np.int32)
    swap[: len(local)] = local + np.repeat(np.cumsum(n_edge) - n_edge, n_edge)
    return swap


def _atom_to_edge(
    graphs: Sequence[InteractionGraphs], first: np.ndarray, capacity: Capacity, dtype: DTypeLike
) -> AtomToEdgeGraph:
    table = _table(graphs, first, "a2ee2a", dtype)
    n, a = capacity.n_node, capacity.n_edge_a2ee2a
    edges = np.arange(len(table.senders))
    return AtomToEdgeGraph(
        senders=_padded(table.senders, a, n - 1),
        vector=_padded(table.vectors, a, 0, dtype),
        image=_padded(_images(graphs, "a2ee2a"), a, 0),
        slots=_slots(table.receivers, n, capacity.max_a2ee2a, a),
        reverse=_reverse(table.senders, edges, n, capacity.readers_a2ee2a, a),
    )


def _atom_to_atom(
    graphs: Sequence[InteractionGraphs], first: np.ndarray, capacity: Capacity, dtype: DTypeLike
) -> AtomToAtomGraph:
    table = _table(graphs, first, "a2a", dtype)
    n, p = capacity.n_node, capacity.max_a2a
    places = _places(table.receivers, n, p)
    return AtomToAtomGraph(
        senders=_dense(places, table.senders, (n, p), n, np.int32),
        vector=_dense(places, table.vectors, (n, p, 3), 0, dtype),
        reverse=_reverse(table.senders, places, n, capacity.readers_a2a, n * p),
    )


def _quadruplets(
    graphs: Sequence[InteractionGraphs], first: np.ndarray, capacity: Capacity, dtype: DTypeLike
) -> QuadrupletGraph:
    table = _table(graphs, first, "qint", dtype)
    n, q, b = capacity.n_node, capacity.n_quad, capacity.max_quad
    atom = np.flatnonzero(np.bincount(table.receivers, minlength=n))
    inverse: Leaf = np.full(n, q, dtype=np.int32)
    inverse[atom] = np.arange(len(atom))
    places = _places(inverse.take(table.receivers).astype(np.int64), q, b)
    return QuadrupletGraph(
        atom=_padded(atom, q, n),
        inverse=inverse,
        senders=_dense(places, table.senders, (q, b), n, np.int32),
        vector=_dense(places, table.vectors, (q, b, 3), 0, dtype),
        image=_dense(places, _images(graphs, "qint"), (q, b), 0, np.int32),
        reverse=_reverse(table.senders, places, n, capacity.readers_quad, q * b),
    )


def _targets(
    structures: Sequence[Structure],
    labels: Sequence[Labels],
    property_names: Sequence[str],
    capacity: Capacity,
    dtype: DTypeLike,
    stress: bool,
) -> Targets:
    g, n = capacity.n_graph, capacity.n_node
    energy = np.array([0.0 if x.energy is None else x.energy for x in labels])
    has_energy = np.array([x.energy is not None for x in labels], dtype=bool)
    forces = [
        np.zeros((len(s.positions), 3)) if x.forces is None else x.forces
        for s, x in zip(structures, labels, strict=True)
    ]
    counts = [
        np.zeros(len(s.positions), dtype=bool) if x.forces is None else ~s.fixed | x.fixed_atoms
        for s, x in zip(structures, labels, strict=True)
    ]
    properties, property_masks = {}, {}
    for name in property_names:
        values = np.array([x.properties.get(name, 0.0) for x in labels])
        given = np.array([name in x.properties for x in labels], dtype=bool)
        properties[name] = _padded(values, g, 0, dtype)
        property_masks[name] = _padded(given, g, False, np.bool_)
    return Targets(
        energy=_padded(energy, g, 0, dtype),
        energy_mask=_padded(has_energy, g, False, np.bool_),
        forces=_padded(np.concatenate([np.zeros((0, 3)), *forces]), n, 0, dtype),
        force_mask=_padded(np.concatenate([np.zeros(0, bool), *counts]), n, False, np.bool_),
        properties=properties,
        property_masks=property_masks,
        dataset=_padded(np.array([x.dataset for x in labels], dtype=np.int64), g, 0),
        structure=_padded(np.array([x.index for x in labels], dtype=np.int64), g, -1),
        **(_stresses(labels, g, dtype) if stress else {}),
    )


def _stresses(labels: Sequence[Labels], n_graph: int, dtype: DTypeLike) -> dict[str, Leaf]:
    """Stresses and which structures have one, as fields of the targets."""
    none = np.zeros((3, 3))
    values = np.array([none if x.stress is None else x.stress for x in labels]).reshape(-1, 3, 3)
    given = np.array([x.stress is not None for x in labels], dtype=bool)
    return {
        "stress": _padded(values, n_graph, 0, dtype),
        "stress_mask": _padded(given, n_graph, False, np.bool_),
    }
