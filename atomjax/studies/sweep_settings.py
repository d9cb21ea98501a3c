"""What a sweep can be told: a config, and variants of it."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from atomjax.runtime.config import ConfigError, build, change
from atomjax.runtime.names import check_name
from atomjax.runtime.workflows import WorkflowSettings
from atomjax.studies.transfer import downstream_settings, upstream_settings
from atomjax.training.settings import FinetuneSettings, RunSettings

# Folders of a sweep that are no variants.
TAKEN = ("pretrained", "plots", "data", "compilation_cache")


@dataclass(frozen=True, kw_only=True)
class VariantSettings:
    """One variant of the config.

    Attributes:
        name: of the variant and its folder.
        changes: dotted key of the config → value, such as {"train.weight_decay": 0.01}.
        start: "pretrained", or "scratch" for a downstream model from random weights.
        line: the curve that the variant is a point of.
        x: its place on that curve, such as the number of training structures.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    start: Literal["pretrained", "scratch"] = "pretrained"
    line: str = ""
    x: float | None = None

    def __post_init__(self):
        check_name(self.name, "variant")
        if self.name in TAKEN:
            raise ConfigError(f"variant name {self.name!r} is a folder of the study; give another")
        if bool(self.line) != (self.x is not None):
            raise ConfigError(
                f'variant "{self.name}": line and x go together, the name of a curve and the '
                "place on it"
            )


@dataclass(frozen=True, kw_only=True)
class SweepSettings(WorkflowSettings):
    """A whole config of workflow "sweep".

    Attributes:
        workflow: "sweep".
        base: a config of workflow "pretrain", "finetune" or "transfer". Of "transfer" no scratch
            twins are trained, unless a variant asks for one.
        variants: what is compared.
        seeds: every variant is trained once with each, pretraining included.
        reference: name of the variant that the others are compared with; None: the first.
        x_label: what ``x`` of the variants means.
    """

    workflow: Literal["sweep"]
    base: dict[str, Any]
    variants: tuple[VariantSettings, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    reference: str | None = None
    x_label: str = "training structures"

    def __post_init__(self):
        names = [variant.name for variant in self.variants]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"variants {names} must be at least one, of different names")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds={list(self.seeds)} must be at least one, all different")
        if self.reference is not None and self.reference not in names:
            raise ConfigError(f'reference "{self.reference}" is none of {", ".join(names)}')
        if len({bool(variant.line) for variant in self.variants}) > 1:
            raise ConfigError("some variants have a line and x, some have not; give all or none")


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """The trainings of one variant and seed, in their order.

    Attributes:
        upstream: the pretraining, or None.
        downstream: the finetuning, whose checkpoint is not known yet, or None.
    """

    upstream: RunSettings | None
    downstream: RunSettings | None


def trainings(settings: SweepSettings, variant: VariantSettings, seed: int) -> Trainings:
    """What one variant trains with one seed.

    Raises:
        ConfigError: naming the variant and the key that is wrong.
    """
    try:
        config = build(RunSettings, change(settings.base, {**variant.changes, "seed": seed}))
        return _divide(config, variant.start, seed)
    except ConfigError as error:
        raise ConfigError(f'variant "{variant.name}": {error}') from error


def _divide(config: RunSettings, start: str, seed: int) -> Trainings:
    scratch = start == "scratch"
    if config.workflow == "pretrain":
        if scratch:
            raise ConfigError('start="scratch" is for a base that finetunes')
        return Trainings(upstream=config, downstream=None)
    upstream = None
    if config.workflow == "transfer":
        upstream = None if scratch else upstream_settings(config)
        config = downstream_settings(config)
    finetuning = config.finetune or FinetuneSettings()
    if finetuning.folds:
        raise ConfigError("finetune.folds is not for a sweep; give one fold in the arguments")
    checkpoint = None if scratch else finetuning.checkpoint
    one = dataclasses.replace(finetuning, seeds=(seed,), checkpoint=checkpoint)
    return Trainings(upstream=upstream, downstream=config.replace(finetune=one))
