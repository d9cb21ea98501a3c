"""Settings of whole configs: one training, or a pretraining and its finetuning."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from atomjax.data.settings import DatasetSettings, DataSettings
from atomjax.runtime.config import ConfigError, Fraction, Settings
from atomjax.runtime.workflows import WorkflowSettings
from atomjax.training.settings.model import HeadSettings, ModelSettings
from atomjax.training.settings.train import TrainSettings


@dataclass(frozen=True, kw_only=True)
class CheckpointStart(Settings):
    """Parts of a checkpoint that a finetuning takes, and its repetitions."""

    which: Literal["best", "latest"] = "best"
    "Checkpoint of the pretraining, by validation or the last one."
    averaged: bool = True
    "Start from the exponential averages of the weights, as JMP does."
    head_from: str | None = None
    'Head to start from with its scales, "mean" for that of all heads; none: random weights.'
    seeds: tuple[int, ...] = (0,)
    "Seeds, with a training for each; a single one of workflow finetune leaves it to `seed`."

    def __post_init__(self):
        super().__post_init__()
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds={list(self.seeds)} must be at least one, all different")


@dataclass(frozen=True, kw_only=True)
class ReplaySettings(Settings):
    """Structures of the upstream set in every batch of a finetuning, so that it is not forgotten.

    They train the head that the checkpoint had for them. Their test part is tested as that of the
    task, also with a share of 0, which trains on none of them.
    """

    dataset: DatasetSettings
    "The upstream set, with a split that has a test part; its name is that of the head here, and \
`data.root` is not put before its path."
    share: Fraction = 0.1
    "Fraction of the structures of every batch that are replayed."
    labels: Literal["real", "checkpoint"] = "real"
    'Their own labels, or ("checkpoint") what the checkpoint predicts, computed once and kept.'
    head_from: str | None = None
    "Head of the checkpoint that goes on; none: that of the data set's name, or the only one."


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(CheckpointStart):
    """The start of a finetuning."""

    checkpoint: str | None = None
    "Directory of a pretraining, or a name in the package; none trains from random weights."
    folds: tuple[int, ...] = ()
    "Values of `arguments.fold` of the data sets, with a training for each."
    replay: ReplaySettings | None = None
    "Upstream set that is trained on beside the task; none: the task alone."

    def __post_init__(self):
        super().__post_init__()
        if len(set(self.folds)) < len(self.folds):
            raise ConfigError(f"folds={list(self.folds)} must be all different")


@dataclass(frozen=True, kw_only=True)
class RunSettings(WorkflowSettings):
    """One training: of a backbone with a head for every data set, or of a finetuned one."""

    workflow: Literal["pretrain", "finetune", "probe"]
    "Pretrain a backbone, finetune one on a new task, or fit a linear head on its features."
    model: ModelSettings
    "Backbone."
    data: DataSettings
    "Data sets."
    train: TrainSettings
    "Optimisation."
    head: HeadSettings = field(default_factory=HeadSettings)
    "Quantities to predict, with one such head for every data set."
    finetune: FinetuneSettings | None = None
    'Start of a finetuning; for workflow "finetune".'
    seed: int = 0
    "Seed of initialisation, shuffling and dropout; not of the splits."
    notes: tuple[str, ...] | None = None
    "Reasons for the settings, for the data card."

    def __post_init__(self):
        super().__post_init__()
        if self.workflow == "finetune" and self.finetune is None:
            object.__setattr__(self, "finetune", FinetuneSettings())
        if self.workflow == "pretrain" and self.finetune is not None:
            raise ConfigError(
                'section "finetune" belongs to workflow "finetune"; leave it out of a pretraining'
            )
        _check_head(self.head, self.finetune)
        replay = self.finetune and self.finetune.replay
        if replay and replay.dataset.name in [dataset.name for dataset in self.data.train]:
            raise ConfigError(
                f'finetune.replay.dataset has the name "{replay.dataset.name}" of a data set to '
                "finetune on; give it another, and replay.head_from the name in the checkpoint"
            )

    @property
    def start(self) -> FinetuneSettings:
        """Start of the training: section "finetune", or random weights without one."""
        return self.finetune or FinetuneSettings()

    @classmethod
    def from_earlier(cls, previous: Mapping[str, Any]) -> Mapping[str, Any]:
        """A stored config whose section "finetune" had a head, data and train of its own."""
        start = previous.get("finetune") or {}
        own = {key: start[key] for key in ("head", "data", "train") if start.get(key) is not None}
        kept = {key: value for key, value in start.items() if key not in ("head", "data", "train")}
        return with_weight({**previous, **own, **({"finetune": kept} if kept else {})})


@dataclass(frozen=True, kw_only=True)
class PretrainingSettings(Settings):
    """The pretraining of a transfer study."""

    data: DataSettings
    "Upstream data sets."
    train: TrainSettings
    "Optimisation."
    head: HeadSettings = field(default_factory=HeadSettings)
    "Quantities to predict, with one such head for every data set."

    @classmethod
    def from_earlier(cls, previous: Mapping[str, Any]) -> Mapping[str, Any]:
        """A stored section of when a property had the weight of the energy."""
        return with_weight(previous)


@dataclass(frozen=True, kw_only=True)
class FinetuningSettings(CheckpointStart):
    """The finetunings that follow a pretraining, and their twins from random weights."""

    data: DataSettings
    "Downstream data set."
    train: TrainSettings
    "Optimisation."
    head: HeadSettings = field(default_factory=HeadSettings)
    "Quantities to predict."

    def __post_init__(self):
        super().__post_init__()
        if len(self.data.train) != 1:
            raise ConfigError(
                f"data.train has {len(self.data.train)} data sets; a transfer study compares one "
                "downstream task, give one"
            )
        _check_head(self.head, self)
        self.head.check_comparable()

    def run(self, model: ModelSettings, seed: int, notes: tuple[str, ...] | None) -> RunSettings:
        """The finetuning with one seed, whose checkpoint is not known yet."""
        start = FinetuneSettings(
            which=self.which, averaged=self.averaged, head_from=self.head_from, seeds=(seed,)
        )
        return RunSettings(
            workflow="finetune",
            model=model,
            data=self.data,
            train=self.train,
            head=self.head,
            finetune=start,
            seed=seed,
            notes=notes,
        )

    @classmethod
    def from_earlier(cls, previous: Mapping[str, Any]) -> Mapping[str, Any]:
        """A stored section of when it was called "finetune", for checkpoints and folds too."""
        kept = {key: previous[key] for key in previous if key not in ("checkpoint", "folds")}
        return with_weight(kept)


@dataclass(frozen=True, kw_only=True)
class TransferSettings(WorkflowSettings):
    """A pretraining, finetunings of it, and their twins from random weights."""

    workflow: Literal["transfer"]
    "Pretrain, finetune and compare."
    model: ModelSettings
    "Backbone of all."
    pretraining: PretrainingSettings
    "Upstream training."
    finetuning: FinetuningSettings
    "Downstream trainings."
    seed: int = 0
    "Seed of the pretraining."
    notes: tuple[str, ...] | None = None
    "Reasons for the settings, for the data card."

    @classmethod
    def from_earlier(cls, previous: Mapping[str, Any]) -> Mapping[str, Any]:
        """A stored config whose upstream sections were at the top."""
        kept = {key: value for key, value in previous.items() if key not in _EARLIER}
        upstream = {key: previous[key] for key in ("data", "train", "head") if key in previous}
        parts = {"pretraining": upstream, "finetuning": previous.get("finetune")}
        return {**{name: part for name, part in parts.items() if part}, **kept}


# Sections of a transfer study that were at the top of its config.
_EARLIER = ("data", "train", "head", "finetune")


def with_weight(previous: Mapping[str, Any]) -> Mapping[str, Any]:
    """Stored sections of a training whose property had the weight of the energy, as of now."""
    head, train = previous.get("head") or {}, previous.get("train") or {}
    weight = train.get("energy_coefficient", (train.get("loss") or {}).get("energy_coefficient"))
    if head.get("target") is None or weight is None:
        return previous
    return {**previous, "head": {**head, "coefficient": weight}}


def _check_head(head: HeadSettings, start: CheckpointStart | None) -> None:
    if start is not None and start.head_from is not None and head.kind == "scalar":
        raise ConfigError("head_from is for energies and forces; leave it out for properties")
