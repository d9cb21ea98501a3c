import itertools

import ase
import ase.neighborlist
import matscipy.neighbours
import numpy as np
import pytest

from atomjax.graphs.neighbors import (
    MAX_OFFSET,
    Edges,
    GraphError,
    _lexicographic_order,
    find_edges,
    image_codes,
)
from atomjax.structures import Structure

ORTHOGONAL = np.diag([4.0, 5.0, 6.0])
SKEWED = np.array([[2.5, 0.3, 0.0], [1.9, 2.2, -0.4], [-1.7, 1.1, 3.1]])
TINY = np.array([[1.1, 0.0, 0.1], [0.5, 1.3, 0.0], [0.2, -0.6, 1.2]])
THIN = np.array([[30.0, 0.0, 0.0], [0.0, 1.4, 0.0], [14.0, 0.5, 12.0]])
LEFT_HANDED = SKEWED[[1, 0, 2]]


def crystal(cell, pbc, n=4, seed=0, spread=1.0) -> Structure:
    rng = np.random.default_rng(seed)
    fractions = rng.uniform(-spread, spread, (n, 3)) + np.arange(n)[:, None] * 0.21
    return Structure(
        atomic_numbers=np.ones(n), positions=fractions @ cell, cell=cell, pbc=pbc, identifier="x"
    )


def brute_force(structure: Structure, cutoff: float) -> dict:
    """Every image in a range that is certainly wide enough, one by one."""
    cell, pbc, x = structure.cell, structure.pbc, structure.positions
    reach = np.zeros(3, dtype=int)
    if pbc.any():
        span = np.linalg.norm(x[:, None] - x[None], axis=-1).max() + cutoff
        inverse_heights = np.linalg.norm(np.linalg.pinv(cell[pbc]), axis=0)
        reach[pbc] = np.ceil(span * inverse_heights).astype(int)
    found = {}
    for offset in itertools.product(*(range(-r, r + 1) for r in reach)):
        vectors = x[None, :] - x[:, None] - np.array(offset) @ cell
        distances = np.linalg.norm(vectors, axis=-1)
        for s, t in np.argwhere(distances <= cutoff):
            if s != t or any(offset):
                found[int(s), int(t), *offset] = vectors[s, t]
    return found


def as_dict(edges: Edges) -> dict:
    keys = zip(edges.senders, edges.receivers, *edges.offsets.T, strict=True)
    return {tuple(map(int, k)): v for k, v in zip(keys, edges.vectors, strict=True)}


def assert_same(ours: dict, theirs: dict):
    assert ours.keys() == theirs.keys()
    worst = max((np.abs(ours[k] - theirs[k]).max() for k in ours), default=0.0)
    assert worst < 1e-12


@pytest.mark.parametrize("cell", [ORTHOGONAL, SKEWED, TINY, THIN, LEFT_HANDED])
@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 1, 0), (0, 1, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0)])
def test_edges_equal_brute_force(cell, pbc):
    structure = crystal(cell, np.array(pbc, dtype=bool))
    edges = find_edges([structure], 4.3)[0]
    assert len(as_dict(edges)) == len(edges)
    assert_same(as_dict(edges), brute_force(structure, 4.3))


@pytest.mark.parametrize("cell", [ORTHOGONAL, SKEWED, TINY, THIN])
@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 1, 0), (0, 1, 0)])
def test_edges_equal_ase_and_matscipy_far_outside_the_cell(cell, pbc):
    structure = crystal(cell, np.array(pbc, dtype=bool), n=5, seed=3, spread=6.0)
    atoms = ase.Atoms("H5", structure.positions, cell=cell, pbc=structure.pbc)
    ours = as_dict(find_edges([structure], 5.2)[0])
    for search in (ase.neighborlist.neighbor_list, matscipy.neighbours.neighbour_list):
        receivers, senders, offsets, vectors = search("ijSD", atoms, 5.2)
        keys = zip(senders, receivers, *offsets.T, strict=True)
        theirs = {tuple(map(int, k)): -v for k, v in zip(keys, vectors, strict=True)}
        assert_same(ours, theirs)


def test_periodic_directions_need_no_cell_in_the_others():
    cell = np.zeros((3, 3))
    cell[1] = [0.0, 2.0, 0.5]
    structure = Structure(
        atomic_numbers=[1, 1],
        positions=[[0.0, 0, 0], [1.0, 0, 50.0]],
        cell=cell,
        pbc=(False, True, False),
    )
    assert_same(as_dict(find_edges([structure], 5.0)[0]), brute_force(structure, 5.0))


