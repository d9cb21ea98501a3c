from collections.abc import Iterator
from functools import partial
from typing import Any

import ase.build
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atomjax.graphs import GraphConfig, pack_structures
from atomjax.models import (
    HeadConfig,
    build_model,
    features,
    find_backbone,
    init_variables,
    predict,
)
from atomjax.ops import sum_slots
from atomjax.ops.gather import Slots
from atomjax.structures import Structure
from atomjax.training.update.optimizer import make_optimizer
from atomjax.training.update.state import create_state, data_mesh
from atomjax.training.update.step import make_train_step
from atomjax.training.update.tasks import Task
from tests.training.sections import train_settings

HEAD = HeadConfig(name="task")
HIGH, HIGHEST = jax.lax.Precision.HIGH, jax.lax.Precision.HIGHEST


def make_batch(graph: GraphConfig | None = None) -> Any:
    atoms = ase.build.molecule("CH3OH")
    structure = Structure(
        atomic_numbers=atoms.numbers,
        positions=atoms.positions,
        energy=1.0,
        forces=np.ones((len(atoms), 3)),
    )
    return pack_structures([structure], graph or GraphConfig())


def make(precision: str | None, **overrides: Any) -> tuple[Any, Any, Any]:
    batch = make_batch()
    config = {"name": "gemnet_oc_tiny", "num_blocks": 1, "precision": precision, **overrides}
    model = build_model(config, [HEAD])
    variables = init_variables(model, jax.random.key(0), batch)
    factors = jax.tree.map(jnp.ones_like, variables["scale_factors"])
    return model, {"params": variables["params"], "scale_factors": factors}, batch


def equations(jaxpr: Any) -> Iterator[Any]:
    """All equations, those of inner functions included."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(v, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def products(function: Any, *args: Any) -> list[tuple[Any, Any]]:
    """Dtype and precision of every matrix product."""
    found = []
    for equation in equations(jax.make_jaxpr(function)(*args).jaxpr):
        if equation.primitive.name == "dot_general":
            precision = equation.params["precision"]
            first = precision[0] if isinstance(precision, tuple) else precision
            found.append((equation.invars[0].aval.dtype, first))
    return found


@pytest.mark.parametrize(
    ("precision", "wide", "narrow"),
    [
        ("float32", {("float32", HIGHEST)}, set()),
        ("tensorfloat32", {("float32", HIGHEST), ("float32", HIGH)}, set()),
        ("bfloat16", {("float32", HIGHEST)}, {"bfloat16"}),
        (None, {("float32", HIGHEST), ("float32", None)}, set()),
    ],
)
def test_a_policy_places_its_products(precision, wide, narrow):
    model, variables, batch = make(precision)
    found = products(lambda v: predict(model, v, batch)["task"].forces, variables)
    in_float32 = {(str(dtype), p) for dtype, p in found if dtype == jnp.float32}
    assert in_float32 == wide
    assert {str(dtype) for dtype, _ in found if dtype != jnp.float32} == narrow
    if precision == "bfloat16":
        # Bases and the last layer of each head; nothing of the blocks is left in float32.
        assert sum(dtype == jnp.bfloat16 for dtype, _ in found) > 3 * len(in_float32)


def test_parameters_gradients_and_optimiser_stay_in_float32():
    model, variables, batch = make("bfloat16")
    optimizer = make_optimizer(train_settings(batch_size=1, epochs=1), variables["params"], 10, ())
    state = create_state(variables, optimizer, seed=0)
    step = make_train_step(
        partial(predict, model), [Task(name="task")], optimizer, data_mesh(jax.devices()[:1])
    )
    stacked = jax.tree.map(lambda x: np.asarray(x)[None], batch)
    after, metrics = step.lower(state, stacked).out_info
    leaves = jax.tree.leaves((after, metrics))
    assert len(leaves) > 4 * len(jax.tree.leaves(variables["params"]))
    assert all(leaf.dtype != jnp.bfloat16 for leaf in leaves)


def test_features_are_float32_outside_the_network():
    model, variables, batch = make("bfloat16")
    found = jax.eval_shape(partial(features, model), variables, batch)
    assert found.node.dtype == found.edge.dtype == jnp.float32


def test_outputs_are_float32_and_near():
    model, variables, batch = make("bfloat16")
    narrow = jax.jit(partial(predict, model))(variables, batch)["task"]
    exact = jax.jit(partial(predict, make("float32")[0]))(variables, batch)["task"]
    for name in ("energy", "forces", "atom_contributions"):
        got, wanted = getattr(narrow, name), getattr(exact, name)
        assert got.dtype == jnp.float32
        error = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
        assert 1e-6 < error < 0.1  # it is another policy, and it is no other model


def test_sums_over_neighbours_do_not_saturate():
    count = 1000
    slots = Slots(index=jnp.arange(count)[None], position=jnp.arange(count))
    ones = jnp.ones((count, 1), jnp.bfloat16)
    # Summed in bfloat16, which has no 257, the result is 256.
    assert float(sum_slots(ones, slots)[0, 0]) == 1000
    gradient = jax.grad(lambda x: (x.astype(jnp.float32)[jnp.zeros(count, int)]).sum())(ones[:1])
    assert float(gradient[0, 0]) == 1000


@pytest.mark.slow
def test_remat_changes_nothing_but_memory():
    def gradient(**overrides):
        model, variables, batch = make("float32", num_blocks=2, **overrides)

        def loss(params):
            forces = predict(model, {**variables, "params": params}, batch)["task"].forces
            assert forces is not None
            return (forces**2).sum()

        compiled = jax.jit(jax.grad(loss)).lower(variables["params"]).compile()
        return compiled(variables["params"]), compiled.memory_analysis().temp_size_in_bytes

    plain, _ = gradient()
    again, _ = gradient(remat=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), plain, again)


def test_unknown_and_unsuitable_policies_are_refused():
    with pytest.raises(ValueError, match="precision is 'float16': give one of"):
        build_model({"name": "gemnet_oc_tiny", "precision": "float16"}, [HEAD])
    with pytest.raises(ValueError, match='"bfloat16" is for GemNet-OC'):
        build_model({"name": "equiformer_v2_tiny", "precision": "bfloat16"}, [HEAD])


def test_frames_of_equiformer_are_exact():
    config = {"name": "equiformer_v2_tiny", "num_blocks": 1, "precision": "tensorfloat32"}
    model = build_model(config, [HEAD])
    batch = make_batch(find_backbone(config).graph)
    variables = init_variables(model, jax.random.key(0), batch)
    found = products(lambda v: predict(model, v, batch)["task"].energy, variables)
    assert {p for _, p in found} == {HIGH, HIGHEST}
