import re

import flax.traverse_util
import jax
import pytest

from atomjax.graphs import pack_structures
from atomjax.models import BACKBONES, HeadConfig, build_model, init_variables
from atomjax.models.equiformer_v2 import EQUIFORMER_V2
from atomjax.models.gemnet_oc import GEMNET_OC
from atomjax.runtime.config import ConfigError
from atomjax.structures import Structure
from atomjax.training.settings import GroupSettings, PlateauSettings
from atomjax.training.update.layer_rates import all_groups
from atomjax.training.update.optimizer import (
    learning_rate_schedule,
    parameter_groups,
    shared_divisors,
)
from tests.training.sections import train_settings


def settings(**changes):
    return train_settings(**{"batch_size": 1, "epochs": 40, "final_factor": 0.1, **changes})


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
    groups = all_groups(settings(layer_rates=name), GEMNET_OC)
    assert factor_of("backbone/embedding", groups) == 0.3
    assert factor_of("backbone/out_blocks_0/layers_0/kernel", groups) == blocks[0]
    for i, factor in enumerate(blocks):
        assert factor_of(f"backbone/int_blocks_{i}/dense_ca/kernel", groups) == factor
        assert factor_of(f"backbone/out_blocks_{i + 1}/layers_0/kernel", groups) == factor
    for path in ("bases/radial", "edge_emb/kernel", "out_mlp_energy/kernel"):
        assert factor_of(f"backbone/{path}", groups) == 1.0
    assert factor_of("head_aspirin/energy/dense_0/kernel", groups) == 1.0


def test_adapters_learn_at_the_rate_of_their_layer():
    groups = all_groups(settings(layer_rates="jmp_small"), GEMNET_OC)
    assert factor_of("lora/backbone/int_blocks_1/dense_ca/kernel/down", groups) == 0.40
    params = {"lora": {"backbone": {"bases": {"down": 0}}}, "backbone": {"bases": {"kernel": 0}}}
    divisors = shared_divisors(params, [("^backbone/bases/", 4)])
    assert divisors["lora"]["backbone"] == {"bases": {"down": 4}}


def test_all_layers_end_at_one_rate():
    def layers(final_factor):
        chosen = settings(layer_rates="jmp_small", final_factor=final_factor)
        return all_groups(chosen, GEMNET_OC)

    for group in layers(0.1):
        assert group.final_factor is not None
        assert group.multiplier * group.final_factor == pytest.approx(0.1)
    assert {g.final_factor for g in layers(0.7)} == {0.99}
    assert {g.final_factor for g in layers(1e-4)} == {0.01}


def test_frozen_parts_come_first_and_own_groups_second():
    own = GroupSettings(pattern="out_mlp", multiplier=0.5)
    chosen = settings(freeze=("embedding", "block_1"), groups=(own,), layer_rates="jmp_small")
    groups = all_groups(chosen, GEMNET_OC)
    assert factor_of("backbone/embedding", groups) == 0.0
    assert factor_of("backbone/int_blocks_1/kernel", groups) == 0.0
    assert factor_of("backbone/out_blocks_2/kernel", groups) == 0.0
    assert factor_of("backbone/int_blocks_2/kernel", groups) == 0.55
    assert factor_of("backbone/out_mlp_energy/kernel", groups) == 0.5
    with pytest.raises(ConfigError, match='"head" is no part; write backbone, embedding, heads'):
        all_groups(settings(freeze=("head",)), GEMNET_OC)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_named_parts_are_those_of_every_backbone(name):
    backbone = BACKBONES[name]
    model = build_model({"name": next(iter(backbone.sizes))}, [HeadConfig(name="a")])
    batch = pack_structures([Structure(atomic_numbers=[8], positions=[[0, 0, 0]])], backbone.graph)
    params = jax.eval_shape(lambda: init_variables(model, jax.random.key(0), batch))["params"]
    parts = ("embedding", "block_0", "block_1", "heads", "backbone")
    labels = parameter_groups(params, all_groups(settings(freeze=parts), backbone))
    frozen = flax.traverse_util.flatten_dict(labels, sep="/")
    assert [path for path, label in frozen.items() if label == 0] == [
        f"backbone/{backbone.element_embedding}"
    ]
    assert set(frozen.values()) == set(range(len(parts)))


def test_rates_of_another_backbone_are_refused():
    with pytest.raises(ConfigError, match=r'layer_rates="jmp_small": equiformer_v2 has none'):
        all_groups(settings(layer_rates="jmp_small"), EQUIFORMER_V2)
    with pytest.raises(ConfigError, match=r"gemnet_oc has jmp_small, jmp_large"):
        all_groups(settings(layer_rates="jmp_smal"), GEMNET_OC)


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
    with pytest.raises(ConfigError, match=r"warmup_epochs=5 leaves nothing of the 50 steps"):
        learning_rate_schedule(settings(warmup_epochs=5, decay_epochs=5), 400)


def test_contradicting_phases_are_refused():
    with pytest.raises(ConfigError, match="warmup_steps and warmup_epochs say the same"):
        settings(warmup_steps=1, warmup_epochs=1)
    with pytest.raises(ConfigError, match="decay_epochs=None of epochs=40 leaves no epoch for it"):
        settings(plateau=PlateauSettings())
    with pytest.raises(ConfigError, match=r"factor=1\.5 must be between 0 and 1"):
        PlateauSettings(factor=1.5)
