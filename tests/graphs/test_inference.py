"""Batches for structures that come in any number."""

import numpy as np
import pytest

from atomjax.batching import GraphDataset, GrowingShape, inference, single_pass
from atomjax.graphs import GraphConfig
from atomjax.structures import Structure

GRAPH = GraphConfig(cutoff_molecule=5.0)


def chains(count: int) -> list[Structure]:
    rng = np.random.default_rng(0)
    return [
        Structure(
            atomic_numbers=np.full(2 + i % 5, 6),
            positions=np.cumsum(rng.normal(0.8, 0.1, (2 + i % 5, 3)), axis=0),
        )
        for i in range(count)
    ]


def test_graphs_of_many_structures_are_not_held_together(monkeypatch: pytest.MonkeyPatch) -> None:
    structures, held = chains(50), []

    def counted(some, config):
        held.append(len(some))
        return build_many(some, config)

    build_many = inference.build_many
    monkeypatch.setattr(inference, "build_many", counted)
    monkeypatch.setattr(inference, "_WINDOW", 2)
    in_windows = list(GrowingShape(4).batches(structures, GRAPH))
    assert max(held) == 8
    monkeypatch.setattr(inference, "_WINDOW", 100)
    at_once = list(GrowingShape(4).batches(structures, GRAPH))
    assert sorted(np.concatenate([group for group, _ in in_windows])) == list(range(50))
    for (group, batch), (other, same) in zip(in_windows, at_once, strict=True):
        np.testing.assert_array_equal(group, other)
        np.testing.assert_array_equal(batch.positions, same.positions)
        assert batch.edge_vectors.shape == same.edge_vectors.shape
        np.testing.assert_array_equal(batch.edge_vectors, same.edge_vectors)


def test_sets_of_like_structures_share_a_shape(molecule, slab) -> None:
    graph = GraphConfig(kind="nearest")
    sets = {
        "few": [molecule(7, seed) for seed in range(5)],
        "many": [molecule(n, seed) for seed in range(8) for n in (4, 9, 13)],
        "slabs": [slab(seed=seed) for seed in range(6)],
        "large": [*(molecule(9, seed) for seed in range(20)), molecule(150)],
    }
    shapes = {}
    for name, structures in sets.items():
        loader = single_pass(GraphDataset(name, structures, graph), 8)
        (shapes[name],) = loader.capacities
        batches = [batch for _, batch in loader.batches()]
        found = np.concatenate([b.targets.structure[b.graph_mask] for b in batches])
        assert sorted(found.tolist()) == list(range(len(structures)))
        assert {batch.edge_vectors.shape for batch in batches} == {(1, shapes[name].n_edge, 3)}
    assert shapes["few"] == shapes["many"]
    assert shapes["slabs"].n_edge > shapes["many"].n_edge
    assert shapes["large"].n_node == 257


def test_large_sets_have_a_shape_that_fits_them(molecule, monkeypatch) -> None:
    structures = [molecule(4, seed) for seed in range(12)]
    dataset = GraphDataset("many", structures, GraphConfig(kind="nearest"))
    monkeypatch.setattr(inference, "_SMALL", 2)
    assert single_pass(dataset, 4).capacities[0].n_node == 17
