"""Learning rates by layer, and freezing, under names: both expand into groups of parameters."""

import re
from collections.abc import Mapping

from atomjax.runtime.config import ConfigError
from atomjax.training.settings import GroupSettings, TrainSettings

# JMP (Shoghi et al., ICLR 2024), table 18: initial factors of the embedding, and of each block with
# the output block behind it; the first block takes the output block before it, too.
LAYER_RATES: Mapping[str, tuple[float, tuple[float, ...]]] = {
    "jmp_small": (0.3, (0.35, 0.40, 0.55, 0.625)),
    "jmp_large": (0.3, (0.55, 0.40, 0.30, 0.40, 0.55, 0.625)),
}
FLOOR_BOUNDS = (0.01, 0.99)
NAMES = {"backbone": "^backbone/", "embedding": "^backbone/embedding", "heads": "^head_"}


def all_groups(settings: TrainSettings) -> tuple[GroupSettings, ...]:
    """The groups of a training in the order in which they count.

    What is frozen comes first, then ``groups``, then the layers of ``layer_rates``.
    """
    frozen = tuple(frozen_group(name) for name in settings.freeze)
    return (*frozen, *settings.groups, *layer_groups(settings.layer_rates, settings.final_factor))


def layer_groups(name: str | None, final_factor: float) -> tuple[GroupSettings, ...]:
    """The groups of a published layer-wise decay.

    Each layer begins at its factor times the learning rate, and all end at the same rate: the
    cosine's floor of a layer is final_factor / factor, kept between 0.01 and 0.99.

    Args:
        name: of ``LAYER_RATES``; None gives no groups.
        final_factor: where the cosine of the other parameters ends.
    """
    if name is None:
        return ()
    embedding, blocks = LAYER_RATES[name]
    patterns = [("^backbone/embedding", embedding)]
    for i, factor in enumerate(blocks):
        outputs = "01" if i == 0 else str(i + 1)
        patterns.append((rf"^backbone/(int_blocks_{i}|out_blocks_[{outputs}])/", factor))
    low, high = FLOOR_BOUNDS
    return tuple(
        GroupSettings(
            pattern=pattern,
            multiplier=factor,
            final_factor=min(max(final_factor / factor, low), high),
        )
        for pattern, factor in patterns
    )


def frozen_group(name: str) -> GroupSettings:
    """The group that freezes a named part.

    Args:
        name: "backbone", "embedding", "heads", or "block_<i>" for an interaction or transformer
            block with number i from 0, and its output block.

    Raises:
        ConfigError: on another name.
    """
    if name in NAMES:
        return GroupSettings(pattern=NAMES[name], multiplier=0.0)
    block = re.fullmatch(r"block_(\d+)", name)
    if block is None:
        raise ConfigError(
            f'train.freeze: "{name}" is no part; write {", ".join(NAMES)} or block_0, block_1, ... '
            "(other parameters: train.groups with multiplier 0)"
        )
    i = int(block[1])
    pattern = rf"^backbone/(int_blocks_{i}|out_blocks_{i + 1}|blocks_{i})/"
    return GroupSettings(pattern=pattern, multiplier=0.0)
