from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atomjax.runtime.config import ConfigError
from atomjax.training.settings import GroupSettings
from atomjax.training.update.optimizer import (
    average_decay,
    learning_rate_schedule,
    make_optimizer,
    parameter_groups,
    shared_divisors,
    update_average,
)
from tests.training.sections import train_settings


def settings(**changes):
    return train_settings(
        **{"batch_size": 1, "epochs": 1, "learning_rate": 1e-2, "weight_decay": 0.0, **changes}
    )


def update(optimizer: optax.GradientTransformation, grads: Any, state: Any, params: Any) -> Any:
    return optimizer.update(grads, state, params)


PARAMS: dict[str, Any] = {
    "backbone": {"block_0": {"kernel": jnp.ones((2, 2))}, "block_1": {"kernel": jnp.ones(3)}},
    "head_a": {"kernel": jnp.ones(2)},
}


def test_schedule_warms_up_linearly_and_ends_at_the_floor():
    schedule: Any = learning_rate_schedule(settings(warmup_steps=10, final_factor=0.1), 110)
    rates = [float(schedule(step)) for step in (0, 5, 10, 60, 110)]
    assert rates == pytest.approx([2e-3, 6e-3, 1e-2, 5.5e-3, 1e-3], rel=1e-5)


@pytest.mark.parametrize(
    ("rule", "peak"), [({}, 1e-2), ({"learning_rate_scaling": "linear"}, 16e-2),
                       ({"learning_rate_scaling": "sqrt"}, 4e-2)],
)  # fmt: skip
def test_rate_is_scaled_to_the_batch(rule, peak):
    base = {"base_batch_size": 20} if rule else {}
    schedule: Any = learning_rate_schedule(settings(batch_size=320, **rule, **base), 100)
    assert float(schedule(0)) == pytest.approx(peak, rel=1e-5)


def test_a_rule_without_its_base_is_refused():
    with pytest.raises(ConfigError, match=r'learning_rate_scaling="sqrt" and base_batch_size=None'):
        settings(learning_rate_scaling="sqrt")
    with pytest.raises(ConfigError, match=r'learning_rate_scaling="none" and base_batch_size=20'):
        settings(base_batch_size=20)


def test_warmup_longer_than_the_run_is_refused():
    with pytest.raises(ConfigError, match=r"train\.schedule\.warmup_steps=10.*8 steps"):
        learning_rate_schedule(settings(warmup_steps=10), 8)


def test_adamw_equals_optax_adamw():
    s = settings(clip_norm=None, weight_decay=0.1, final_factor=1.0)
    ours = make_optimizer(s, PARAMS, 10, ())
    reference = optax.adamw(1e-2, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.1)
    grads = jax.tree.map(lambda p: 0.3 * p, PARAMS)
    a: Any = PARAMS
    b: Any = PARAMS
    state_a, state_b = ours.init(a), reference.init(b)
    for _ in range(3):
        updates, state_a = update(ours, grads, state_a, a)
        a = optax.apply_updates(a, updates)
        updates, state_b = update(reference, grads, state_b, b)
        b = optax.apply_updates(b, updates)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)


def test_groups_scale_rates_and_freeze():
    groups = (
        GroupSettings(pattern="block_0", multiplier=0.0),
        GroupSettings(pattern="^backbone/", multiplier=0.5),
    )
    optimizer = make_optimizer(settings(clip_norm=None), PARAMS, 10, groups)
    state = optimizer.init(PARAMS)
    updates, _ = update(optimizer, jax.tree.map(jnp.ones_like, PARAMS), state, PARAMS)
    block_0 = updates["backbone"]["block_0"]["kernel"]
    assert np.all(np.asarray(block_0) == 0)
    np.testing.assert_allclose(updates["backbone"]["block_1"]["kernel"], -5e-3, rtol=1e-5)
    np.testing.assert_allclose(updates["head_a"]["kernel"], -1e-2, rtol=1e-5)
    moments = [leaf.shape for leaf in jax.tree.leaves(state)]
    assert (2, 2) not in moments


