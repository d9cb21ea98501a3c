"""Batches for structures that come in any number."""

import numpy as np
import pytest

from atomjax.batching import GrowingShape, inference
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
