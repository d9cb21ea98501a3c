"""Settings of the optimisation: its length, batches, loss, validation and checkpoints."""

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
from atomjax.training.settings.update import (
    AveragingSettings,
    LoraSettings,
    OptimizerSettings,
    ScheduleSettings,
)


@dataclass(frozen=True, kw_only=True)
class BatchingSettings(Settings):
    """The batches of training.

    ``fill`` "count" takes batch_size structures for every batch, or one less; "size" takes as many
    as make batches of nearly equal numbers of edges and atoms; "auto" takes a count unless less
    than 0.9 of the padded edges would be real, in as many shapes. The number of steps is the same.
    With ``num_buckets`` 0 batches are padded to as few shapes as leave 0.9 of the edges real: at
    most four, and one for every 200 steps of the run.
    """

    batch_size: Count
    "Structures per step over all devices together; their mean where `fill` is by size."
    fill: Literal["auto", "count", "size"] = "auto"
    "Whether batches have equal counts of structures, or equal sizes."
    accumulation: Count = 1
    "Parts of a batch that each device works through in turn: a step with the memory of a part."
    num_buckets: WholeNumber = 0
    "Classes of size that structures are sorted into, one compilation each; 0: as few as suffice."
    scale_factor_batches: Count = 8
    "Batches from which a new model's scale factors are fitted."


@dataclass(frozen=True, kw_only=True)
class LossSettings(Settings):
    """The loss. Errors are in the model's units, standard deviations of the training labels.

    The weight of the stress is large since its error, a mean over nine components, is in the
    model's units per Å³: some hundred balance the forces.
    """

    energy_coefficient: NotNegative = 1.0
    "Weight of the energy."
    force_coefficient: NotNegative = 10.0
    "Weight of the forces."
    stress_coefficient: NotNegative = 100.0
    "Weight of the stress."
    scalar_loss: Literal["mae", "mse", "huber"] = "mae"
    "Loss of energies and properties."
    force_loss: Literal["l2", "mae", "mse", "huber"] = "l2"
    'Loss of an atom\'s force: of the error\'s length ("l2", "huber") or a mean over components.'
    huber_delta: Positive = 1.0
    "Error from which Huber's function is linear, in the model's units."
    force_reduction: Literal["structure", "atom"] = "structure"
    "Mean over each structure's atoms, then over structures; or over all atoms."
    fixed_atoms: bool = False
    "Train on forces of atoms that are held fixed, as JMP does; no validation or test counts them."


@dataclass(frozen=True, kw_only=True)
class RegularizationSettings(Settings):
    """Noise in training."""

    dropout: Fraction | None = None
    "Rate in the backbone's dense layers; none leaves the model's own."
    edge_dropout: Fraction = 0.0
    "Fraction of directed atom-to-atom edges that are dropped."


@dataclass(frozen=True, kw_only=True)
class ValidationSettings(Settings):
    """Validation, and what follows from it."""

    eval_every: WholeNumber = 0
    "Steps between validations; 0: an epoch."
    eval_batch_size: Count | None = None
    "Structures per evaluated batch; none: those of a training batch."
    select_by: Literal[
        "loss", "energy_mae", "force_mae", "stress_mae", "value_mae", "balanced_error_rate"
    ] = "loss"
    "Metric that chooses the best checkpoint."
    select_property: str | None = None
    "Property whose error chooses it, where the head has several."
    min_improvement: NotNegative = 0.0
    "Smallest relative improvement that counts."
    early_stopping_patience: Count | None = None
    "Validations without improvement before the training stops."


@dataclass(frozen=True, kw_only=True)
class CheckpointingSettings(Settings):
    """Saves of the latest state."""

    checkpoint_every: WholeNumber = 0
    "Steps between saves; 0: as often as validations."
    max_hours: NotNegative | None = None
    "Stop at the first validation or save after so many hours of training."


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Settings):
    """The optimisation: how long, on what batches, by which loss and update."""

    epochs: Count
    "E, passes over the training structures."
    max_structures: Count | None = None
    "N, train on a random subset of this many unique structures; none: all."
    budget: Count | None = None
    "C = E × N; when given, it must agree with the two."
    batching: BatchingSettings
    "Batches."
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    "Optimiser."
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    "Learning rate by step."
    loss: LossSettings = field(default_factory=LossSettings)
    "Loss."
    regularization: RegularizationSettings = field(default_factory=RegularizationSettings)
    "Dropout."
    averaging: AveragingSettings = field(default_factory=AveragingSettings)
    "Averaged weights."
    lora: LoraSettings | None = None
    "Low-rank updates of a pretrained backbone (LoRA); none trains its own weights."
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    "Validation, the choice of the best weights and early stopping."
    checkpointing: CheckpointingSettings = field(default_factory=CheckpointingSettings)
    "Saves, and the time limit."
    log_every: Count = 10
    "Steps between logged training metrics."
    dtype: Literal["float32", "float64"] = "float32"
    'Type of parameters and batches; "float64" needs JAX_ENABLE_X64=1.'
    precision: Literal["float32", "tensorfloat32", "bfloat16"] | None = None
    "Arithmetic of the model's products and features; none leaves the model's own."

    def __post_init__(self):
        super().__post_init__()
        decay, epochs = self.schedule.decay_epochs, self.epochs
        if self.schedule.plateau is not None and (decay or epochs) >= epochs:
            raise ConfigError(
                f"schedule.plateau begins where the cosine ends, but schedule.decay_epochs={decay} "
                f"of epochs={epochs} leaves no epoch for it; lower decay_epochs"
            )

    @property
    def peak_learning_rate(self) -> float:
        """``optimizer.learning_rate`` scaled to the batch size."""
        return self.optimizer.peak_learning_rate(self.batching.batch_size)
