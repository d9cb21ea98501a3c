"""Settings of the update of the weights: optimiser, learning rate and averages."""

from dataclasses import dataclass, field
from typing import Literal

from atomjax.runtime.config import (
    ConfigError,
    Count,
    Fraction,
    NotNegative,
    Positive,
    Settings,
    WholeNumber,
)


@dataclass(frozen=True, kw_only=True)
class GroupSettings(Settings):
    """Parameters that learn at their own rate."""

    pattern: str
    'Regular expression searched in the path of a parameter, such as "^backbone/int_blocks_0/".'
    multiplier: NotNegative
    "Factor of the learning rate; 0 freezes."
    final_factor: Fraction | None = None
    "Final fraction of this group's cosine, in place of `schedule.final_factor`."


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings(Settings):
    """AdamW, clipping, and the rates of single parameters.

    The factor of ``learning_rate`` by ``learning_rate_scaling`` is batch_size / base_batch_size
    ("linear"; Goyal et al., arXiv:1706.02677) or its root ("sqrt"; Malladi et al.,
    arXiv:2205.10287, for Adam).
    """

    learning_rate: Positive = 1e-4
    "Peak learning rate."
    learning_rate_scaling: Literal["none", "linear", "sqrt"] = "none"
    "Growth of the learning rate with the batch."
    base_batch_size: Count | None = None
    "Structures per step for which `learning_rate` was chosen, for this scaling."
    beta1: Fraction = 0.9
    "Decay of AdamW's mean of the gradients."
    beta2: Fraction = 0.95
    "Decay of AdamW's mean of the squared gradients."
    epsilon: NotNegative = 1e-8
    "AdamW's addition to the denominator."
    weight_decay: NotNegative = 0.1
    "AdamW's weight decay, times the learning rate."
    clip_norm: Positive | None = 1.0
    "Bound of the gradient's global norm."
    clip_value: Positive | None = None
    "Bound of each entry of the gradient."
    scale_shared_gradients: bool = False
    "Divide gradients of weights that several blocks read by their number, as JMP does."
    groups: tuple[GroupSettings, ...] = ()
    "Learning rates by parameter path; the first group that matches counts."
    layer_rates: str | None = None
    'A backbone\'s published groups, of GemNet-OC "jmp_small" or "jmp_large"; `groups` come first.'
    freeze: tuple[str, ...] = ()
    'Parts that are not trained: "backbone", "embedding", "heads", "block_<i>".'
    shard_optimizer: bool = False
    "Divide moments and averaged weights over the devices; numbers and checkpoints stay the same."

    def __post_init__(self):
        super().__post_init__()
        if (self.learning_rate_scaling == "none") != (self.base_batch_size is None):
            raise ConfigError(
                f'learning_rate_scaling="{self.learning_rate_scaling}" and base_batch_size='
                f"{self.base_batch_size} contradict each other: give both, or neither"
            )

    def peak_learning_rate(self, batch_size: int) -> float:
        """``learning_rate`` scaled to the structures per step."""
        if self.base_batch_size is None:
            return self.learning_rate
        power = {"linear": 1.0, "sqrt": 0.5}[self.learning_rate_scaling]
        return self.learning_rate * (batch_size / self.base_batch_size) ** power


@dataclass(frozen=True, kw_only=True)
class LoraSettings(Settings):
    """Low-rank updates of dense kernels, trained in place of the backbone (arXiv:2106.09685).

    The update of a kernel is alpha / rank · D U, with D [inputs, rank] random and U [rank, outputs]
    zero at first; their paths are those of the kernels below ``lora/``, for ``optimizer.groups``.
    Kernels smaller than their update stay as they are. Checkpoints hold merged kernels.
    """

    rank: Count
    "Rank of the updates; 4 to 16 are usual."
    alpha: Positive | None = None
    "Scale of the updates times the rank; none: the rank, a scale of 1."
    pattern: str = "^backbone/.*kernel$"
    "Regular expression searched in the paths of the backbone's kernels, of those to adapt."
    freeze_rest: bool = True
    "Train nothing else of the backbone; false: all but kernels and what `optimizer.freeze` names."


@dataclass(frozen=True, kw_only=True)
class PlateauSettings(Settings):
    """Reduction of the rate where validation (``validation.select_by``) no longer improves."""

    patience: WholeNumber = 5
    "Validations without improvement that are borne; the next one reduces."
    factor: Fraction = 0.1
    "Factor of the rate of all parameters."
    threshold: NotNegative = 1e-4
    "Smallest relative improvement that counts."

    def __post_init__(self):
        super().__post_init__()
        if self.factor in (0, 1):
            raise ConfigError(f"factor={self.factor} must lie between 0 and 1, without these")


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings(Settings):
    """The learning rate by step: linear warm-up, cosine, reductions on plateaus."""

    warmup_steps: WholeNumber = 0
    "Length of the warm-up, in steps."
    warmup_epochs: WholeNumber = 0
    "Length of the warm-up, in epochs; instead of `warmup_steps`."
    warmup_factor: Fraction = 0.2
    "Fraction of the peak rate at which the warm-up begins."
    final_factor: Fraction = 0.01
    "Fraction of the peak rate at which the cosine ends."
    decay_epochs: Count | None = None
    "Epoch at which the cosine ends, the warm-up included; none: the last one."
    plateau: PlateauSettings | None = None
    "Reduction of the rate once the cosine has ended; none keeps it."
    min_learning_rate: NotNegative | None = None
    "Stop once the plateau has taken the rate below this."

    def __post_init__(self):
        super().__post_init__()
        if self.warmup_steps and self.warmup_epochs:
            raise ConfigError("warmup_steps and warmup_epochs say the same; give one of them")


@dataclass(frozen=True, kw_only=True)
class AveragingSettings(Settings):
    """The exponential moving average of the weights, which is validated and tested."""

    ema_decay: Fraction = 0.99
    "Decay per step; 0 keeps no average."
    ema_warmup: bool = field(default=True, metadata={"before": False})
    "Begin with a decay of (1 + n) / (10 + n) after n steps, to forget the initial weights."
