import dataclasses
import json

import numpy as np
import pytest

from atomjax.graphs.config import limits_in_proportion
from atomjax.graphs.interactions import (
    Edges,
    GraphConfig,
    InteractionGraphs,
    build_interactions,
    build_many,
)
from atomjax.models.gemnet_oc import PUBLISHED_GRAPH
from atomjax.structures import Structure

NAMES = ("methanol", "ethanol", "butadiene", "cu_co", "nacl")
GRAPHS = {"main": "main_directed", "a2a": "a2a", "a2ee2a": "a2ee2a", "qint": "qint"}


@pytest.fixture(scope="module")
def oracle(shared):
    with np.load(shared / "oracle" / "structures.npz") as file:
        return dict(file)


def oracle_structure(oracle, name: str) -> Structure:
    fields = ("atomic_numbers", "positions", "cell", "pbc", "tags")
    return Structure(**{field: oracle[f"{name}/{field}"] for field in fields}, identifier=name)


def keys(edges: Edges) -> list[tuple[int, ...]]:
    columns = zip(edges.senders, edges.receivers, *edges.offsets.T, strict=True)
    return [tuple(map(int, key)) for key in columns]


def assert_equal(a: InteractionGraphs, b: InteractionGraphs):
    assert a.n_node == b.n_node
    np.testing.assert_array_equal(a.swap, b.swap)
    for name in ("main", "a2a", "a2ee2a", "qint", "main_directed"):
        for field in ("senders", "receivers", "offsets", "vectors", "distances"):
            ours, theirs = (getattr(getattr(g, name), field) for g in (a, b))
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


