"""One tiny model of each kind, compiled once for all tests of a process."""

import jax
import pytest

from atomjax.models import HeadConfig, Prediction, build_model, fit_scale_factors, init_variables
from atomjax.models.equiformer_v2 import EquiformerV2Config
from atomjax.models.gemnet_oc import GemNetOCConfig
from tests.models.conformance import CONFIG, NEAREST, Backbone, Suite, pack_structures, samples

HEADS = (
    HeadConfig(name="direct", kind="energy_forces", forces="direct"),
    HeadConfig(name="conservative", kind="energy_forces", forces="conservative", stress=True),
)
BACKBONES = {
    "gemnet_oc": Backbone(
        {"name": "gemnet_oc_tiny", **GemNetOCConfig.ending_at(CONFIG.cutoffs(periodic=True))},
        CONFIG,
        parameter=("dense_0", "kernel"),
    ),
    # On a grid that fine the rotation error of its activations is rounding.
    "equiformer_v2": Backbone(
        {
            "name": "equiformer_v2_tiny",
            "num_blocks": 1,
            "grid_resolution": 36,
            **EquiformerV2Config.ending_at(NEAREST.cutoffs(periodic=True)),
        },
        NEAREST,
        parameter=("scalar_mlp", "kernel"),
    ),
}


@pytest.fixture(scope="session", params=sorted(BACKBONES))
def suite(request) -> Suite:
    """A fitted model in float64."""
    backbone = BACKBONES[request.param]
    model = build_model(backbone.config, HEADS)
    batch = pack_structures(list(samples().values()), backbone.graph, slack=3)
    variables = init_variables(model, jax.random.key(0), batch)
    variables = fit_scale_factors(model, variables, [batch])
    with jax.enable_x64(True):
        return Suite(model, variables, backbone)


@pytest.fixture(scope="session")
def in_a_wider_shape(suite) -> tuple[dict, dict[str, Prediction]]:
    """Gradient of the suite's loss, and outputs, of all samples with more padding."""
    with jax.enable_x64(True):
        batch = suite.pack(*suite.samples.values(), capacity=suite.capacity.enlarged(40))
        return jax.jit(jax.grad(suite.loss, has_aux=True))(suite.variables, batch)
