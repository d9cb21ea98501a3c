"""The directed graph of nearest neighbours, from structures to batches."""

import dataclasses

import jax
import numpy as np
import pytest

from atomjax.batching import BatchLoader, GraphDataset
from atomjax.graphs import GraphConfig, Sizes, build_interactions, build_many, pack, pack_structures
from atomjax.graphs.capacity import fit_capacity
from atomjax.graphs.config import KINDS, GraphKind
from atomjax.models.equiformer_v2 import published_graph

CONFIG = dataclasses.replace(published_graph(6.0, 5), cutoff_molecule=12.0)


def test_every_receiver_has_its_nearest(molecule, slab):
    for structure in (molecule(9), slab()):
        graphs = build_interactions(structure, CONFIG)
        full = build_interactions(structure, GraphConfig(cutoff=6.0, cutoff_molecule=12.0)).a2a
        assert graphs.main is graphs.main_directed
        assert len(graphs.swap) == len(graphs.a2a) == len(graphs.a2ee2a) == len(graphs.qint) == 0
        for atom in range(len(structure)):
            ours = graphs.main.distances[graphs.main.receivers == atom]
            every = np.sort(full.distances[full.receivers == atom])
            np.testing.assert_allclose(ours, every[:5])
    # Directed: not every edge has a reverse.
    pairs = set(zip(graphs.main.senders, graphs.main.receivers, strict=True))
    assert any((t, s) not in pairs for s, t in pairs)


def test_many_structures_give_what_each_gives_alone(molecule, slab):
    structures = [molecule(4), molecule(7, seed=1), slab(), molecule(1)]
    for graphs, structure in zip(build_many(structures, CONFIG), structures, strict=True):
        alone = build_interactions(structure, CONFIG)
        for name in ("senders", "receivers", "offsets", "vectors"):
            np.testing.assert_array_equal(getattr(graphs.main, name), getattr(alone.main, name))


def test_batches_hold_one_graph_with_a_reverse_table(molecule, slab):
    structures = [molecule(7), slab(), molecule(2), molecule(1)]
    batch = pack_structures(structures, CONFIG, slack=2)
    assert batch.swap is None
    assert batch.a2a is None
    assert batch.a2ee2a is None
    assert batch.quadruplets is None
    n, e = len(batch.node_graph), len(batch.senders)
    real = np.asarray(batch.edge_mask)
    for atom in range(n):
        readers = batch.reverse[atom][batch.reverse[atom] < e]
        expected = np.flatnonzero((batch.senders == atom) & real)
        np.testing.assert_array_equal(np.sort(readers), expected)
    empty = pack_structures([], CONFIG, batch_capacity(structures))
    shapes = [
        jax.tree.map(np.shape, b)
        for b in (empty, pack_structures(structures, CONFIG, batch_capacity(structures)))
    ]
    assert shapes[0] == shapes[1]
    assert (empty.reverse == len(empty.senders)).all()


def batch_capacity(structures):
    sizes = Sizes.measure(build_many(structures, CONFIG))
    return fit_capacity(sizes.needs([np.arange(len(structures))]))


def test_absent_graphs_take_no_capacity(molecule):
    capacity = batch_capacity([molecule(9), molecule(5)])
    assert (capacity.max_a2a, capacity.n_edge_a2ee2a, capacity.n_quad) == (1, 1, 1)
    assert capacity.max_neighbors == 5
    assert capacity.readers >= 5


def test_kinds_do_not_mix(molecule):
    graphs = build_many([molecule(4)], CONFIG) + build_many([molecule(4)], GraphConfig())
    structures = [molecule(4)] * 2
    capacity = batch_capacity(structures).enlarged(50)
    with pytest.raises(ValueError, match="cannot hold graphs of kind 'gemnet_oc'"):
        pack(graphs, structures, capacity)
    with pytest.raises(ValueError, match=r"GraphConfig.kind is 'nearst': give one of"):
        GraphConfig(kind="nearst")


@pytest.mark.parametrize("others", [(), ("a2a",), ("qint", "a2ee2a")])
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_kind_of_ones_own_holds_what_it_says(molecule, slab, monkeypatch, others, symmetric):
    monkeypatch.setitem(KINDS, "own", GraphKind(others, symmetric))
    structures = [molecule(7), slab(), molecule(1)]
    limits = {"max_neighbors": 5, "max_neighbors_qint": 3, "max_neighbors_a2ee2a": 4}
    config = GraphConfig(cutoff=6.0, kind="own", **limits)
    batch = pack_structures(structures, config)
    full = pack_structures(structures, dataclasses.replace(config, kind="gemnet_oc"))
    alike = full if symmetric else pack_structures(
        structures, dataclasses.replace(config, kind="nearest")
    )  # fmt: skip
    np.testing.assert_array_equal(batch.senders, alike.senders)
    np.testing.assert_array_equal(batch.edge_vectors, alike.edge_vectors)
    for name in ("swap", "reverse"):
        jax.tree.map(np.testing.assert_array_equal, getattr(batch, name), getattr(alike, name))
    for name, graph in (("a2a", "a2a"), ("a2ee2a", "a2ee2a"), ("quadruplets", "qint")):
        wanted = getattr(full, name) if graph in others else None
        jax.tree.map(np.testing.assert_array_equal, getattr(batch, name), wanted)


def test_loaders_fit_edge_dropout(molecule, slab):
    config = GraphConfig(kind="nearest", cutoff=6.0, max_neighbors=5, edge_dropout=0.3)
    data = GraphDataset("set", [molecule(9, seed=i) for i in range(12)] + [slab()], config)
    loader = BatchLoader([data], batch_size=4, epochs=3, prefetch=0, num_devices=2)
    edges = [int(np.asarray(b.slots.position < b.slots.index[0].size).sum()) for _, b in loader]
    assert len(set(edges)) > 1
    assert (
        data.size_table(0).everything().column("readers").max()
        >= data.sizes.column("readers").max()
    )