def assert_consistent(graphs: InteractionGraphs):
    main, swap = graphs.main, graphs.swap
    np.testing.assert_array_equal(swap[swap], np.arange(len(main)))
    np.testing.assert_array_equal(main.senders[swap], main.receivers)
    np.testing.assert_array_equal(main.offsets[swap], -main.offsets)
    np.testing.assert_array_equal(main.vectors[swap], -main.vectors)
    for name in GRAPHS.values():
        edges = getattr(graphs, name)
        assert len(set(keys(edges))) == len(edges)
        assert set(keys(edges)) <= set(keys(graphs.a2a))
    assert len(set(keys(main))) == len(main)
    for edges in (main, graphs.a2a, graphs.a2ee2a, graphs.qint, graphs.main_directed):
        order = np.lexsort((edges.distances.round(8), edges.receivers))
        np.testing.assert_array_equal(order, np.arange(len(order)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_edge_sets_of_the_original(oracle, name, graph):
    edges = getattr(
        build_interactions(oracle_structure(oracle, name), PUBLISHED_GRAPH), GRAPHS[graph]
    )
    reference = {field: oracle[f"{name}/{graph}/{field}"] for field in ("distance", "vector")}
    columns = (*oracle[f"{name}/{graph}/edge_index"], *oracle[f"{name}/{graph}/cell_offset"].T)
    place = {tuple(map(int, key)): i for i, key in enumerate(zip(*columns, strict=True))}
    assert set(keys(edges)) == place.keys()
    order = [place[key] for key in keys(edges)]
    np.testing.assert_allclose(edges.distances, reference["distance"][order], atol=1e-13)
    unit = edges.vectors / edges.distances[:, None]
    np.testing.assert_allclose(unit, reference["vector"][order], atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_symmetrised_edges_of_the_original(shared, oracle, name):
    info = json.loads((shared / "oracle" / "gemnet_oc_tiny.json").read_text())["info"][name]
    with np.load(shared / "oracle" / "gemnet_oc_tiny.npz") as file:
        index = file[f"{name}/edge_index"]
    graphs = build_interactions(oracle_structure(oracle, name), PUBLISHED_GRAPH)
    assert len(graphs.main) == info["main_edges_symmetrised"]
    ours = sorted(zip(graphs.main.senders.tolist(), graphs.main.receivers.tolist(), strict=True))
    assert ours == sorted(map(tuple, index.T.tolist()))
    assert_consistent(graphs)


def test_many_at_once_equal_one_by_one(molecule, slab):
    structures = [molecule(5), molecule(12), slab(), molecule(1), molecule(2), slab((1, 1, 2))]
    config = GraphConfig(max_neighbors=6, max_neighbors_a2ee2a=4, max_neighbors_qint=3)
    for graphs, structure in zip(build_many(structures, config), structures, strict=True):
        assert graphs.n_node == len(structure)
        assert_equal(graphs, build_interactions(structure, config))
        assert_consistent(graphs)
    assert build_many([], config) == []


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_atoms(molecule, n):
    graphs = build_interactions(molecule(n), GraphConfig())
    assert len(graphs.main) == len(graphs.a2a) == len(graphs.qint) == n * (n - 1)
    assert_consistent(graphs)


def test_atoms_without_neighbours():
    apart = Structure(atomic_numbers=[1, 1, 8], positions=[[0, 0, 0], [0, 0, 20], [0, 0, 1]])
    graphs = build_interactions(apart, GraphConfig())
    assert keys(graphs.main) == [(2, 0, 0, 0, 0), (0, 2, 0, 0, 0)]
    nothing = build_interactions(apart, GraphConfig(cutoff_molecule=0.5))
    assert [len(e) for e in (nothing.main, nothing.a2a, nothing.a2ee2a, nothing.qint)] == [0] * 4
    assert len(nothing.swap) == 0


def test_limits_keep_the_nearest(slab):
    structure = slab()
    config = GraphConfig(
        max_neighbors=9,
        max_neighbors_a2ee2a=7,
        max_neighbors_qint=5,
        max_neighbors_a2a=40,
        shells="cut",
    )
    graphs = build_interactions(structure, config)
    every = build_interactions(structure, GraphConfig()).a2a
    for name, limit in {"main_directed": 9, "a2ee2a": 7, "a2a": 40}.items():
        edges = getattr(graphs, name)
        for atom in range(len(structure)):
            distances = np.sort(every.distances[every.receivers == atom])
            kept = edges.distances[edges.receivers == atom]
            np.testing.assert_allclose(kept, distances[:limit], atol=1e-8)


def test_without_limits_all_within_the_cutoff_are_neighbours(slab, molecule):
    for structure in (slab(), molecule(14)):
        config = GraphConfig(
            cutoff=4.0, cutoff_a2ee2a=3.5, cutoff_qint=3.0, cutoff_a2a=5.0, qint_tags=(0, 1, 2)
        )
        graphs = build_interactions(structure, config)
        assert_consistent(graphs)
        assert keys(graphs.main) == keys(graphs.main_directed)
        every = build_interactions(structure, GraphConfig(cutoff=6.0)).a2a
        for name, end in config.cutoffs(periodic=True).items():
            near = every.take(np.flatnonzero(every.distances <= end))
            assert keys(getattr(graphs, name)) == keys(near)
        assert len(graphs.qint) < len(graphs.a2ee2a) < len(graphs.main) < len(graphs.a2a)


def test_union_and_intersection_take_both_directions_or_none(slab):
    structure = slab()
    directed = GraphConfig(max_neighbors=7, shells="cut")
    chosen = set(keys(build_interactions(structure, directed).main_directed))
    backward = {(t, s, -a, -b, -c) for s, t, a, b, c in chosen}
    expected = {"union": chosen | backward, "intersection": chosen & backward}
    for symmetrization, edges in expected.items():
        config = dataclasses.replace(directed, symmetrization=symmetrization)
        graphs = build_interactions(structure, config)
        assert set(keys(graphs.main)) == edges
        assert_consistent(graphs)
    assert len(expected["intersection"]) < len(chosen) < len(expected["union"])


@pytest.mark.parametrize("limit", [11, 12, 13, 17, 18, 19])
def test_shells_are_kept_or_left_as_one(limit):
    # Neighbours of an atom of fcc copper: 12 at 2.55 Å, 6 at 3.6 Å, 24 at 4.41 Å.
    cell = 1.8 * (np.ones((3, 3)) - np.eye(3))
    jitter = np.random.default_rng(0).normal(scale=1e-4, size=(27, 3))
    places = np.array(list(np.ndindex(3, 3, 3))) @ cell
    crystal = Structure(
        atomic_numbers=np.full(27, 29), positions=places + jitter, cell=3 * cell, pbc=True
    )
    kept = 12 if limit <= 12 else 18 if limit <= 18 else 42
    left = 0 if limit < 12 else 12 if limit < 18 else 18
    for shells, count in {"keep": kept, "leave": left, "cut": limit}.items():
        config = GraphConfig(max_neighbors=limit, shells=shells)
        directed = build_interactions(crystal, config).main_directed
        assert np.bincount(directed.receivers, minlength=27).tolist() == [count] * 27


def test_older_configs_mean_the_published_rule():
    stored = {"kind": "nearest", "cutoff": 6.0, "cutoff_molecule": 5.0, "max_neighbors": 12,
              "max_neighbors_a2ee2a": 20, "max_neighbors_qint": 8, "max_neighbors_a2a": 1000,
              "qint_tags": [1, 2], "edge_dropout": 0.1}  # fmt: skip
    config = GraphConfig.from_dict(stored)
    assert (config.symmetrization, config.shells) == ("index", "cut")
    # Files are named after hashes of the config, and are found again.
    assert json.loads(json.dumps(config.cache_key())) == stored
    for config in (
        GraphConfig(max_neighbors=9),
        dataclasses.replace(PUBLISHED_GRAPH, cutoff_a2a=13.0),
    ):
        fields = json.loads(json.dumps(dataclasses.asdict(config)))
        assert GraphConfig.from_dict(fields) == config
        assert config.cache_key() == dataclasses.asdict(config)
    assert "symmetrization" not in PUBLISHED_GRAPH.cache_key()


def test_quadruplet_edges_touch_the_wanted_tags(slab):
    structure = slab()
    only_surface = build_interactions(structure, GraphConfig(qint_tags=(1,))).qint
    unfiltered = build_interactions(structure, GraphConfig(qint_tags=(0, 1, 2))).qint
    ends = (structure.tags[unfiltered.senders], structure.tags[unfiltered.receivers])
    wanted = (ends[0] == 1) | (ends[1] == 1)
    assert 0 < len(only_surface) < len(unfiltered)
    assert keys(only_surface) == [k for k, w in zip(keys(unfiltered), wanted, strict=True) if w]
    assert len(build_interactions(structure, GraphConfig(qint_tags=())).qint) == 0


def test_symmetrised_self_image_edges_come_in_pairs():
    chain = Structure(
        atomic_numbers=[6], positions=[[0, 0, 0]], cell=np.eye(3) * [2, 50, 50], pbc=True
    )
    graphs = build_interactions(chain, GraphConfig(cutoff=5.0))
    assert sorted(k[2:] for k in keys(graphs.main)) == [
        (-2, 0, 0),
        (-1, 0, 0),
        (1, 0, 0),
        (2, 0, 0),
    ]
    assert_consistent(graphs)


def test_ties_are_settled_by_sender_and_offset_whatever_the_rounding():
    cubic = {"atomic_numbers": [29, 29], "cell": np.eye(3) * 3.3, "pbc": True}
    config = GraphConfig(cutoff=7.0, max_neighbors=10, max_neighbors_a2ee2a=7, max_neighbors_qint=3)
    base = np.array([[0.0, 0, 0], [1.65, 1.65, 1.65]])
    expected = build_interactions(Structure(positions=base, **cubic), config)
    rng = np.random.default_rng(0)
    for _ in range(5):
        shift = rng.uniform(-1, 1, 3)  # moves the rounding errors, not the crystal
        noisy = build_interactions(Structure(positions=base + shift, **cubic), config)
        for name in ("main", "a2ee2a", "qint", "a2a"):
            assert keys(getattr(noisy, name)) == keys(getattr(expected, name))


def test_edge_dropout_reaches_all_graphs_and_follows_its_seed(slab, molecule):
    structures = [slab(), molecule(14)]
    config = GraphConfig(edge_dropout=0.3)

    def draw(seed: int) -> list[InteractionGraphs]:
        return build_many(structures, config, [np.random.default_rng([seed, i]) for i in range(2)])

    for full, dropped, again, other in zip(
        build_many(structures, config), draw(0), draw(0), draw(1), strict=True
    ):
        assert_equal(dropped, again)
        assert keys(dropped.a2a) != keys(other.a2a)
        assert set(keys(dropped.a2a)) < set(keys(full.a2a))
        share = len(dropped.a2a) / len(full.a2a)
        assert abs(share - 0.7) < 4 * np.sqrt(0.21 / len(full.a2a))
        assert_consistent(dropped)  # in particular, no graph has an edge that a2a lost
        # An edge and its reverse go together, so that symmetrisation changes no share.
        assert keys(dropped.main) == keys(dropped.a2a)


def test_edges_drop_each_for_itself_by_the_published_rule(slab):
    config = dataclasses.replace(PUBLISHED_GRAPH, edge_dropout=0.3)
    graphs = build_many([slab()], config, [np.random.default_rng(0)])
    left = set(keys(graphs[0].a2a))
    assert any((t, s, -a, -b, -c) not in left for s, t, a, b, c in left)
    assert_consistent(graphs[0])


def test_edge_dropout_of_a_structure_does_not_depend_on_its_company(slab, molecule):
    config = GraphConfig(edge_dropout=0.2)
    company = [molecule(9, seed=1), molecule(9, seed=2), slab()]
    together = build_many(company, config, [np.random.default_rng(i) for i in range(3)])
    for i, structure in enumerate(company):
        assert_equal(together[i], build_interactions(structure, config, np.random.default_rng(i)))


def test_symmetries_carry_over(molecule):
    structure = molecule(14)
    config = GraphConfig(max_neighbors=6, max_neighbors_a2ee2a=4, max_neighbors_qint=3)
    graphs = build_interactions(structure, config)
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    moved = Structure(
        atomic_numbers=structure.atomic_numbers,
        positions=structure.positions @ rotation.T + 100.0,
    )
    turned = build_interactions(moved, config)
    assert keys(turned.main) == keys(graphs.main)
    np.testing.assert_allclose(turned.main.vectors, graphs.main.vectors @ rotation.T, atol=1e-12)
    order = rng.permutation(14)
    permuted = build_interactions(
        Structure(
            atomic_numbers=structure.atomic_numbers[order], positions=structure.positions[order]
        ),
        config,
    )
    renamed = {(order[s], order[t]) for s, t, *_ in keys(permuted.a2ee2a)}
    assert renamed == {(s, t) for s, t, *_ in keys(graphs.a2ee2a)}


def test_limits_keep_their_proportions():
    assert limits_in_proportion(50) == {
        "max_neighbors": 50,
        "max_neighbors_a2ee2a": 33,
        "max_neighbors_qint": 13,
        "max_neighbors_a2a": 1666,
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cutoff": 0.0}, "GraphConfig.cutoff is 0.0"),
        ({"cutoff_molecule": float("nan")}, "GraphConfig.cutoff_molecule is nan"),
        ({"max_neighbors_qint": 0}, "GraphConfig.max_neighbors_qint is 0: give at least 1"),
        ({"max_neighbors": 20, "max_neighbors_a2a": 9}, "max_neighbors is 20, more than max_neigh"),
        (
            {"cutoff_qint": 6.0},
            r"the qint graph ends at 6.0 Å, farther than the a2a graph \(5.0 Å\)",
        ),
        ({"cutoff_a2ee2a": 0.0}, "GraphConfig.cutoff_a2ee2a is 0.0: give Å, above 0"),
        ({"symmetrization": "both"}, "GraphConfig.symmetrization is 'both': give one of"),
        ({"shells": "half"}, "GraphConfig.shells is 'half': give one of"),
        ({"shell_tolerance": -1.0}, "GraphConfig.shell_tolerance is -1.0: give Å, at least 0"),
        ({"edge_dropout": 1.0}, "GraphConfig.edge_dropout is 1.0: give 0 <= p < 1"),
    ],
)
def test_config_errors_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        GraphConfig(**fields)
