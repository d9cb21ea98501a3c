"""GemNet-OC: sizes and names of the published checkpoints, configuration, training mode."""

import json
from functools import partial

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atomjax.convert.family import fill
from atomjax.convert.gemnet_oc.convert import GemNetOCFamily
from atomjax.convert.gemnet_oc.names import checkpoint_entries
from atomjax.graphs import GraphConfig, build_many, pack_structures
from atomjax.graphs.capacity import Sizes, fit_capacity, in_one_tier
from atomjax.models import HeadConfig, build_model, init_variables, predict
from atomjax.models.gemnet_oc import GEMNET_OC
from atomjax.models.initializers import he_orthogonal
from atomjax.training.update.optimizer import shared_divisors
from tests.models.conformance import CONFIG, samples
from tests.smallest import NO_LAYERS

TASKS = [HeadConfig(name=name) for name in ("oc20", "oc22", "ani1x", "transition1x")]


@pytest.fixture(scope="module")
def batch():
    """A few real structures."""
    return pack_structures([samples()["methanol"], samples()["slab"]], CONFIG)


def shapes_of(name: str, batch, heads=TASKS):
    """The model and the shapes of its variables."""
    model = build_model({"name": name}, heads)
    return model, jax.eval_shape(model.init, jax.random.key(0), batch)


