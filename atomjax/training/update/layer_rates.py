"""Learning rates by layer, and freezing, under names: both expand into groups of parameters."""

import re

from atomjax.models import Backbone
from atomjax.runtime.config import ConfigError
from atomjax.training.settings import GroupSettings, TrainSettings

FLOOR_BOUNDS = (0.01, 0.99)


def all_groups(settings: TrainSettings, backbone: Backbone) -> tuple[GroupSettings, ...]:
    """The groups of a training in the order in which they count.

    What is frozen comes first, then ``groups``, then the layers of ``layer_rates``.

    Raises:
        ConfigError: the backbone has no such part, or no such layer rates.
    """
    optimizer = settings.optimizer
    frozen = (
        GroupSettings(pattern=part_pattern(name, backbone), multiplier=0.0)
        for name in optimizer.freeze
    )
    return (*frozen, *optimizer.groups, *layer_groups(settings, backbone))


def layer_groups(settings: TrainSettings, backbone: Backbone) -> tuple[GroupSettings, ...]:
    """The groups of a published layer-wise decay.

    Each layer begins at its factor times the learning rate, and all end at the same rate: the
    cosine's floor of a layer is final_factor / factor, kept between 0.01 and 0.99.

    Raises:
        ConfigError: the backbone has no layer rates of that name.
    """
    name = settings.optimizer.layer_rates
    if name is None:
        return ()
    if name not in backbone.layer_rates:
        known = ", ".join(backbone.layer_rates) or "none"
        raise ConfigError(
            f'train.optimizer.layer_rates="{name}": {backbone.name} has {known}; leave it out or '
            "give train.optimizer.groups"
        )
    embedding, blocks = backbone.layer_rates[name]
    factors = {part_pattern("embedding", backbone): embedding}
    for i, factor in enumerate(blocks):
        before = backbone.before_blocks if i == 0 else ()
        factors[modules_pattern(*before, *backbone.block(i))] = factor
    low, high = FLOOR_BOUNDS
    return tuple(
        GroupSettings(
            # With LoRA the adapters of a layer learn at its rate.
            pattern=pattern.replace("^", "^(lora/)?", 1),
            multiplier=factor,
            final_factor=min(max(settings.schedule.final_factor / factor, low), high),
        )
        for pattern, factor in factors.items()
    )


def part_pattern(name: str, backbone: Backbone) -> str:
    """Pattern of the paths of a named part's parameters.

    Args:
        name: "backbone", "embedding", "heads", or "block_<i>" for block number i from 0.
        backbone: network that the parts belong to.

    Raises:
        ConfigError: on another name.
    """
    block = re.fullmatch(r"block_(\d+)", name)
    if block is not None:
        return modules_pattern(*backbone.block(int(block[1])))
    patterns = {
        "backbone": "^backbone/",
        "embedding": f"^backbone/{backbone.element_embedding}",
        "heads": "^head_",
    }
    if name not in patterns:
        raise ConfigError(
            f'train.optimizer.freeze: "{name}" is no part; write {", ".join(patterns)} or block_0, '
            "block_1, ... (other parameters: train.optimizer.groups with multiplier 0)"
        )
    return patterns[name]


def modules_pattern(*names: str) -> str:
    """Pattern of the paths of some modules' parameters."""
    return f"^backbone/({'|'.join(names)})/"
