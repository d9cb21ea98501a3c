"""The tangent kernel of a trained model, and what is chosen by it."""

import functools

import jax
import numpy as np
import pytest

from atomjax.batching import GrowingShape
from atomjax.graphs import GraphConfig
from atomjax.inference.predict import Predictor, TrainedHead
from atomjax.inference.tangents import NOISE, select_least_known, tangent_products, tangents
from atomjax.models import HeadConfig, build_model, fit_scale_factors, init_variables, predict
from atomjax.structures import Structure
from tests.training.workflow import MODEL


@pytest.fixture(scope="module")
def structures() -> list[Structure]:
    rng = np.random.default_rng(0)
    chains = [np.cumsum(rng.normal(0.8, 0.15, (n, 3)), axis=0) for n in (4, 5, 6, 4, 5)]
    numbers = [rng.choice([1, 6, 8], len(one)) for one in chains]
    return [Structure(atomic_numbers=z, positions=r) for z, r in zip(numbers, chains, strict=True)]


@pytest.fixture(scope="module")
def model(structures) -> Predictor:
    """A model with random weights."""
    config = {"name": MODEL["name"], **MODEL["overrides"]}
    head, graph = HeadConfig(name="chains", forces="conservative"), GraphConfig()
    (_, batch), *_ = GrowingShape(3).batches(structures, graph)
    network = build_model(config, [head])
    variables = init_variables(network, jax.random.key(0), batch)
    variables = fit_scale_factors(network, variables, [batch])
    return Predictor(config, variables, [TrainedHead(head, graph, None, ())], batch_size=3)


def flat(tree) -> np.ndarray:
    """Derivatives of each output, [outputs, parameters]."""
    leaves = jax.tree.leaves(tree)
    return np.concatenate([np.asarray(x).reshape(x.shape[0], -1) for x in leaves], axis=1)


def test_directions_keep_the_kernel_of_energies_and_forces(structures, model):
    ((group, batch),) = model.batches(structures[:3], model.head())
    assert sorted(group) == [0, 1, 2]

    def outputs(params):
        found = predict(model.network, {**model.variables, "params": params}, batch)["chains"]
        return found.energy, found.forces.ravel()

    params = model.variables["params"]
    energy, forces = (flat(one) for one in jax.jit(jax.jacrev(outputs))(params))
    sketch = jax.jit(functools.partial(tangents, model.network, "chains", 400, 0))
    found = sketch(model.variables, batch)
    sketches = np.asarray(found["energy"]).T, np.asarray(found["forces"]).reshape(400, -1).T
    for exact, sketch in zip((energy, forces), sketches, strict=True):
        lengths = np.sqrt((exact**2).sum(axis=1))
        kept = lengths > 0  # padding has no derivatives
        np.testing.assert_allclose(sketch[~kept], 0, atol=1e-6)
        scale = np.outer(lengths, lengths)[np.ix_(kept, kept)]
        difference = (sketch @ sketch.T - exact @ exact.T)[np.ix_(kept, kept)] / scale
        assert np.abs(difference).max() < 5 / np.sqrt(400)


def test_energies_and_forces_count_alike(structures, model):
    told = []
    products = tangent_products(structures, model, directions=16, told=told.append)
    assert products.shape == (5, 16, 16)
    assert told == [3, 2]
    assert np.trace(products, axis1=1, axis2=2).mean() == pytest.approx(1, rel=1e-5)
    again = tangent_products(structures[::-1], model, directions=16)
    np.testing.assert_allclose(again[::-1], products, rtol=1e-3, atol=1e-5)


def test_each_pick_is_the_least_known_given_those_before():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 5, 4)) * rng.uniform(0.2, 2, (12, 1, 1))
    products = np.einsum("sap,saq->spq", features, features)
    chosen, before = select_least_known(products.astype(np.float32), 6)
    np.testing.assert_allclose(before, (features**2).sum(axis=(1, 2)), rtol=1e-5)
    taken: list[int] = []
    for pick in chosen:
        # Bayesian regression in its other form, by the kernel of the outputs.
        rows = features[taken].reshape(-1, 4)
        kernel = rows @ rows.T + NOISE * np.eye(len(rows))
        variances = []
        for one in features:
            cross = one @ rows.T
            left = one @ one.T - cross @ np.linalg.solve(kernel, cross.T)
            variances.append(np.trace(left))
        assert pick == max(set(range(12)) - set(taken), key=lambda i: variances[i])
        taken.append(int(pick))