def test_frozen_gradients_do_not_count_in_the_norm():
    frozen = (GroupSettings(pattern="backbone", multiplier=0.0),)
    s = settings(clip_norm=1.0, epsilon=1.0, beta1=0.0, beta2=0.0)
    optimizer = make_optimizer(s, PARAMS, 10, frozen)
    grads: Any = {
        **jax.tree.map(lambda p: 1e6 * p, PARAMS),
        "head_a": {"kernel": jnp.array([0.3, 0.4])},
    }
    updates, _ = update(optimizer, grads, optimizer.init(PARAMS), PARAMS)
    expected = -1e-2 * np.array([0.3 / 1.3, 0.4 / 1.4])
    np.testing.assert_allclose(updates["head_a"]["kernel"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("bound", "clipped"),
    [({"clip_norm": 1.0}, [0.6, 0.8]), ({"clip_norm": None, "clip_value": 3.5}, [3.0, 3.5])],
)
def test_clipping_by_norm_and_by_value(bound, clipped):
    params = {"w": jnp.zeros(2)}
    optimizer = make_optimizer(settings(epsilon=1.0, beta1=0.0, beta2=0.0, **bound), params, 10, ())
    updates, _ = update(optimizer, {"w": jnp.array([3.0, 4.0])}, optimizer.init(params), params)
    g = np.array(clipped)
    np.testing.assert_allclose(updates["w"], -1e-2 * g / (g + 1), rtol=1e-5)


def test_group_floor_replaces_the_common_one():
    groups = (GroupSettings(pattern="head_a", multiplier=2.0, final_factor=0.5),)
    s = settings(clip_norm=None, final_factor=0.0, beta1=0.0, beta2=0.0)
    optimizer = make_optimizer(s, PARAMS, 4, groups)
    state = optimizer.init(PARAMS)
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    for _ in range(5):
        updates, state = update(optimizer, grads, state, PARAMS)
    np.testing.assert_allclose(updates["head_a"]["kernel"], -1e-2, rtol=1e-5)
    np.testing.assert_allclose(updates["backbone"]["block_1"]["kernel"], 0.0, atol=1e-9)


def test_pattern_that_matches_nothing_is_refused():
    groups = [GroupSettings(pattern="blok_0", multiplier=0.1)]
    with pytest.raises(ConfigError, match=r'groups\[0\].*"blok_0".*backbone/block_0'):
        parameter_groups(PARAMS, groups)


def test_average_follows_its_recurrence():
    average: Any = update_average({"w": jnp.array(1.0)}, {"w": jnp.array(2.0)}, 0.99)
    assert float(average["w"]) == pytest.approx(0.99 * 1.0 + 0.01 * 2.0)


def averaged(steps: int, decay: float, *, warmup: bool) -> float:
    """The share of the initial weights in the average after some steps."""
    average: Any = {"w": jnp.array(1.0)}
    for step in range(1, steps + 1):
        of_step = average_decay(decay, jnp.array(step, jnp.int32), warmup=warmup)
        average = update_average(average, {"w": jnp.array(0.0)}, of_step)
    return float(average["w"])


def test_an_average_that_warms_up_forgets_the_initial_weights():
    # As the originals average, four fifths of the 20th step's average are the initial weights.
    assert averaged(20, 0.99, warmup=False) == pytest.approx(0.99**20, rel=1e-5)
    assert averaged(20, 0.99, warmup=True) < 1e-6
    decays = [float(average_decay(0.99, jnp.array(n), warmup=True)) for n in (1, 20, 890, 10_000)]
    assert decays == pytest.approx([2 / 11, 21 / 30, 0.99, 0.99], rel=1e-6)
    assert float(average_decay(0.0, jnp.array(5), warmup=True)) == 0


SHARED = (("^backbone/block_0/", 4), ("^backbone/", 2))


@pytest.mark.parametrize(("scaled", "factor"), [(True, 0.5), (False, 1.0)])
def test_shared_gradients_are_divided_before_clipping(scaled, factor):
    s = settings(clip_norm=1.0, epsilon=1.0, beta1=0.0, beta2=0.0, scale_shared_gradients=scaled)
    params: dict[str, Any] = {"backbone": {"w": jnp.zeros(1)}, "head_a": {"w": jnp.zeros(1)}}
    grads = {"backbone": {"w": jnp.array([6.0])}, "head_a": {"w": jnp.array([4.0])}}
    optimizer = make_optimizer(s, params, 10, (), SHARED)
    updates, _ = update(optimizer, grads, optimizer.init(params), params)
    norm = np.hypot(6 * factor, 4)
    for name, gradient in (("backbone", 6 * factor), ("head_a", 4)):
        g = gradient / norm
        np.testing.assert_allclose(updates[name]["w"], -1e-2 * g / (g + 1), rtol=1e-5)


def test_the_first_pattern_says_how_many_blocks_share_a_parameter():
    divisors = shared_divisors(PARAMS, SHARED)
    assert divisors == {
        "backbone": {"block_0": {"kernel": 4}, "block_1": {"kernel": 2}},
        "head_a": {"kernel": 1},
    }


def test_states_keep_their_paths_whether_gradients_are_scaled():
    plain, scaled = (
        make_optimizer(settings(scale_shared_gradients=on), PARAMS, 10, (), SHARED).init(PARAMS)
        for on in (False, True)
    )
    assert jax.tree.structure(plain) == jax.tree.structure(scaled)