def count(tree) -> int:
    """Number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("size", "manifest"), [("gemnet_oc_small", "small"), ("gemnet_oc_large", "large")]
)
def test_parameters_are_those_of_the_manifest(shared, batch, size, manifest):
    names = json.loads((shared / "oracle" / f"manifest_{manifest}.json").read_text())
    model, variables = shapes_of(size, batch)
    ours = {name: shape for _, _, name, shape in checkpoint_entries(variables, model.heads)}
    # The rest of the state_dict: buffers of the radial basis, and the energy outputs' first layers
    # under their second name.
    buffers = {name for name in names if name.endswith((".rbf.offset", ".rbf.temps"))}
    aliases = {n for n in names if n.startswith("backbone.out_blocks") and ".layers." in n}
    assert {name.replace(".layers.", ".seq_energy_pre.") for name in aliases} <= set(ours)
    assert set(ours) == set(names) - buffers - aliases
    assert ours == {name: tuple(names[name]) for name in ours}


def test_shared_parameters_are_those_of_the_original(batch):
    model, variables = shapes_of("gemnet_oc_small", batch)
    shared = GEMNET_OC.shared(GEMNET_OC.sizes["gemnet_oc_small"])
    divisors = shared_divisors(variables["params"], shared)
    flat = flax.traverse_util.flatten_dict(divisors)
    shared = {
        name.removeprefix("backbone.bases."): flat[path]
        for collection, path, name, _ in checkpoint_entries(variables, model.heads)
        if collection == "params" and flat[path] != 1
    }
    # What JMP's and efficient-atom's backbones register; the embedding of edges is not among them.
    dense = ("tint", "h", "qint", "aeint", "eaint")
    angular = ("cbf_tint", "cbf_qint", "sbf_qint", "cbf_aeint", "cbf_eaint", "rbf_aint")
    assert shared == {
        **{f"mlp_rbf_{graph}.linear.weight": 4 for graph in dense},
        **{f"mlp_{basis}.weight": 4 for basis in angular},
        "mlp_rbf_out.linear.weight": 5,
    }


def test_small_has_38_8_million_backbone_parameters(batch):
    _, variables = shapes_of("gemnet_oc_small", batch)
    backbone = dict(variables["params"]["backbone"])
    embedding = backbone.pop("embedding")  # the original counts it apart
    assert (count(backbone), embedding.size) == (38_842_368, 120 * 256)


def test_checkpoint_entries_go_back_and_forth(batch):
    model, variables = shapes_of("gemnet_oc_tiny", batch)
    rng = np.random.default_rng(0)
    entries = {
        name: rng.normal(size=shape).astype(np.float32)
        for _, _, name, shape in checkpoint_entries(variables, model.heads)
    }
    filled = fill(variables, model.heads, GemNetOCFamily(), entries)
    assert jax.tree.map(jnp.shape, filled) == jax.tree.map(jnp.shape, dict(variables))
    kernel = filled["params"]["backbone"]["int_blocks_0"]["dense_ca"]["kernel"]
    np.testing.assert_array_equal(kernel, entries["backbone.int_blocks.0.dense_ca.linear.weight"].T)
    del entries["backbone.int_blocks.0.dense_ca.linear.weight"]
    entries["embedding.atom_embedding.weight"] = np.zeros((3, 3), np.float32)
    with pytest.raises(ValueError, match=r"dense_ca.linear.weight is missing") as error:
        fill(variables, model.heads, GemNetOCFamily(), entries)
    assert "embedding.atom_embedding.weight has shape [3, 3]" in str(error.value)


def test_every_interaction_can_be_switched_off(batch):
    switches = ["quad", "atom_edge", "edge_atom", "atom"]
    off = {f"{name}_interaction": False for name in switches}
    model = build_model({"name": "gemnet_oc_tiny", **off}, [HeadConfig(name="a")])
    variables = jax.eval_shape(model.init, jax.random.key(0), batch)
    names = {part for path in flax.traverse_util.flatten_dict(variables) for part in path}
    assert "trip_interaction" in names
    assert not names & {f"{name}_interaction" for name in switches}
    # Such a model needs none of the graphs it does not use.
    bare = batch.replace(a2ee2a=None, a2a=None, quadruplets=None)
    assert jax.eval_shape(model.init, jax.random.key(0), bare) == variables
    full, _ = shapes_of("gemnet_oc_tiny", batch)
    with pytest.raises(ValueError, match="lacks an interaction graph"):
        jax.eval_shape(full.init, jax.random.key(0), bare)


def test_edge_features_exist_only_for_direct_forces(batch):
    energy = HeadConfig(name="a", kind="energy")
    _, with_edges = shapes_of("gemnet_oc_tiny", batch)
    _, without = shapes_of("gemnet_oc_tiny", batch, [energy])
    assert "out_mlp_forces" in with_edges["params"]["backbone"]
    assert "out_mlp_forces" not in without["params"]["backbone"]


def test_dropout_acts_in_training_only(batch):
    # Every layer's random numbers take a second to compile.
    layers = ("before_skip", "after_skip", "atom", "output_afteratom", "concat")
    config = {"num_blocks": 1, **{f"num_{name}": 0 for name in layers}}
    config |= {"name": "gemnet_oc_tiny", "dropout": 0.5, "edge_dropout": 0.1}
    model = build_model(config, [HeadConfig(name="a")])
    variables = init_variables(model, jax.random.key(0), batch)
    variables["scale_factors"] = jax.tree.map(jnp.ones_like, variables["scale_factors"])

    compiled = jax.jit(partial(predict, model), static_argnames="train")

    def energy(**options):
        return np.asarray(compiled(variables, batch, **options)["a"].energy[:2])

    first, second = ({"dropout": jax.random.key(i)} for i in (1, 2))
    still, trained = energy(rngs=first), energy(train=True, rngs=first)
    np.testing.assert_array_equal(still, energy(rngs=second))
    assert (trained != still).all()
    assert (trained != energy(train=True, rngs=second)).all()
    np.testing.assert_array_equal(trained, energy(train=True, rngs=first))
    with pytest.raises(ValueError, match="dropout"):
        energy(train=True)


def test_initial_kernels_have_unit_gain():
    kernel = he_orthogonal(jax.random.key(0), (64, 32))
    np.testing.assert_allclose(kernel.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(kernel.var(axis=0, ddof=1) * 64, 1, rtol=1e-3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "gemnet_oc_smal"}, "did you mean 'gemnet_oc_small'"),
        ({"name": "gemnet_oc_tiny", "num_block": 2}, "did you mean 'num_blocks'"),
        ({}, "Unknown model name"),
    ],
)
def test_mistyped_model_configs_are_corrected(config, message):
    with pytest.raises(ValueError, match=message):
        build_model(config, TASKS)


def test_tiers_of_atoms_change_nothing(uneven):
    rng = np.random.default_rng(0)
    graph = GraphConfig(cutoff=4.0)
    sizes = Sizes.measure(build_many([uneven], graph)).table
    found = []
    with jax.enable_x64(True):
        head = HeadConfig(name="all", forces="conservative")
        model = build_model({"name": "gemnet_oc_tiny", "num_blocks": 1, **NO_LAYERS}, [head])
        variables = None
        for needs, tiers in ((sizes, 2), (in_one_tier(sizes), 1)):
            capacity = fit_capacity(needs)
            batch = pack_structures([uneven], graph, capacity, dtype=np.float64)
            assert len(batch.tiers.main.index) == tiers
            if variables is None:
                variables = init_variables(model, jax.random.key(0), batch)
                # Heads start at zero.
                noise = jax.tree.map(lambda x: rng.normal(0.1, 0.1, x.shape), variables)
                variables = jax.tree.map(jnp.add, variables, noise)
            found.append(jax.jit(partial(predict, model))(variables, batch)["all"])
    np.testing.assert_allclose(found[0].energy[0], found[1].energy[0], rtol=1e-12)
    np.testing.assert_allclose(found[0].forces, found[1].forces, atol=1e-13)
    assert np.abs(found[0].forces).max() > 1e-4