def test_vectors_are_exact_and_opposite_for_reversed_edges():
    table, reverse = find_edges([crystal(SKEWED, True, n=6)], 6.0)
    np.testing.assert_array_equal(table.offsets[reverse], -table.offsets)
    np.testing.assert_array_equal(reverse[reverse], np.arange(len(table)))
    edges = as_dict(table)
    assert len(edges) > 100
    for (s, t, *offset), vector in edges.items():
        np.testing.assert_array_equal(edges[t, s, *(-o for o in offset)], -vector)


def test_molecules_together_equal_molecules_apart(molecule):
    structures = [molecule(n, seed=n) for n in (1, 7, 2, 12)]
    together, reverse = find_edges(structures, 3.0)
    np.testing.assert_array_equal(together.senders[reverse], together.receivers)
    np.testing.assert_array_equal(together.vectors[reverse], -together.vectors)
    first = 0
    for structure in structures:
        alone = find_edges([structure], 3.0)[0]
        own = (together.receivers >= first) & (together.receivers < first + len(structure))
        cut = together.take(np.flatnonzero(own))
        np.testing.assert_array_equal(cut.senders - first, alone.senders)
        np.testing.assert_array_equal(cut.receivers - first, alone.receivers)
        np.testing.assert_array_equal(cut.vectors, alone.vectors)
        assert_same(as_dict(alone), brute_force(structure, 3.0))
        first += len(structure)


def test_large_molecules_use_the_cell_list():
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(7)] * 3), axis=-1).reshape(-1, 3) * 2.0
    structure = Structure(
        atomic_numbers=np.ones(343), positions=grid + rng.uniform(-0.5, 0.5, (343, 3))
    )
    assert_same(as_dict(find_edges([structure], 3.0)[0]), brute_force(structure, 3.0))


def test_edges_are_sorted_by_receiver_distance_sender_and_offset():
    structure = Structure(
        atomic_numbers=[29, 29],
        positions=[[0, 0, 0], [1.8, 1.8, 1.8]],
        cell=np.eye(3) * 3.6,
        pbc=True,
    )
    edges = find_edges([structure], 8.0)[0]
    rows = list(
        zip(
            edges.receivers,
            np.rint(edges.distances * 1e8),
            edges.senders,
            *edges.offsets.T,
            strict=True,
        )
    )
    assert len({row[1] for row in rows}) < len(rows) / 10  # almost everything is tied
    assert rows == sorted(rows)


def test_the_cutoff_is_inclusive():
    pair = Structure(atomic_numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 2.0]])
    assert len(find_edges([pair], 2.0)[0]) == 2
    assert len(find_edges([pair], np.nextafter(2.0, 0))[0]) == 0


def test_offsets_out_of_range_name_the_structure():
    far = Structure(
        atomic_numbers=[1, 1],
        positions=[[0, 0, 0], [0.5 + 3.0 * (MAX_OFFSET + 1), 0, 0]],
        cell=np.eye(3) * 3.0,
        pbc=True,
        identifier="run.xyz:7",
    )
    with pytest.raises(GraphError, match=r"run\.xyz:7.*wrap its positions"):
        find_edges([far], 2.0)[0]


def test_image_codes_add_and_order_as_offsets():
    rng = np.random.default_rng(0)
    a, b = rng.integers(-MAX_OFFSET, MAX_OFFSET + 1, (2, 500, 3)).astype(np.int32)
    np.testing.assert_array_equal(image_codes(a) + image_codes(b), image_codes(a + b))
    np.testing.assert_array_equal(image_codes(-a), -image_codes(a))
    order = np.lexsort(a.T[::-1])
    assert (np.diff(image_codes(a)[order]) >= 0).all()
    corners = np.array(list(itertools.product([-4 * MAX_OFFSET, 0, 4 * MAX_OFFSET], repeat=3)))
    assert len(np.unique(image_codes(corners))) == len(corners)


@pytest.mark.parametrize("high", [3, 2**40])
def test_lexicographic_order_is_that_of_python(high):
    rng = np.random.default_rng(0)
    columns = rng.integers(-high, high, (3, 200))
    rows = [(*row, i) for i, row in enumerate(columns.T.tolist())]
    expected = [row[-1] for row in sorted(rows)]
    np.testing.assert_array_equal(_lexicographic_order(list(columns)), expected)
