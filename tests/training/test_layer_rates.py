import re

import jax.numpy as jnp
import pytest

from atomjax.runtime.config import ConfigError
from atomjax.training.settings import GroupSettings, PlateauSettings, TrainSettings
from atomjax.training.update.layer_rates import all_groups, layer_groups
from atomjax.training.update.optimizer import learning_rate_schedule, parameter_groups


def settings(**changes):
    return TrainSettings(**{"batch_size": 1, "epochs": 40, "final_factor": 0.1, **changes})


def factor_of(path: str, groups) -> float:
    return next((g.multiplier for g in groups if re.search(g.pattern, path)), 1.0)


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("jmp_small", [0.35, 0.40, 0.55, 0.625]),
        ("jmp_large", [0.55, 0.40, 0.30, 0.40, 0.55, 0.625]),
    ],
)
def test_published_factors(name, blocks):
    groups = layer_groups(name, 0.1)
    assert factor_of("backbone/embedding", groups) == 0.3
    assert factor_of("backbone/out_blocks_0/layers_0/kernel", groups) == blocks[0]
    for i, factor in enumerate(blocks):
        assert factor_of(f"backbone/int_blocks_{i}/dense_ca/kernel", groups) == factor
        assert factor_of(f"backbone/out_blocks_{i + 1}/layers_0/kernel", groups) == factor
    for path in ("bases/radial", "edge_emb/kernel", "out_mlp_energy/kernel"):
        assert factor_of(f"backbone/{path}", groups) == 1.0
    assert factor_of("head_aspirin/energy/dense_0/kernel", groups) == 1.0


def test_all_layers_end_at_one_rate():
    for group in layer_groups("jmp_small", 0.1):
        assert group.final_factor is not None
        assert group.multiplier * group.final_factor == pytest.approx(0.1)
    assert {g.final_factor for g in layer_groups("jmp_small", 0.7)} == {0.99}
    assert {g.final_factor for g in layer_groups("jmp_small", 1e-4)} == {0.01}


def test_frozen_parts_come_first_and_own_groups_second():
    own = GroupSettings(pattern="out_mlp", multiplier=0.5)
    chosen = settings(freeze=("embedding", "block_1"), groups=(own,), layer_rates="jmp_small")
    groups = all_groups(chosen)
    assert factor_of("backbone/embedding", groups) == 0.0
    assert factor_of("backbone/int_blocks_1/kernel", groups) == 0.0
    assert factor_of("backbone/out_blocks_2/kernel", groups) == 0.0
    assert factor_of("backbone/int_blocks_2/kernel", groups) == 0.55
    assert factor_of("backbone/out_mlp_energy/kernel", groups) == 0.5
    with pytest.raises(ConfigError, match='"head" is no part; write backbone, embedding, heads'):
        all_groups(settings(freeze=("head",)))


def test_rates_for_another_backbone_are_refused():
    params = {"backbone": {"embedding": jnp.ones(2), "blocks_0": {"kernel": jnp.ones(2)}}}
    with pytest.raises(ConfigError, match=r"int_blocks_0.*matches no parameter"):
        parameter_groups(params, layer_groups("jmp_small", 0.1))
    frozen = (*all_groups(settings(freeze=("backbone",))), GroupSettings(pattern="b", multiplier=1))
    assert parameter_groups(params, frozen)["backbone"]["embedding"] == 0


def test_warmup_and_cosine_are_counted_in_epochs():
    s = settings(
        learning_rate=8e-5,
        warmup_epochs=5,
        warmup_factor=0.1,
        decay_epochs=32,
        plateau=PlateauSettings(),
    )
    schedule = learning_rate_schedule(s, 40 * 10)
    rates = [float(schedule(step)) for step in (0, 50, 185, 320, 399)]
    assert rates == pytest.approx([8e-6, 8e-5, 4.4e-5, 8e-6, 8e-6], rel=1e-5)
    with pytest.raises(ConfigError, match=r"train\.warmup_epochs=5 leaves nothing of the 50 steps"):
        learning_rate_schedule(settings(warmup_epochs=5, decay_epochs=5), 400)


def test_contradicting_phases_are_refused():
    with pytest.raises(ConfigError, match="warmup_steps and warmup_epochs say the same"):
        settings(warmup_steps=1, warmup_epochs=1)
    with pytest.raises(ConfigError, match="decay_epochs=None of epochs=40 leaves no epoch for it"):
        settings(plateau=PlateauSettings())
    with pytest.raises(ConfigError, match=r"factor=1\.5 must be between 0 and 1"):
        PlateauSettings(factor=1.5)
