from dataclasses import replace
from typing import Any

import jax
import jraph
import numpy as np
import pytest

from atomjax.graphs.capacity import CapacityError, Sizes, fit_capacity, in_one_tier
from atomjax.graphs.interactions import GraphConfig, build_many
from atomjax.graphs.packing import Labels, pack, pack_structures, read_labels
from atomjax.graphs.tiers import tier_shapes
from atomjax.structures import PropertyScale, References, Structure

CONFIG = GraphConfig(max_neighbors=8, max_neighbors_a2ee2a=6, max_neighbors_qint=3)


@pytest.fixture
def structures(molecule, slab):
    """One, two and three atoms, atoms apart, a molecule and a slab: all odd cases together."""
    apart = Structure(atomic_numbers=[1, 8], positions=[[0, 0, 0], [0, 0, 30.0]], tags=[0, 0])
    return [molecule(1), molecule(9), slab(), apart, molecule(2), molecule(3), molecule(14)]


@pytest.fixture
def graphs(structures):
    return build_many(structures, CONFIG)


@pytest.fixture
def batch(structures):
    return pack_structures(structures, CONFIG, slack=3, dtype=np.float64)


def first_atoms(structures) -> np.ndarray:
    return np.cumsum([0, *(len(s) for s in structures)])


def edge_set(senders, receivers, vectors) -> set:
    rows = zip(senders.tolist(), receivers.tolist(), vectors.round(9).tolist(), strict=True)
    return {(s, t, tuple(v)) for s, t, v in rows}


def expected_edges(structures, graphs, name: str) -> set:
    rows = set()
    for first, g in zip(first_atoms(structures)[:-1], graphs, strict=True):
        edges = getattr(g, name)
        rows |= edge_set(edges.senders + first, edges.receivers + first, edges.vectors)
    return rows


def assert_transposed(index: np.ndarray, reverse: np.ndarray, n_row: int):
    """``reverse`` sums what ``index`` reads back into the rows, as a scatter-add would."""
    y = np.random.default_rng(0).normal(size=index.size)
    scattered = np.zeros(n_row + 1)
    np.add.at(scattered, np.minimum(index.ravel(), n_row), y)
    gathered = np.append(y, 0.0)[np.minimum(reverse, index.size)].sum(axis=1)
    np.testing.assert_allclose(gathered, scattered[:n_row], atol=1e-12)
    used = reverse[reverse < index.size]
    assert len(np.unique(used)) == len(used)


def test_leaves_are_numpy_arrays_of_the_wanted_types(structures):
    for dtype in (np.float32, np.float64):
        leaves = jax.tree.leaves(pack_structures(structures, CONFIG, dtype=dtype))
        assert all(isinstance(leaf, np.ndarray) for leaf in leaves)
        assert {leaf.dtype for leaf in leaves} == {np.dtype(t) for t in (dtype, np.int32, bool)}


def test_nodes_follow_the_jraph_convention(structures, batch):
    graph = batch.graph
    n_atom, n = sum(map(len, structures)), len(batch.node_graph)
    assert graph.n_node.sum() == n > n_atom
    assert graph.n_edge.sum() == len(graph.senders)
    assert graph.n_node.tolist()[:7] == [len(s) for s in structures]
    assert graph.n_node[-1] == n - n_atom
    np.testing.assert_array_equal(
        graph.nodes["positions"][:n_atom], np.concatenate([s.positions for s in structures])
    )
    np.testing.assert_array_equal(batch.node_mask, np.arange(n) < n_atom)
    np.testing.assert_array_equal(batch.node_graph, np.repeat(np.arange(11), graph.n_node))
    assert int(jraph.get_number_of_padding_with_graphs_nodes(graph)) == n - n_atom
    np.testing.assert_array_equal(graph.globals["cell"][2], structures[2].cell)
    np.testing.assert_array_equal(graph.nodes["tags"][:n_atom][-1], 2)


