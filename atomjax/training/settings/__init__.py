"""Settings of a training: the schema of its config, each field documented where it is declared."""

from atomjax.training.settings.model import (
    MOMENTS,
    HeadSettings,
    ModelSettings,
    TargetSettings,
)
from atomjax.training.settings.run import (
    FinetuneSettings,
    FinetuningSettings,
    PretrainingSettings,
    ReplaySettings,
    RunSettings,
    TransferSettings,
)
from atomjax.training.settings.train import (
    BatchingSettings,
    CheckpointingSettings,
    LossSettings,
    RegularizationSettings,
    TrainSettings,
    ValidationSettings,
)
from atomjax.training.settings.update import (
    AveragingSettings,
    GroupSettings,
    LoraSettings,
    OptimizerSettings,
    PlateauSettings,
    ScheduleSettings,
)

__all__ = [
    "MOMENTS",
    "AveragingSettings",
    "BatchingSettings",
    "CheckpointingSettings",
    "FinetuneSettings",
    "FinetuningSettings",
    "GroupSettings",
    "HeadSettings",
    "LoraSettings",
    "LossSettings",
    "ModelSettings",
    "OptimizerSettings",
    "PlateauSettings",
    "PretrainingSettings",
    "RegularizationSettings",
    "ReplaySettings",
    "RunSettings",
    "ScheduleSettings",
    "TargetSettings",
    "TrainSettings",
    "TransferSettings",
    "ValidationSettings",
]
