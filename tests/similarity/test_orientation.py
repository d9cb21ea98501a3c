"""Rotating the structures of a set moves the paper's distance and not the invariant one."""

import ase.build
import jax.numpy as jnp
import numpy as np
import pytest

from atomjax.graphs import pack_structures
from atomjax.graphs.batch import GraphBatch
from atomjax.similarity.features.collect import collect_features
from atomjax.similarity.features.invariants import invariant_features
from atomjax.similarity.features.orientation import (
    OrientationTest,
    plot_orientation,
    rotate_structures,
)
from atomjax.similarity.measures.frechet import frechet_distance
from atomjax.structures import Structure


def degrees_up_to_one(batch: GraphBatch) -> jnp.ndarray:
    """Two channels each of degree 0 and 1 from the main edges, in the order of EquiformerV2."""
    vectors = jnp.where(batch.edge_mask[:, None], batch.edge_vectors, 0)
    length = jnp.linalg.norm(vectors, axis=1, keepdims=True)
    radial = jnp.concatenate([jnp.exp(-length), jnp.exp(-((length - 2) ** 2))], axis=1)
    radial = jnp.where(batch.edge_mask[:, None], radial, 0)
    spherical = jnp.concatenate([jnp.ones_like(length), vectors], axis=1)
    edges = (spherical[:, :, None] * radial[:, None, :]).reshape(len(length), -1)
    return jnp.zeros((len(batch.node_mask), 8)).at[batch.receivers].add(edges)


def slabs() -> list[Structure]:
    """Slabs with an adsorbate, all with the surface up, as every set of slabs has them."""
    structures = []
    for i in range(8):
        atoms = ase.build.fcc111("Cu", (2, 2, 2), a=3.5 + 0.03 * i, vacuum=8.0, periodic=True)
        ase.build.add_adsorbate(atoms, "O", 1.0 + 0.1 * i, "fcc")
        structures.append(
            Structure(
                atomic_numbers=atoms.numbers,
                positions=atoms.positions,
                cell=np.asarray(atoms.cell),
                pbc=True,
                energy=-1.0,
                forces=np.ones((len(atoms), 3)),
                stress=np.diag([1.0, 2.0, 4.0 + i]),
            )
        )
    return structures


def test_rotations_keep_the_physics():
    before = slabs()
    for old, new in zip(before, rotate_structures(before, seed=1), strict=True):
        np.testing.assert_allclose(new.cell @ new.cell.T, old.cell @ old.cell.T, atol=1e-9)
        np.testing.assert_allclose(
            new.cell @ new.positions.T, old.cell @ old.positions.T, atol=1e-9
        )
        np.testing.assert_allclose(new.cell @ new.forces.T, old.cell @ old.forces.T, atol=1e-9)
        np.testing.assert_allclose(
            new.cell @ new.stress @ new.cell.T, old.cell @ old.stress @ old.cell.T, atol=1e-9
        )
        assert np.abs(new.positions - old.positions).max() > 0.1
        assert new.energy == old.energy


@pytest.mark.slow
def test_the_papers_distance_moves_and_the_invariant_ones_do_not(tmp_path):
    molecule = ase.build.molecule("CH3CH2OH")
    task = [Structure(atomic_numbers=molecule.numbers, positions=molecule.positions)] * 2
    kinds = {
        "all degrees": lambda f: f,
        "scalars": lambda f: invariant_features(f, 1, "scalars"),
        "norms": lambda f: invariant_features(f, 1, "norms"),
    }
    sets = [slabs(), list(rotate_structures(slabs(), 1)), list(rotate_structures(slabs(), 2))]
    batches = [pack_structures(structures) for structures in (*sets, task)]
    tests = {}
    for name, reduce in kinds.items():
        statistics = [
            collect_features(lambda b, reduce=reduce: reduce(degrees_up_to_one(b)), [batch])
            for batch in batches
        ]
        *upstream, downstream = (features.statistics() for features in statistics)
        stored, *rotated = (frechet_distance(one, downstream) for one in upstream)
        tests[name] = OrientationTest(stored, rotated)
    assert np.abs(tests["all degrees"].ratio - 1).max() > 0.01
    assert np.abs(tests["scalars"].ratio - 1).max() < 1e-4
    assert np.abs(tests["norms"].ratio - 1).max() < 1e-4
    plot_orientation({"slabs": tests, "again": tests}, tmp_path / "orientation.png")
    assert (tmp_path / "orientation.png").stat().st_size > 10_000