def test_main_edges_slots_and_swap(structures, graphs, batch):
    graph, n = batch.graph, len(batch.node_graph)
    real = np.asarray(batch.edge_mask)
    assert real.sum() == sum(len(g.main) for g in graphs)
    vectors = graph.edges["vector"]
    ours = edge_set(graph.senders[real], graph.receivers[real], vectors[real])
    assert ours == expected_edges(structures, graphs, "main")
    assert (graph.senders[~real] == n - 1).all()
    assert (graph.receivers[~real] == n - 1).all()
    assert (np.diff(graph.receivers) >= 0).all()
    swap = batch.swap
    np.testing.assert_array_equal(swap[swap], np.arange(len(swap)))
    np.testing.assert_array_equal(graph.senders[swap], graph.receivers)
    np.testing.assert_array_equal(vectors[swap], -vectors)
    np.testing.assert_array_equal(graph.edges["image"][swap], -graph.edges["image"])
    assert (swap[~real] == np.flatnonzero(~real)).all()


@pytest.mark.parametrize("which", ["main", "a2ee2a", "atoms"])
def test_slots_round_trip(structures, batch, which):
    slots, owners, n_real = {
        "main": (batch.slots, batch.graph.receivers, int(batch.edge_mask.sum())),
        "a2ee2a": (batch.a2ee2a.slots, None, int((batch.a2ee2a.slots.position < 10**9).sum())),
        "atoms": (batch.atoms, batch.node_graph, sum(map(len, structures))),
    }[which]
    n_row, n_slot = len(slots.position), slots.index.size
    filled = np.flatnonzero(slots.position < n_slot)
    if which != "a2ee2a":
        assert len(filled) == n_real
        np.testing.assert_array_equal(
            slots.position[filled] // slots.index.shape[1], owners[filled]
        )
    np.testing.assert_array_equal(slots.index.ravel()[slots.position[filled]], filled)
    assert (slots.index < n_row).sum() == len(filled)
    assert set(slots.index[slots.index >= n_row].tolist()) <= {n_row}
    assert set(slots.position.tolist()) - set(slots.position[filled].tolist()) <= {n_slot}
    first_empty = (slots.index < n_row).sum(axis=1)
    for owner, stop in zip(slots.index, first_empty, strict=True):
        assert (owner[:stop] < n_row).all()  # occupied slots come first


def test_atom_to_edge_graph(structures, graphs, batch):
    part, n = batch.a2ee2a, len(batch.node_graph)
    width = part.slots.index.shape[1]
    real = part.slots.position < part.slots.index.size
    receivers = part.slots.position[real] // width
    ours = edge_set(part.senders[real], receivers, part.vector[real])
    assert ours == expected_edges(structures, graphs, "a2ee2a")
    assert (part.senders[~real] == n - 1).all()
    assert_transposed(np.where(real, part.senders, n), part.reverse, n)


def test_atom_to_atom_graph(structures, graphs, batch):
    part, n = batch.a2a, len(batch.node_graph)
    receivers, slots = np.nonzero(part.senders < n)
    ours = edge_set(part.senders[receivers, slots], receivers, part.vector[receivers, slots])
    assert ours == expected_edges(structures, graphs, "a2a")
    assert (part.vector[part.senders == n] == 0).all()
    assert part.senders.max() == n
    assert_transposed(part.senders, part.reverse, n)


def test_quadruplet_graph(structures, graphs, batch):
    part, n = batch.quadruplets, len(batch.node_graph)
    rows, slots = np.nonzero(part.senders < n)
    ours = edge_set(part.senders[rows, slots], part.atom[rows], part.vector[rows, slots])
    assert ours == expected_edges(structures, graphs, "qint")
    used = np.flatnonzero(part.atom < n)
    assert (part.senders[used] < n).any(axis=1).all()
    np.testing.assert_array_equal(part.inverse[part.atom[used]], used)
    assert (np.delete(part.inverse, part.atom[used]) == len(part.atom)).all()
    assert (part.atom[len(used) :] == n).all()
    assert_transposed(part.senders, part.reverse, n)


