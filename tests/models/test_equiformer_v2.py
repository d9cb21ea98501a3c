"""EquiformerV2: sizes and names of the published checkpoints, parity, training, special cases."""

import dataclasses
import json
from functools import partial

import ase
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atomjax.batching import BatchLoader, GraphDataset
from atomjax.convert.equiformer_v2.convert import EquiformerV2Family
from atomjax.convert.equiformer_v2.names import checkpoint_entries
from atomjax.convert.family import fill
from atomjax.graphs import pack_structures
from atomjax.models import (
    HeadConfig,
    TargetConfig,
    build_model,
    check_fitted,
    features,
    fit_scale_factors,
    init_variables,
    predict,
)
from atomjax.models.equiformer_v2 import EQUIFORMER_V2, EquiformerV2Config, published_graph
from atomjax.models.equiformer_v2.feed_forward import FeedForward
from atomjax.models.equiformer_v2.linear import RadialNetwork
from atomjax.models.equiformer_v2.so2 import SO2Convolution
from atomjax.models.gemnet_oc import GEMNET_OC
from atomjax.structures import Structure
from tests.models.conformance import NEAREST, moved, random_rotation, samples, structure

TINY = {"name": "equiformer_v2_tiny"}
ONE = {**TINY, "num_blocks": 1}
HEAD = HeadConfig(name="a")


@pytest.fixture(scope="module")
def batch():
    """A few real structures."""
    return pack_structures([samples()["methanol"], samples()["slab"]], NEAREST)


def shapes_of(config: dict, batch, heads=(HEAD,)):
    """The model and the shapes of its variables."""
    model = build_model(config, heads)
    return model, jax.eval_shape(model.init, jax.random.key(0), batch)


def test_parameters_are_those_of_the_manifest(shared, batch):
    names = json.loads((shared / "oracle" / "manifest_eqv2_31M.json").read_text())
    wanted = {name: tuple(entry["shape"]) for name, entry in names.items() if not entry["buffer"]}
    model, variables = shapes_of({"name": "equiformer_v2_31M"}, batch)
    entries = list(checkpoint_entries(variables, model.heads))
    assert {name: shape for _, _, name, shape in entries} == wanted
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 31_058_690


@pytest.mark.parametrize(("size", "millions"), [("83M", 83), ("153M", 153)])
def test_relatives_have_the_size_of_their_name(batch, size, millions):
    _, variables = shapes_of({"name": f"equiformer_v2_{size}"}, batch)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert count == pytest.approx(millions * 1e6, rel=0.01)


def test_checkpoint_entries_go_back_and_forth(batch):
    model, variables = shapes_of(ONE, batch)
    rng = np.random.default_rng(0)
    entries = {
        name: rng.normal(size=shape).astype(np.float32)
        for _, _, name, shape in checkpoint_entries(variables, model.heads)
    }
    filled = fill(variables, model.heads, EquiformerV2Family(), entries)
    assert jax.tree.map(jnp.shape, filled["params"]) == jax.tree.map(jnp.shape, variables["params"])
    block = filled["params"]["backbone"]["blocks_0"]["ga"]
    np.testing.assert_array_equal(
        block["proj"]["kernel"][1], entries["blocks.0.ga.proj.weight"][1].T
    )
    del entries["blocks.0.ga.alpha_dot"]
    entries["norm.affine_weight"] = np.zeros((3, 3), np.float32)
    with pytest.raises(ValueError, match=r"blocks.0.ga.alpha_dot is missing") as error:
        fill(variables, model.heads, EquiformerV2Family(), entries)
    assert "norm.affine_weight has shape [3, 3]" in str(error.value)
    two, shapes = shapes_of(ONE, batch, (HEAD, HeadConfig(name="b")))
    with pytest.raises(ValueError, match=r"holds one head, the model has 2 \(a, b\)"):
        list(checkpoint_entries(shapes, two.heads))


