"""Rows of a batch, invariant features, and what is kept of a set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atomjax.graphs.batch import GraphBatch
from atomjax.similarity.analysis.mixtures import mix_statistics, mixture_shares
from atomjax.similarity.features.aggregation import aggregate
from atomjax.similarity.features.collect import (
    Design,
    FeatureCollector,
    collect_features,
    read_features,
    write_features,
)
from atomjax.similarity.features.invariants import invariant_features
from atomjax.similarity.features.structure_sums import random_projection, unpack
from atomjax.similarity.measures.frechet import frechet_distance
from tests.similarity.samples import exact, statistics_of
from tests.training.standin import Labelled, make_batch, random_structures

WIDTH = 5


def extractor(batch: GraphBatch) -> jax.Array:
    """Features that depend on each atom; padding gets numbers that must not count."""
    x = jnp.asarray(batch.positions)
    z = jnp.asarray(batch.atomic_numbers)[:, None]
    features = jnp.concatenate([x, x[:, :1] * z, jnp.sin(z + x[:, 1:2])], axis=1)
    return jnp.where(z > 0, features, 1e6)


def features_of(structure: Labelled) -> np.ndarray:
    x, z = structure.positions.astype(np.float32), structure.atomic_numbers[:, None]
    return np.concatenate([x, x[:, :1] * z, np.sin(z + x[:, 1:2])], axis=1)


@pytest.fixture
def structures() -> list[Labelled]:
    return random_structures(23, seed=3)


@pytest.fixture
def batches(structures) -> list[GraphBatch]:
    return [make_batch(structures[i : i + 8], graphs=10, nodes=60) for i in (0, 8, 16)]


@pytest.mark.parametrize("aggregation", ["flat", "mean", "sum", "max"])
def test_rows_are_those_of_the_real_atoms(structures, aggregation):
    batch = make_batch(structures[:8], graphs=10, nodes=60)
    rows = aggregate(extractor(batch), batch, aggregation)
    reduce = {"mean": np.mean, "sum": np.sum, "max": np.max}.get(aggregation)
    per_structure = [features_of(s) for s in structures[:8]]
    if reduce is None:
        expected = np.concatenate(per_structure)
        owner = np.repeat(np.arange(8), [len(f) for f in per_structure])
    else:
        expected = np.stack([reduce(f, axis=0) for f in per_structure])
        owner = np.arange(8)
    mask = np.asarray(rows.mask)
    np.testing.assert_allclose(rows.values[mask], expected, atol=2e-5)
    np.testing.assert_array_equal(rows.structure[mask], owner)
    assert (np.asarray(rows.values)[~mask] == 0).all()


def test_aggregation_names_what_is_wrong(structures):
    batch = make_batch(structures[:3], graphs=5, nodes=30)
    with pytest.raises(ValueError, match="'median' is not known; use one of flat, mean, sum, max"):
        aggregate(extractor(batch), batch, "median")
    with pytest.raises(ValueError, match=r"each of the 30 atoms .* it returned \(5, 5\)"):
        aggregate(extractor(batch)[:5], batch)


def test_a_set_is_collected_whole(structures, batches):
    collected = collect_features(extractor, batches)
    per_structure = [features_of(s) for s in structures]
    rows = np.concatenate(per_structure)
    mean, cov = exact(rows)
    whole = collected.statistics()
    np.testing.assert_allclose(whole.mean, mean, atol=1e-6)
    np.testing.assert_allclose(whole.scatter / (len(rows) - 1), cov, rtol=1e-5, atol=1e-5)
    assert collected.num_structures == len(structures)
    assert collected.num_atoms == len(rows)
    for i, part in enumerate(collected.parts):
        assert int(part.count) == sum(len(f) for f in per_structure[i::4])
    sums = collected.structures
    np.testing.assert_array_equal(sums.counts, [len(f) for f in per_structure])
    centred = [f - sums.center for f in per_structure]
    np.testing.assert_allclose(sums.sums, [f.sum(axis=0) for f in centred], atol=1e-4)
    products = np.stack([f.T @ f for f in centred])
    np.testing.assert_allclose(unpack(sums.products, WIDTH), products, atol=1e-4, rtol=1e-5)
    numbers = np.concatenate([s.atomic_numbers for s in structures])
    assert {z: int(s.count) for z, s in collected.elements.items()} == {
        z: int((numbers == z).sum()) for z in np.unique(numbers)
    }
    z = int(numbers[0])
    np.testing.assert_allclose(
        collected.elements[z].mean, rows[numbers == z].mean(axis=0), atol=1e-5
    )


def test_wide_features_are_projected_for_structures_and_elements_only(batches):
    projection = random_projection(WIDTH, 2)
    assert projection is not None
    np.testing.assert_allclose(projection.T @ projection, WIDTH / 2 * np.eye(2), atol=1e-12)
    assert random_projection(64) is None
    collected = collect_features(extractor, batches, projection=projection)
    assert collected.statistics().dimension == WIDTH
    assert collected.structures.dimension == 2
    plain = collect_features(extractor, batches)
    total = plain.structures.sums.sum(axis=0) + plain.num_atoms * plain.structures.center
    projected = collected.structures
    np.testing.assert_allclose(
        projected.sums.sum(axis=0) + plain.num_atoms * projected.center,
        total @ projection,
        rtol=1e-4,
        atol=1e-3,
    )
    assert {s.dimension for s in collected.elements.values()} == {2}


def test_weights_and_blocks_are_those_of_a_draw_with_repetition(structures, batches):
    times = np.random.default_rng(1).integers(1, 4, len(structures))
    again = np.repeat(np.arange(len(structures)), times)
    repeated = [make_batch([structures[i] for i in again], graphs=80, nodes=600)]
    place = iter(range(len(structures)))
    numbered = [
        batch.replace(
            targets=batch.targets.replace(
                structure=np.array(
                    [next(place) if real else -1 for real in np.asarray(batch.graph_mask)]
                )
            )
        )
        for batch in batches
    ]
    groups = np.arange(len(structures)) % 6
    design = Design(times.astype(float), groups)
    weighted = collect_features(extractor, numbered, design=design)
    expected = collect_features(extractor, repeated)
    got, wanted = weighted.statistics(), expected.statistics()
    assert float(got.total) == int(wanted.count)
    np.testing.assert_allclose(got.mean, wanted.mean, atol=1e-6)
    np.testing.assert_allclose(got.scatter, wanted.scatter, rtol=1e-5, atol=1e-4)
    assert frechet_distance(got, wanted) < 1e-9
    for z, statistics in expected.elements.items():
        assert float(weighted.elements[z].total) == int(statistics.count)
        np.testing.assert_allclose(weighted.elements[z].mean, statistics.mean, atol=1e-6)
    assert (weighted.num_structures, weighted.weight) == (len(structures), times.sum())
    assert weighted.structures.structures.tolist() == np.bincount(groups).tolist()
    rows = np.array([len(features_of(s)) for s in structures])
    np.testing.assert_allclose(weighted.structures.counts, np.bincount(groups, times * rows))
    mixed = [mix_statistics([one, weighted], [1, 1]) for one in (weighted, expected)]
    np.testing.assert_allclose(mixed[0].mean, mixed[1].mean, atol=1e-6)


def test_elements_are_for_atoms_as_rows(batches):
    assert collect_features(extractor, batches, aggregation="mean").elements == {}


def test_collected_features_are_written_and_read(batches, tmp_path):
    collected = collect_features(extractor, batches)
    write_features(tmp_path / "a" / "set.npz", collected)
    again = read_features(tmp_path / "a" / "set.npz")
    jax.tree.map(np.testing.assert_array_equal, collected.parts, again.parts)
    jax.tree.map(np.testing.assert_array_equal, collected.structures, again.structures)
    jax.tree.map(np.testing.assert_array_equal, dict(collected.elements), dict(again.elements))
    assert again.num_atoms == collected.num_atoms
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match=r"other\.npz holds no features of a set"):
        read_features(tmp_path / "other.npz")


def test_a_mixture_by_the_numbers_of_structures_is_the_union(structures, batches):
    first, second = (collect_features(extractor, part) for part in (batches[:1], batches[1:]))
    union = collect_features(extractor, batches).statistics()
    mixed = mix_statistics([first, second], [8, len(structures) - 8])
    assert int(mixed.count) == int(union.count)
    np.testing.assert_allclose(mixed.mean, union.mean, atol=1e-12)
    np.testing.assert_allclose(mixed.scatter, union.scatter, atol=1e-9)
    alone = mix_statistics([first, second], [0.5, 0])
    np.testing.assert_allclose(alone.scatter, first.statistics().scatter, atol=1e-9)
    twice = collect_features(extractor, [batches[0], batches[0], batches[1], batches[2]])
    mixed = mix_statistics([first, second], [16, len(structures) - 8])
    np.testing.assert_allclose(mixed.mean, twice.statistics().mean, atol=1e-12)
    with pytest.raises(ValueError, match="do not fit 2 sets"):
        mix_statistics([first, second], [1.0])


def test_shares_follow_the_temperature():
    np.testing.assert_allclose(mixture_shares([100, 1]), [100 / 101, 1 / 101])
    np.testing.assert_allclose(mixture_shares([100, 1], 2), [10 / 11, 1 / 11])
    np.testing.assert_allclose(mixture_shares([100, 1], np.inf), [0.5, 0.5])
    with pytest.raises(ValueError, match="leave empty sets out"):
        mixture_shares([100, 0])


def test_packed_structures_give_their_atoms():
    import ase.build

    from atomjax.graphs import pack_structures
    from atomjax.structures import Structure

    atoms = [ase.build.molecule(name) for name in ("H2O", "CH3CH2OH", "C2H4")]
    batch = pack_structures(
        [Structure(atomic_numbers=a.numbers, positions=a.positions) for a in atoms], slack=3
    )
    for aggregation, expected in (
        ("flat", np.concatenate([a.positions for a in atoms])),
        ("max", np.stack([a.positions.max(axis=0) for a in atoms])),
    ):
        rows = aggregate(jnp.asarray(batch.positions), batch, aggregation)
        np.testing.assert_allclose(rows.values[np.asarray(rows.mask)], expected, atol=1e-6)


def test_nothing_collected_is_an_error():
    with pytest.raises(ValueError, match="sample at least one"):
        FeatureCollector().result()


def rotated(rows: np.ndarray, matrices: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Equivariant rows [n, 16 · C] with rotation ``choice[i]`` applied to row i."""
    components = rows.reshape(len(rows), 16, -1)
    turned = np.einsum("nab,nbc->nac", matrices[choice][:, :16, :16], components)
    return turned.reshape(rows.shape)


def test_invariant_features_do_not_turn_and_the_papers_do(shared):
    with np.load(shared / "oracle" / "equiformer_v2" / "wigner.npz") as file:
        matrices = file["D_blockdiag_l0_6"]
    rng = np.random.default_rng(0)
    # All structures of this set are oriented alike: features of degree l > 0 have a mean.
    oriented = rng.normal(size=(400, 32)) + np.repeat(rng.normal(size=16), 2)
    other = statistics_of(rng.normal(size=(400, 32)))
    turned = rotated(oriented, matrices, rng.integers(0, len(matrices), 400))
    before, after = (frechet_distance(statistics_of(x), other) for x in (oriented, turned))
    assert abs(after - before) > 0.2 * before
    for kind, width in (("scalars", 2), ("norms", 8)):
        a, b = (invariant_features(jnp.asarray(x), 3, kind) for x in (oriented, turned))
        assert a.shape == (400, width)
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_invariant_features_name_what_is_wrong():
    with pytest.raises(ValueError, match=r"30 features are not \(lmax \+ 1\)² = 16 components"):
        invariant_features(jnp.zeros((2, 30)), 3)
    with pytest.raises(ValueError, match="'power' is not known"):
        invariant_features(jnp.zeros((2, 32)), 3, "power")