def test_image_codes_agree_between_graphs(structures, graphs, batch):
    codes = {}
    real = np.asarray(batch.edge_mask)
    graph = batch.graph
    for s, t, v, code in zip(
        graph.senders[real],
        graph.receivers[real],
        graph.edges["vector"][real].round(9),
        graph.edges["image"][real],
        strict=True,
    ):
        codes[s, t, *v] = code
    part = batch.quadruplets
    shared = 0
    for q, b in np.argwhere(part.senders < len(batch.node_graph)):
        key = (part.senders[q, b], part.atom[q], *part.vector[q, b].round(9))
        if key in codes:
            shared += 1
            assert part.image[q, b] == codes[key]
    assert shared > 20
    assert len(set(codes.values())) > 5


def test_targets_and_masks(molecule, slab):
    structures = [
        slab(),
        molecule(4, energy=None),
        molecule(5, forces=None),
        molecule(6, fixed=[True, False, False, False, False, True]),
    ]
    targets = pack_structures(structures, CONFIG, slack=2, dtype=np.float64).targets
    assert targets.energy_mask.tolist() == [True, False, True, True, False, False, False]
    assert targets.energy[0] == -1.0
    assert targets.energy[[1, 4, 5, 6]].tolist() == [0.0] * 4
    assert targets.structure.tolist() == [0, 1, 2, 3, -1, -1, -1]
    free = ~structures[0].fixed
    assert 0 < free.sum() < len(free)
    expected = [*free, *[True] * 4, *[False] * 5, False, *[True] * 4, False]
    assert targets.force_mask.tolist() == expected + [False] * 3
    np.testing.assert_array_equal(targets.forces[:12], structures[0].forces)
    assert (targets.forces[16:21] == 0).all()


def test_forces_of_fixed_atoms_count_where_the_labels_say_so(molecule):
    structures = [
        molecule(3, fixed=[True, False, True]),
        molecule(2, forces=None, fixed=[True] * 2),
    ]
    graphs = build_many(structures, CONFIG)
    labels = [replace(read_labels(s), fixed_atoms=True) for s in structures]
    capacity = fit_capacity(Sizes.measure(graphs).needs([np.arange(2)]))
    targets = pack(graphs, structures, capacity, labels=labels).targets
    assert targets.force_mask.tolist()[:5] == [True] * 3 + [False] * 2


def test_labels_are_normalised_and_named(molecule):
    structures = [molecule(5, seed=i, targets={"gap": float(i), "other": 1.0}) for i in range(6)]
    references = References.fit(structures)
    scale = PropertyScale.fit(structures, "gap")
    labels = [
        read_labels(s, references=references, scales=[scale], dataset=3, index=i + 10)
        for i, s in enumerate(structures)
    ]
    graphs = build_many(structures, CONFIG)
    capacity = fit_capacity(Sizes.measure(graphs).needs([np.arange(6)]))
    targets = pack(
        graphs,
        structures,
        capacity,
        labels=labels,
        property_names=("gap", "absent"),
        dtype=np.float64,
    ).targets
    assert targets.dataset.tolist() == [3] * 6 + [0]
    assert targets.structure.tolist() == [10, 11, 12, 13, 14, 15, -1]
    assert targets.energy[2] == pytest.approx(references.normalize_energy(structures[2]))
    np.testing.assert_allclose(
        targets.forces[:5], structures[0].forces / references.force_scale, rtol=1e-12
    )
    assert set(targets.properties) == {"gap", "absent"}
    assert targets.properties["gap"][:6].mean() == pytest.approx(0.0, abs=1e-12)
    assert targets.properties["gap"][:6].std() == pytest.approx(1.0)
    assert (targets.properties["absent"] == 0).all()
    assert Labels().energy is None


