"""Scale factors: fitted from data, refused when not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atomjax.graphs import pack_structures
from atomjax.models import (
    HeadConfig,
    ScaleFactorError,
    build_model,
    check_fitted,
    fit_scale_factors,
    init_variables,
)
from atomjax.models.layers import masked_variance
from tests.models.conformance import CONFIG, samples


@pytest.fixture(scope="module")
def fitted():
    """Model, fresh variables, batches of one shape."""
    model = build_model({"name": "gemnet_oc_tiny"}, [HeadConfig(name="a")])
    methanol, slab = samples()["methanol"], samples()["slab"]
    both = pack_structures([methanol, slab], CONFIG, slack=4)
    variables = init_variables(model, jax.random.key(0), both)
    return model, variables, both


def test_unfitted_models_are_refused(fitted):
    _, variables, _ = fitted
    with pytest.raises(ScaleFactorError, match="fit_scale_factors") as error:
        check_fitted(variables)
    assert "backbone/int_blocks_0" in str(error.value)
    check_fitted({"params": {}, "scale_factors": {}})
    broken = jax.tree.map(jnp.ones_like, variables["scale_factors"])
    check_fitted({"scale_factors": broken})
    broken["backbone"]["out_blocks_0"]["scale_sum"]["scale_factor"] = jnp.nan
    with pytest.raises(ScaleFactorError, match=r"1 of .*out_blocks_0/scale_sum"):
        check_fitted({"scale_factors": broken})


def test_fitted_layers_keep_the_variance_of_their_input(fitted):
    model, variables, batch = fitted
    result = fit_scale_factors(model, variables, [batch])
    check_fitted(result)
    # Fitting again with the factors in place must change nothing: they are relative to x alone.
    again = fit_scale_factors(model, result, [batch])
    for a, b in zip(
        jax.tree.leaves(result["scale_factors"]), jax.tree.leaves(again["scale_factors"]),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=1e-5)
    # Energies of a fitted model are of order one, not of the order of its sums.
    factors = [float(x) for x in jax.tree.leaves(result["scale_factors"])]
    assert all(0 < factor < 1e3 for factor in factors)
    assert len({round(factor, 6) for factor in factors}) > len(factors) // 2


def test_fitting_does_not_see_padding(fitted):
    model, variables, batch = fitted
    wide = pack_structures([samples()["methanol"], samples()["slab"]], CONFIG, slack=30)
    for a, b in zip(
        jax.tree.leaves(fit_scale_factors(model, variables, [batch])["scale_factors"]),
        jax.tree.leaves(fit_scale_factors(model, variables, [wide])["scale_factors"]),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=2e-4)


def test_data_without_quadruplets_do_not_suffice(fitted):
    model, variables, _ = fitted
    water = pack_structures([samples()["three atoms"]], CONFIG)
    with pytest.raises(ScaleFactorError, match="at least four atoms") as error:
        fit_scale_factors(model, variables, [water])
    assert "quad_interaction" in str(error.value)


def test_masked_variance_is_that_of_the_real_rows():
    x = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    mask = np.zeros((4, 5), bool)
    mask[1:3, :4] = True
    variance, count = masked_variance(jnp.asarray(x), jnp.asarray(mask))
    assert int(count) == 8
    assert float(variance) == pytest.approx(x[mask].var(axis=0, ddof=1).mean(), rel=1e-5)
