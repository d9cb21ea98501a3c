"""A small model of every registered backbone, compiled once for all tests of a process."""

import dataclasses

import jax
import pytest

from atomjax.graphs import pack_structures
from atomjax.models import (
    BACKBONES,
    HeadConfig,
    Prediction,
    build_model,
    fit_scale_factors,
    init_variables,
)
from tests.models.conformance import CONFIG, Suite, samples

HEADS = (
    HeadConfig(name="direct", kind="energy_forces", forces="direct"),
    HeadConfig(name="conservative", kind="energy_forces", forces="conservative", stress=True),
)


@pytest.fixture(scope="session", params=sorted(BACKBONES))
def suite(request) -> Suite:
    """A fitted model in float64, whose bases end with its graphs."""
    backbone = BACKBONES[request.param]
    graph = dataclasses.replace(CONFIG, kind=backbone.graph.kind)
    config = {"name": next(iter(backbone.sizes)), **backbone.conformance}
    model = build_model({**config, **backbone.ending_at(graph.cutoffs(periodic=True))}, HEADS)
    batch = pack_structures(list(samples().values()), graph, slack=3)
    variables = init_variables(model, jax.random.key(0), batch)
    variables = fit_scale_factors(model, variables, [batch])
    with jax.enable_x64(True):
        return Suite(model, variables, graph)


@pytest.fixture(scope="session")
def in_a_wider_shape(suite) -> tuple[dict, dict[str, Prediction]]:
    """Gradient of the suite's loss, and outputs, of all samples with more padding."""
    with jax.enable_x64(True):
        batch = suite.pack(*suite.samples.values(), capacity=suite.capacity.enlarged(40))
        return jax.jit(jax.grad(suite.loss, has_aux=True))(suite.variables, batch)