def test_a_batch_of_padding_only(structures, batch):
    capacity = fit_capacity(Sizes.measure(build_many(structures, CONFIG)).needs([np.arange(7)]))
    empty: Any = pack([], [], capacity.enlarged(3), dtype=np.float64)
    assert jax.tree.map(np.shape, empty) == jax.tree.map(np.shape, batch)
    n = len(empty.node_graph)
    for mask in (empty.node_mask, empty.edge_mask, empty.graph_mask):
        assert not np.asarray(mask).any()
    assert empty.graph.n_node.tolist() == [0] * 10 + [n]
    assert (empty.quadruplets.inverse == len(empty.quadruplets.atom)).all()
    assert (empty.a2a.senders == n).all()
    assert (empty.a2ee2a.reverse == len(empty.a2ee2a.senders)).all()
    smallest = pack_structures([])
    assert smallest.graph.n_node.tolist() == [0, 2]


def test_one_atom_alone(molecule):
    batch = pack_structures([molecule(1)])
    assert np.asarray(batch.node_mask).tolist() == [True, False]
    assert not np.asarray(batch.edge_mask).any()
    assert batch.targets.energy_mask.tolist() == [True, False]


def test_large_coordinates_cost_no_precision(molecule):
    structure = molecule(8)
    shifted = Structure(
        atomic_numbers=structure.atomic_numbers, positions=structure.positions + 2.0**20
    )
    batches: list[Any] = [pack_structures([s]) for s in (structure, shifted)]
    here, there = (batch.graph.edges["vector"] for batch in batches)
    np.testing.assert_allclose(here, there, atol=1e-6)


def test_overflow_names_structure_and_field(structures, graphs):
    capacity = fit_capacity(Sizes.measure(graphs).needs([np.arange(7)]))
    with pytest.raises(CapacityError, match=r"slab.*raise Capacity\.max_a2a from 12"):
        pack(graphs, structures, replace(capacity, max_a2a=12))
    pack(graphs, structures, capacity)


def test_tiers_hold_each_edge_in_a_slot_of_its_receiver(uneven):
    batch = pack_structures([uneven], GraphConfig(cutoff=4.0), slack=3)
    tiers, n = batch.tiers, len(batch.node_graph)
    np.testing.assert_array_equal(tiers.atoms[tiers.place], np.arange(n))
    for tiered, slots in ((tiers.main, batch.slots), (tiers.a2ee2a, batch.a2ee2a.slots)):
        narrow, wide = tiered.index
        assert len(narrow) + len(wide) == n
        assert narrow.shape[1] < wide.shape[1] == slots.index.shape[1]
        assert narrow.size + wide.size < 0.7 * slots.index.size
        flat = np.concatenate([narrow.ravel(), wide.ravel()])
        real = np.flatnonzero(slots.position < slots.index.size)
        np.testing.assert_array_equal(flat[tiered.position[real]], real)
        assert (flat < len(slots.position)).sum() == len(real)
        assert set(np.delete(tiered.position, real).tolist()) <= {flat.size}
        widths = np.repeat([narrow.shape[1], wide.shape[1]], [len(narrow), len(wide)])
        owners = np.repeat(tiers.atoms, widths)
        receivers = slots.position[real] // slots.index.shape[1]
        np.testing.assert_array_equal(owners[tiered.position[real]], receivers)


def test_one_tier_where_two_would_save_little(structures, batch, uneven):
    assert [len(slots.index) for slots in (batch.tiers.main, batch.tiers.a2ee2a)] == [1, 1]
    np.testing.assert_array_equal(batch.tiers.main.index[0], batch.slots.index)
    sizes = Sizes.measure(build_many([uneven], GraphConfig(cutoff=4.0)))
    assert len(tier_shapes(fit_capacity(sizes.table))) == 2
    assert len(tier_shapes(fit_capacity(in_one_tier(sizes.table)))) == 1
    assert sizes.column("over_8")[0] == 27
    assert pack_structures([structures[1]], GraphConfig(kind="nearest")).tiers is None
