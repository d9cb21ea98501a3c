from dataclasses import astuple, replace

import numpy as np
import pytest
from ase.build import bulk

from atomjax.batching import BatchLoader, GraphDataset
from atomjax.graphs.capacity import (
    FIELDS,
    WIDTHS,
    CapacityError,
    Sizes,
    check_fits,
    fit_capacity,
    over,
)
from atomjax.graphs.interactions import GraphConfig, build_many
from atomjax.structures import Structure


def row(sizes: Sizes, i: int) -> dict[str, int]:
    return dict(zip(FIELDS, sizes.table[i].tolist(), strict=True))


@pytest.fixture
def structures(molecule, slab):
    return [molecule(1), molecule(5), slab(), molecule(12)]


@pytest.fixture
def sizes(structures):
    return Sizes.measure(build_many(structures, GraphConfig()))


def test_sizes_count_what_the_graphs_hold(structures, sizes):
    for i, graphs in enumerate(build_many(structures, GraphConfig())):
        expected = {"n_graph": 1, "n_node": len(structures[i]), "max_atoms": len(structures[i])}
        for name, edges in {
            ("n_edge", "max_neighbors", "readers"): graphs.main,
            ("n_edge_a2ee2a", "max_a2ee2a", "readers_a2ee2a"): graphs.a2ee2a,
            ("", "max_a2a", "readers_a2a"): graphs.a2a,
            ("", "max_quad", "readers_quad"): graphs.qint,
        }.items():
            received = np.bincount(edges.receivers, minlength=graphs.n_node)
            sent = np.bincount(edges.senders, minlength=graphs.n_node)
            expected |= zip(name, (len(edges), received.max(), sent.max()), strict=True)
        expected["n_quad"] = np.unique(graphs.qint.receivers).size
        del expected[""]
        degrees = [
            np.bincount(e.receivers, minlength=graphs.n_node) for e in (graphs.main, graphs.a2ee2a)
        ]
        for width in WIDTHS:
            expected[over(width)] = int((np.max(degrees, axis=0) > width).sum())
        assert row(sizes, i) == expected


def test_groups_add_counts_and_take_the_largest_width(sizes):
    needs = sizes.needs([np.array([0, 2]), np.zeros(0, dtype=int), np.array([1, 3, 0])])
    for field, values in zip(FIELDS, needs.T, strict=True):
        column = sizes.column(field)
        counts = ("n_graph", "n_node", "n_edge", "n_edge_a2ee2a", "n_quad")
        counted = field in counts or field.startswith("over_")
        combine = np.sum if counted else np.max
        assert values.tolist() == [combine(column[[0, 2]]), 0, combine(column[[1, 3, 0]])]


def test_a_fitted_capacity_holds_its_groups_with_padding(sizes):
    needs = sizes.needs([np.array([0, 1]), np.array([3])])
    capacity = fit_capacity(needs)
    assert (capacity.limits >= needs).all()
    assert capacity.n_graph == 3
    assert capacity.n_node == 13
    assert capacity.n_edge == 132


def test_large_counts_are_rounded_and_margins_apply_to_counts_only(sizes):
    needs = sizes.needs([np.array([2])])
    capacity, wider = fit_capacity(needs), fit_capacity(needs, margin=0.5)
    assert capacity.n_edge % 8 == 0
    assert 0 <= capacity.n_edge - needs[0, FIELDS.index("n_edge")] < 8
    assert wider.n_edge >= 1.5 * needs[0, FIELDS.index("n_edge")]
    assert wider.max_neighbors == capacity.max_neighbors
    assert wider.n_graph == capacity.n_graph == 2


def test_nothing_still_has_a_shape():
    capacity = fit_capacity(np.zeros((0, len(FIELDS)), dtype=np.int64))
    assert min(astuple(capacity)) == 1
    assert capacity.n_graph == capacity.n_node == 2


def test_too_many_neighbours_name_structure_size_and_field(sizes):
    names = ["a.xyz:1", "a.xyz:2", "a.xyz:3", "a.xyz:4"]
    capacity = fit_capacity(sizes.needs([np.arange(4)]))
    check_fits(sizes, capacity, names)
    slots = capacity.max_neighbors
    with pytest.raises(CapacityError) as error:
        check_fits(sizes, replace(capacity, max_neighbors=9, n_edge=20), names)
    message = str(error.value)
    assert f"structure 'a.xyz:3' (12 atoms, {row(sizes, 2)['n_edge']} main edges)" in message
    assert f"needs {slots} main neighbours of one atom, the bucket holds 9" in message
    assert f"raise Capacity.max_neighbors from 9 to {slots} or more" in message


def test_too_full_batches_name_the_largest_structure_and_the_batch_size(sizes):
    names = ["a", "b", "c", "d"]
    capacity = fit_capacity(sizes.needs([np.arange(4)]))
    with pytest.raises(CapacityError) as error:
        check_fits(sizes, replace(capacity, n_node=20), names)
    message = str(error.value)
    assert "the 4 structures of a batch need 30 atoms, the bucket holds 19" in message
    assert "the largest is 'c' (12 atoms" in message
    assert "raise Capacity.n_node from 20 to 31 or more, or lower batch_size" in message


@pytest.mark.parametrize(("field", "value"), [("n_graph", 1), ("max_a2a", 0)])
def test_impossible_capacities_are_refused(sizes, field, value):
    capacity = fit_capacity(sizes.needs([np.arange(4)]))
    with pytest.raises(CapacityError, match=f"{field} is {value}"):
        replace(capacity, **{field: value})


@pytest.mark.parametrize("shells", ["keep", "leave"])
def test_shells_behind_a_limit_that_dropout_lets_in_have_room(shells):
    """Without a near edge the next whole shell of fcc comes in: 12, 6 and 24 neighbours."""
    structures = []
    for seed in range(24):
        atoms = bulk("Cu", cubic=True) * (2, 2, 1)
        atoms.rattle(0.002, seed=seed)
        facts = {"positions": atoms.positions, "cell": atoms.cell.array, "pbc": True}
        structures.append(Structure(atomic_numbers=atoms.numbers, **facts))
    limits = {"max_neighbors": 12, "max_neighbors_a2ee2a": 12, "max_neighbors_qint": 8}
    config = GraphConfig(
        cutoff=5.0, edge_dropout=0.1, shells=shells, max_neighbors_a2a=100, **limits
    )
    loader = BatchLoader([GraphDataset("cu", structures, config)], batch_size=4, epochs=5)
    assert sum(1 for _ in loader) == 30


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_widths_allowed_for_dropout_hold_fresh_draws(structures, sizes, dropout):
    config = GraphConfig(edge_dropout=dropout)

    def draw(seed: int) -> Sizes:
        rngs = [np.random.default_rng([seed, i]) for i in range(len(structures))]
        return Sizes.measure(build_many(structures, config, rngs))

    allowed = sizes.with_dropout(draw(0))
    # Where no limit is reached, dropout can only take away.
    assert (allowed.column("n_edge")[[1, 3]] < sizes.column("n_edge")[[1, 3]]).all()
    widths = [name for name in FIELDS if not name.startswith("n_")]
    for seed in range(1, 6):
        fresh = draw(seed)
        for name in set(widths) - {"max_neighbors", "readers_a2ee2a", "readers_quad"}:
            assert (fresh.column(name) <= allowed.column(name)).all()
    assert (allowed.column("max_neighbors")[[0, 1, 3]] == [0, 4, 11]).all()