def second_set(shared, name: str):
    """Structure, edges and numbers of one file of the second reference set, tiny model."""
    with np.load(shared / "oracle" / "equiformer_v2" / f"eqv2_tiny__{name}.npz") as archive:
        arrays = dict(archive)
    periodic = name == "crystal"
    found = Structure(
        atomic_numbers=arrays["atomic_numbers"],
        positions=arrays["pos"],
        cell=arrays["cell"].reshape(3, 3) if periodic else None,
        pbc=periodic,
    )
    return found, arrays


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("convention", ["fc", "ea"])
def test_both_conventions_agree_with_the_second_reference(shared, convention):
    """Unequal sizes, another grid, both graphs and directions; the grid is exact there."""
    own = {"attention_hidden": 12, "value_channels": 6, "ffn_hidden": 20, "edge_channels": 24}
    direction = {"fc": "source_minus_target", "ea": "target_minus_source"}[convention]
    config = {**TINY, **own, "grid_resolution": 14, "edge_direction": direction}
    graph = published_graph(max_neighbors={"fc": 20, "ea": 30}[convention])
    molecule = {"fc": 12.0, "ea": 8.0}[convention]
    graph = dataclasses.replace(graph, cutoff_molecule=molecule)
    with np.load(shared / "oracle" / "equiformer_v2" / "eqv2_tiny_weights.npz") as archive:
        entries = dict(archive)
    found, arrays = second_set(shared, "small")
    packed = pack_structures([found], graph, dtype=np.float64)
    assert int(packed.edge_mask.sum()) == arrays[f"{convention}/edge_index"].shape[1]
    model, shapes = shapes_of(config, packed)
    variables = fill(shapes, model.heads, EquiformerV2Family(), entries)
    variables = jax.tree.map(lambda x: np.asarray(x, np.float64), variables)
    node = jax.jit(partial(features, model))(variables, packed).node[: len(found)]
    out = jax.jit(partial(predict, model))(variables, packed)["a"]
    expected = {
        key: arrays[f"{convention}/f64/{key}"] for key in ("node_embedding", "energy", "forces")
    }
    # Frames are our own, so this is the roll noise of the coarse grid.
    node = node.reshape(expected["node_embedding"].shape)
    np.testing.assert_allclose(node, expected["node_embedding"], atol=2e-5)
    np.testing.assert_allclose(out.energy[0], expected["energy"].squeeze(), atol=1e-8)
    np.testing.assert_allclose(out.forces[: len(found)], expected["forces"], atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_a_finer_grid_drives_the_rotation_error_to_rounding():
    methanol = samples()["methanol"]
    turned = moved(methanol, random_rotation(3))
    batch = pack_structures([methanol, turned], NEAREST, dtype=np.float64)
    variables = init_variables(build_model(ONE, [HEAD]), jax.random.key(1), batch)

    def error(resolution: int) -> float:
        model = build_model({**ONE, "grid_resolution": resolution}, [HEAD])
        energy = jax.jit(partial(predict, model))(variables, batch)["a"].energy
        return abs(float(energy[1] / energy[0]) - 1)

    coarse, fine = error(8), error(30)
    assert fine < 1e-9
    assert coarse > 100 * fine


@pytest.mark.usefixtures("x64")
def test_edges_along_the_axes_and_lonely_atoms_have_finite_gradients():
    cube = ase.Atoms("H7", [[0, 0, 0], *np.eye(3) * 1.1, *-np.eye(3) * 1.1])
    batch = pack_structures(
        [structure(cube), samples()["one atom"], samples()["no neighbours"]], NEAREST,
        dtype=np.float64, slack=3,
    )  # fmt: skip
    heads = [HEAD, HeadConfig(name="c", forces="conservative")]
    model = build_model({**ONE, "edge_chunk": 10}, heads)
    variables = init_variables(model, jax.random.key(0), batch)

    def loss(variables):
        out = predict(model, variables, batch)
        outputs = [jnp.asarray(x) for o in out.values() for x in (o.forces, o.energy)]
        return sum(jnp.sum(x**2) for x in outputs), out

    (value, out), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    np.testing.assert_array_equal(out["a"].forces[7:], 0)  # no neighbours, no direction


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_chunks_change_nothing():
    batch = pack_structures([samples()["methanol"]], NEAREST, dtype=np.float64)
    model, _ = shapes_of(ONE, batch)
    variables = init_variables(model, jax.random.key(0), batch)
    variables = jax.tree.map(lambda x: np.asarray(x, np.float64), variables)

    def outcome(chunk):
        chunked = build_model({**ONE, "edge_chunk": chunk}, [HEAD])

        def loss(variables):
            return jnp.sum(jnp.asarray(predict(chunked, variables, batch)["a"].forces) ** 2)

        return jax.jit(jax.value_and_grad(loss))(variables)

    whole, parts = outcome(10**6), outcome(13)
    assert float(parts[0]) == pytest.approx(float(whole[0]), rel=1e-12)
    for a, b in zip(jax.tree.leaves(whole[1]), jax.tree.leaves(parts[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12 * float(jnp.abs(a).max() + 1e-300))


def test_features_are_those_of_the_final_norm(batch):
    model, _ = shapes_of(TINY, batch)
    variables = init_variables(model, jax.random.key(0), batch)
    out = jax.jit(partial(features, model))(variables, batch)
    assert out.node.shape == (len(batch.node_graph), 16 * 16)
    assert out.edge is None
    real = np.asarray(out.node)[np.asarray(batch.node_mask)].reshape(-1, 16, 16)
    # Degree 0 is layer-normed over its channels, all others have unit mean square over degrees.
    np.testing.assert_allclose(real[:, 0].mean(axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(real[:, 0].var(axis=-1), 1, rtol=1e-3)
    parts = [real[:, degree**2 : (degree + 1) ** 2] for degree in (1, 2, 3)]
    squares = [(part**2).mean(axis=(1, 2)) for part in parts]
    np.testing.assert_allclose(np.mean(squares, axis=0), 1, rtol=0.05)


def test_dropout_acts_in_training_only(batch):
    model = build_model({**ONE, "dropout": 0.5, "drop_path": 0.0}, [HEAD])
    paths = build_model({**ONE, "dropout": 0.0, "drop_path": 0.5}, [HEAD])
    variables = init_variables(model, jax.random.key(0), batch)
    for one in (model, paths):
        run = jax.jit(partial(predict, one), static_argnames="train")
        streams = [{"dropout": jax.random.key(i)} for i in range(8)]
        still = [np.asarray(run(variables, batch, rngs=s)["a"].forces) for s in streams[:2]]
        np.testing.assert_array_equal(*still)
        trained = [
            np.asarray(run(variables, batch, train=True, rngs=s)["a"].forces) for s in streams
        ]
        assert len({forces.tobytes() for forces in trained}) > 2
        np.testing.assert_array_equal(
            trained[0], run(variables, batch, train=True, rngs=streams[0])["a"].forces
        )


@pytest.mark.slow
def test_training_lowers_the_loss(batch):
    gap = TargetConfig(name="gap", pooling="mean")
    heads = [HEAD, HeadConfig(name="gap", kind="scalar", targets=(gap,))]
    model = build_model(ONE, heads)
    variables = init_variables(model, jax.random.key(0), batch)
    assert fit_scale_factors(model, variables, [batch]) is variables
    check_fitted(variables)
    optimizer = optax.adam(3e-3)
    targets = jnp.asarray(np.random.default_rng(0).normal(size=batch.positions.shape), jnp.float32)

    @jax.jit
    def step(params, state, key):
        def loss(params):
            out = predict(model, {"params": params}, batch, train=True, rngs={"dropout": key})
            wrong = jnp.where(batch.node_mask[:, None], jnp.asarray(out["a"].forces) - targets, 0)
            return jnp.sum(wrong**2) + jnp.sum((out["gap"].values["gap"][:2] - 1) ** 2)

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    params, state, losses = variables["params"], optimizer.init(variables["params"]), []
    for i in range(25):
        params, state, value = step(params, state, jax.random.key(i))
        losses.append(float(value))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:2])


def test_models_refuse_the_graphs_of_others(batch):
    gemnet = pack_structures(
        [samples()["methanol"]], dataclasses.replace(NEAREST, kind="gemnet_oc")
    )
    with pytest.raises(ValueError, match=r'set graph.kind \(GraphConfig.kind\) to "nearest"'):
        shapes_of(TINY, gemnet)
    with pytest.raises(ValueError, match=r'set graph.kind \(GraphConfig.kind\) to "gemnet_oc"'):
        shapes_of({"name": "gemnet_oc_tiny"}, batch)
    data = [GraphDataset(k, [samples()["methanol"]], dataclasses.replace(NEAREST, kind=k))
            for k in ("nearest", "gemnet_oc")]  # fmt: skip
    with pytest.raises(ValueError, match="graphs of different kinds"):
        BatchLoader(data, batch_size=1)


def test_sizes_know_their_graph():
    for backbone, limit in ((GEMNET_OC, 30), (EQUIFORMER_V2, 20)):
        published = backbone.published_graph
        assert published is not None
        assert published.kind == backbone.graph.kind
        assert published.max_neighbors == limit
        for size in backbone.sizes.values():
            assert backbone.basis_cutoff(size, "main") == published.cutoff == 12.0


def test_elements_without_a_row_poison_the_result():
    gold, francium = (structure(ase.Atoms(x, [[0, 0, 0], [0, 0, 2]])) for x in ("Au2", "AuFm"))
    batch = pack_structures([gold, francium], NEAREST)
    model, _ = shapes_of(ONE, batch)
    variables = init_variables(model, jax.random.key(0), batch)
    energy = np.asarray(jax.jit(partial(predict, model))(variables, batch)["a"].energy)
    assert np.isfinite(energy).tolist()[:2] == [True, False]


def test_layers_keep_the_precision_of_their_input_where_weights_are_wider():
    config = EquiformerV2Config(lmax=1, mmax=1, grid_resolution=6)
    layers = [
        (RadialNetwork(4, 3), (5, 2)),
        (FeedForward(config, 3), (5, 4, 2)),
        (SO2Convolution(3, 1, 1, scalars=2), (5, 4, 2)),
    ]
    for layer, shape in layers:
        x = jnp.ones(shape, jnp.bfloat16)
        variables = layer.init(jax.random.key(0), x.astype(jnp.float32))
        outputs = jax.tree.leaves(jax.eval_shape(layer.apply, variables, x))
        assert {one.dtype for one in outputs} == {x.dtype}, type(layer).__name__


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mmax": 5}, r"mmax is 5: give 1 to lmax \(4\)"),
        ({"grid_resolution": 8}, "grid_resolution is 8: give an even number above"),
        ({"grid_resolution": 19}, "grid_resolution is 19: give an even number above"),
        ({"edge_direction": "down"}, "edge_direction is 'down': give one of"),
        ({"exact_grid": False, "grid_resolution": 20}, "set exact_grid=True"),
        ({"edge_chunk": 0}, "edge_chunk is 0: give at least 1"),
        ({"avg_degree": 0.0}, "avg_degree is 0.0: sums are divided by it"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        EquiformerV2Config(**fields)
