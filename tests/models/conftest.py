"""One tiny model of each kind, compiled once for all tests of a process."""

import jax
import pytest

from atomjax.models import HeadConfig, build_model, fit_scale_factors, init_variables
from tests.models.conformance import CONFIG, Suite, pack_structures, samples

HEADS = (
    HeadConfig(name="direct", kind="energy_forces", forces="direct"),
    HeadConfig(name="conservative", kind="energy_forces", forces="conservative"),
)
BACKBONES = {"gemnet_oc": {"name": "gemnet_oc_tiny"}}


@pytest.fixture(scope="session", params=sorted(BACKBONES))
def suite(request) -> Suite:
    """A fitted model in float64."""
    model = build_model(BACKBONES[request.param], HEADS)
    batch = pack_structures(list(samples().values()), CONFIG, slack=3)
    variables = init_variables(model, jax.random.key(0), batch)
    variables = fit_scale_factors(model, variables, [batch])
    with jax.enable_x64(True):
        return Suite(model, variables)
