"""Heads: pooling, kinds, and what they refuse."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.data import atomic_masses

from atomjax.graphs import pack_structures
from atomjax.models import HeadConfig, TargetConfig, build_model, init_variables, predict
from atomjax.models.heads import pool
from tests.models.conformance import CONFIG, samples


@pytest.fixture(scope="module")
def batch():
    """Three and six atoms."""
    return pack_structures([samples()["three atoms"], samples()["methanol"]], CONFIG, slack=2)


def test_pooling_counts_real_atoms_only(batch):
    x = jnp.arange(1.0, batch.node_graph.shape[0] + 1)
    water, methanol = np.asarray(x[:3]), np.asarray(x[3:9])
    for pooling in ("sum", "mean", "max"):
        reduce = getattr(np, pooling)
        pooled = pool(-x, batch, pooling)  # negative: a maximum over padding would read zero
        np.testing.assert_allclose(pooled[:2], [reduce(-part) for part in (water, methanol)])
        np.testing.assert_array_equal(pooled[2:], 0)


def test_moments_of_charges_at_the_atoms(batch):
    x = jnp.arange(1.0, batch.node_graph.shape[0] + 1)
    for g, name in enumerate(("three atoms", "methanol")):
        molecule, own = samples()[name], np.asarray(x)[np.asarray(batch.node_graph) == g]
        masses = atomic_masses[molecule.atomic_numbers]
        arms = molecule.positions - masses @ molecule.positions / masses.sum()
        extent = own @ (arms**2).sum(axis=1)
        np.testing.assert_allclose(pool(x, batch, "extent")[g], extent, rtol=1e-5)
        dipole = np.linalg.norm(own @ arms)
        np.testing.assert_allclose(pool(x, batch, "dipole")[g], dipole, rtol=1e-5)
    for pooling in ("dipole", "extent"):
        np.testing.assert_array_equal(pool(x, batch, pooling)[2:], 0)
        gradient = jax.grad(lambda y, p=pooling: pool(y, batch, p).sum())(0 * x)
        assert np.isfinite(gradient).all()


def test_scores_of_classes_are_pooled_one_by_one(batch):
    x = jax.random.normal(jax.random.key(0), (batch.node_graph.shape[0], 3))
    for pooling in ("sum", "mean", "max"):
        one_by_one = [pool(x[:, i], batch, pooling) for i in range(3)]
        np.testing.assert_allclose(pool(x, batch, pooling), np.stack(one_by_one, 1), rtol=1e-5)


def test_moments_are_invariant():
    molecule = samples()["methanol"]
    moved = dataclasses.replace(molecule, positions=molecule.positions[:, [1, 2, 0]] + 1000.0)
    batches = [pack_structures([m], CONFIG, slack=1) for m in (molecule, moved)]
    x = jnp.arange(1.0, batches[0].node_graph.shape[0] + 1)
    for pooling in ("dipole", "extent"):
        first, second = (pool(x, b, pooling)[0] for b in batches)
        np.testing.assert_allclose(second, first, rtol=1e-3)


def test_every_kind_of_head_predicts_what_it_says(batch):
    heads = [
        HeadConfig(name="e", kind="energy"),
        HeadConfig(name="ef"),
        HeadConfig(
            name="gap",
            kind="scalar",
            targets=(
                TargetConfig(name="gap", pooling="mean"),
                TargetConfig(name="phase", pooling="max", num_classes=3),
            ),
        ),
    ]
    model = build_model({"name": "gemnet_oc_tiny"}, heads)
    variables = init_variables(model, jax.random.key(0), batch)
    out = jax.jit(partial(predict, model))(variables, batch)
    assert set(variables["params"]) == {"backbone", "head_e", "head_ef", "head_gap"}
    assert out["e"].forces is None
    assert out["e"].values == {}
    assert out["ef"].energy.shape == batch.graph_mask.shape
    assert out["ef"].forces.shape == batch.positions.shape
    assert out["gap"].energy is None
    assert set(variables["params"]["head_gap"]) == {"value", "value_1"}
    assert out["gap"].values["phase"].shape == (len(batch.graph_mask), 3)
    np.testing.assert_allclose(
        out["gap"].values["gap"][1], out["gap"].atom_contributions[3:9].mean(), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "energies"}, "kind='energies' is not one of"),
        ({"forces": "both"}, "forces='both' is not one of"),
        ({"pooling": "median"}, "pooling='median' is not one of"),
        ({"kind": "energy", "forces": "direct"}, "needs kind='energy_forces'"),
        ({"kind": "scalar"}, "kind='scalar' needs targets"),
        ({"targets": (TargetConfig(name="a"),) * 2}, "two of its targets share a name"),
        ({"num_layers": 0}, "num_layers must be at least 1"),
        ({"stress": True}, "needs forces='conservative', not 'direct'"),
    ],
)
def test_contradictory_heads_are_refused(settings, message):
    with pytest.raises(ValueError, match=message) as error:
        HeadConfig(name="mine", **settings)
    assert "'mine'" in str(error.value)


def test_classes_have_no_moments():
    with pytest.raises(ValueError, match="target 'a': pooling='dipole' is not one of"):
        TargetConfig(name="a", pooling="dipole", num_classes=2)


def test_a_model_needs_heads_of_different_names(batch):
    with pytest.raises(ValueError, match="at least one head"):
        build_model({"name": "gemnet_oc_tiny"}, [])
    with pytest.raises(ValueError, match="share a name"):
        build_model({"name": "gemnet_oc_tiny"}, [HeadConfig(name="a"), HeadConfig(name="a")])
    blind = build_model({"name": "gemnet_oc_tiny", "edge_output": False}, [HeadConfig(name="a")])
    with pytest.raises(ValueError, match="edge_output=True"):
        jax.eval_shape(blind.init, jax.random.key(0), batch)
