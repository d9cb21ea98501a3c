"""Settings of a training run: the schema of every workflow's config.

A config file is a nested mapping with these keys; :func:`RunSettings.from_config` turns it into
the dataclasses below and refuses unknown keys, wrong types and combinations that contradict
each other, before anything is computed.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from atomjax.data.settings import DataSettings
from atomjax.runtime.config import ConfigError
from atomjax.runtime.workflows import WorkflowSettings

# Poolings with positions; see ``atomjax.models.heads.pool``.
MOMENTS = ("dipole", "extent")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The backbone: its size and changes to it.

    Attributes:
        name: registered model, for instance "gemnet_oc_small".
        overrides: fields of that model's config to change.
    """

    name: str = "gemnet_oc_small"
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """The head: the quantities to predict from the backbone's features.

    Attributes:
        kind: "energy_forces", "energy", or "scalar" (one property per structure).
        forces: "direct" (from the force outputs) or "conservative" (-dE/dR).
        pooling: combination of the atoms' contributions. Energies are sums; "dipole" is the length
            of Σ q_i (r_i - c) and "extent" Σ a_i |r_i - c|², c the centre of mass, for molecules.
        target: for "scalar", the property's name in ``Structure.targets``.
        unit: for "scalar", the unit of that property, for reports.
        extensive: for "scalar", the property grows with the atoms, so each element's share is
            fitted and taken out first.
        num_layers: linear layers of the head.
        stress: also predict and train the stress, the derivative of the energy by the strain; with
            conservative forces.
        transform: for "scalar", "log" trains on the property's natural logarithm; errors are
            reported of the property itself.
    """

    kind: Literal["energy_forces", "energy", "scalar"] = "energy_forces"
    forces: Literal["direct", "conservative"] = "direct"
    pooling: Literal["sum", "mean", "max", "dipole", "extent"] = "sum"
    target: str | None = None
    unit: str = ""
    extensive: bool = False
    num_layers: int = 5
    stress: bool = False
    transform: Literal["identity", "log"] = "identity"

    def __post_init__(self):
        if self.stress and (self.kind, self.forces) != ("energy_forces", "conservative"):
            raise ConfigError(
                'stress=True is the energy\'s derivative; it needs kind "energy_forces" and '
                'forces "conservative"'
            )
        if self.transform != "identity" and (self.kind != "scalar" or self.extensive):
            raise ConfigError(
                f'transform "{self.transform}" is for kind "scalar" without extensive: the '
                "logarithm of a sum over atoms is none"
            )
        if (self.kind == "scalar") != (self.target is not None):
            raise ConfigError('target names a property for kind "scalar", and only for it')
        if self.kind != "scalar" and self.pooling != "sum":
            raise ConfigError(f'pooling "{self.pooling}" is for kind "scalar"; energies are sums')
        if self.extensive and self.pooling in MOMENTS:
            raise ConfigError(
                f'pooling "{self.pooling}" makes the property of charges at places, from which no '
                "shares of elements can be taken out; leave extensive=True away"
            )


@dataclass(frozen=True, kw_only=True)
class GroupSettings:
    """Parameters that learn at their own rate.

    Attributes:
        pattern: regular expression searched in the path of a parameter, for instance
            "^backbone/int_blocks_0/".
        multiplier: factor of the learning rate; 0 freezes.
        final_factor: final fraction of this group's cosine, in place of ``train.final_factor``.
    """

    pattern: str
    multiplier: float
    final_factor: float | None = None

    def __post_init__(self):
        if self.multiplier < 0:
            raise ConfigError(f"multiplier {self.multiplier} is negative; 0 freezes")


@dataclass(frozen=True, kw_only=True)
class PlateauSettings:
    """Reduces the rate where the validation (``train.select_by``) no longer improves.

    It begins where the cosine ends (``train.decay_epochs``).

    Attributes:
        patience: validations without improvement that are borne; the next one reduces.
        factor: factor that the rate of all parameters is multiplied by.
        threshold: smallest relative improvement that counts.
    """

    patience: int = 5
    factor: float = 0.1
    threshold: float = 1e-4

    def __post_init__(self):
        if self.patience < 0:
            raise ConfigError(f"patience={self.patience} must not be negative")
        if not 0 < self.factor < 1:
            raise ConfigError(f"factor={self.factor} must be between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of the optimisation.

    Attributes:
        batch_size: structures per step over all devices together, on average where batches are
            filled by size.
        fill: "count" takes batch_size structures for every batch, or one less; "size" takes as many
            as make batches of nearly equal numbers of edges and atoms, which wastes less where
            sizes differ much and batches are small; "auto" takes a count unless less than 0.9 of
            the padded edges would be real, in as many shapes. The number of steps is the same.
        epochs: passes over the training structures.
        max_structures: train on a random subset of this many unique structures (None: all).
        budget: C = epochs × unique structures. When given, it must agree with the two.
        accumulation: parts of a batch that each device works through one after the other before
            it updates: the same step with the memory of one part.
        learning_rate: peak learning rate.
        learning_rate_scaling: factor of learning_rate: "linear", batch_size /
            base_batch_size (Goyal et al., arXiv:1706.02677); "sqrt", the root of it (Malladi et
            al., arXiv:2205.10287, for Adam); or "none".
        base_batch_size: batch for which learning_rate was chosen; for these rules.
        warmup_steps: linear warm-up from ``warmup_factor`` × learning_rate.
        warmup_epochs: the length of the warm-up in epochs, instead of warmup_steps.
        warmup_factor: initial fraction of learning_rate; see warmup_steps.
        final_factor: the cosine ends at this fraction of learning_rate.
        decay_epochs: epoch at which the cosine ends, the warm-up included; None: the last one.
        plateau: reduction of the rate from there on; None keeps it.
        beta1, beta2, epsilon, weight_decay: hyperparameters of AdamW.
        clip_norm: bound of the gradient's global norm, or None.
        clip_value: bound of each gradient entry, or None.
        ema_decay: decay of the averaged weights that are validated and tested; 0 keeps none.
        ema_warmup: let the average begin short, with a decay of (1 + n) / (10 + n) after n steps
            until that reaches ema_decay, so that it forgets the initial weights at once.
        scale_shared_gradients: divide the gradient of parameters that several blocks of the model
            read by the number of these blocks, before clipping, as JMP does.
        fixed_atoms: train on the forces of atoms that are held fixed, too, as JMP does; validation
            and test leave them out whatever this is.
        groups: learning-rate multipliers by parameter path; the first that matches counts.
        layer_rates: a published set of groups for the layers of a backbone that is finetuned, of
            GemNet-OC "jmp_small" or "jmp_large"; ``groups`` go before it.
        freeze: parts that are not trained: "backbone", "embedding", "heads", "block_<i>".
        energy_coefficient, force_coefficient: weights of the loss terms.
        stress_coefficient: weight of the stress, whose error is a mean over its nine components, in
            the model's units per Å³ (so that some hundred balance the forces).
        scalar_loss: loss of energies and properties: "mae", "mse" or "huber".
        force_loss: loss of an atom's force: "l2" (length of the error), "mae", "mse" (means over
            its components) or "huber" (of the length).
        huber_delta: error from which Huber's function is linear, in the model's units (standard
            deviations of the training labels).
        force_reduction: "structure" (mean over a structure's atoms, then over structures) or
            "atom" (mean over all atoms).
        dropout: rate in the backbone's dense layers; None leaves the model's own.
        edge_dropout: fraction of directed a2a edges dropped in training.
        num_buckets: classes of size that structures are sorted into, each with a static shape of
            its own (one compilation each). 0 pads batches as they come to as few shapes as leave
            0.9 of the edges real: at most four, and one for every 200 steps of the run.
        scale_factor_batches: batches from which a new model's scale factors are fitted.
        log_every: steps between logged training metrics.
        eval_every: steps between validations; 0 means once per epoch.
        eval_batch_size: structures per evaluated batch; None means batch_size.
        checkpoint_every: steps between saves of the latest state; 0 means once per epoch.
        early_stopping_patience: validations without improvement before stopping, or None.
        min_learning_rate: stop once the plateau has taken the rate below this.
        max_hours: stop at the first validation or save after so many hours of training.
        select_by: validation metric that chooses the best checkpoint: "loss", "energy_mae",
            "force_mae", "stress_mae" or "value_mae".
        min_improvement: smallest relative improvement that counts.
        dtype: type of parameters and batches; "float64" needs JAX_ENABLE_X64=1.
        precision: arithmetic of the model's products and features: "float32", "tensorfloat32" or
            "bfloat16", see ``atomjax.models.precision``; None leaves the model's own.
        shard_optimizer: divide the optimiser's moments and the averaged weights over the devices
            instead of keeping all of them on each; the numbers stay the same, and checkpoints
            too.
    """

    batch_size: int
    epochs: int
    max_structures: int | None = None
    budget: int | None = None
    accumulation: int = 1
    learning_rate: float = 1e-4
    learning_rate_scaling: Literal["none", "linear", "sqrt"] = "none"
    base_batch_size: int | None = None
    warmup_steps: int = 0
    warmup_epochs: int = 0
    warmup_factor: float = 0.2
    final_factor: float = 0.01
    decay_epochs: int | None = None
    plateau: PlateauSettings | None = None
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float | None = 1.0
    clip_value: float | None = None
    ema_decay: float = 0.99
    ema_warmup: bool = field(default=True, metadata={"before": False})
    scale_shared_gradients: bool = False
    fixed_atoms: bool = False
    groups: tuple[GroupSettings, ...] = ()
    layer_rates: str | None = None
    freeze: tuple[str, ...] = ()
    energy_coefficient: float = 1.0
    force_coefficient: float = 10.0
    stress_coefficient: float = 100.0
    scalar_loss: Literal["mae", "mse", "huber"] = "mae"
    force_loss: Literal["l2", "mae", "mse", "huber"] = "l2"
    huber_delta: float = 1.0
    force_reduction: Literal["structure", "atom"] = "structure"
    dropout: float | None = None
    edge_dropout: float = 0.0
    num_buckets: int = 0
    fill: Literal["auto", "count", "size"] = "auto"
    scale_factor_batches: int = 8
    log_every: int = 10
    eval_every: int = 0
    eval_batch_size: int | None = None
    checkpoint_every: int = 0
    early_stopping_patience: int | None = None
    min_learning_rate: float | None = None
    max_hours: float | None = None
    select_by: Literal["loss", "energy_mae", "force_mae", "stress_mae", "value_mae"] = "loss"
    min_improvement: float = 0.0
    dtype: Literal["float32", "float64"] = "float32"
    precision: Literal["float32", "tensorfloat32", "bfloat16"] | None = None
    shard_optimizer: bool = False

    def __post_init__(self):
        for name in ("batch_size", "epochs", "accumulation", "log_every", "scale_factor_batches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("ema_decay", "edge_dropout", "final_factor", "beta1", "beta2"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be between 0 and 1")
        counts = ("warmup_steps", "warmup_epochs", "eval_every", "checkpoint_every", "num_buckets")
        for name in counts:
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)} must not be negative")
        for name in ("learning_rate", "huber_delta"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be positive")
        if (self.learning_rate_scaling == "none") != (self.base_batch_size is None):
            raise ConfigError(
                f'learning_rate_scaling="{self.learning_rate_scaling}" and base_batch_size='
                f"{self.base_batch_size} contradict each other: give both, or neither"
            )
        if self.base_batch_size is not None and self.base_batch_size < 1:
            raise ConfigError(f"base_batch_size={self.base_batch_size} must be at least 1")
        if self.warmup_steps and self.warmup_epochs:
            raise ConfigError("warmup_steps and warmup_epochs say the same; give one of them")
        if self.plateau is not None and (self.decay_epochs or self.epochs) >= self.epochs:
            raise ConfigError(
                f"plateau begins where the cosine ends, but decay_epochs={self.decay_epochs} of "
                f"epochs={self.epochs} leaves no epoch for it; lower decay_epochs"
            )

    @property
    def peak_learning_rate(self) -> float:
        """``learning_rate`` scaled to the batch size."""
        if self.base_batch_size is None:
            return self.learning_rate
        power = {"linear": 1.0, "sqrt": 0.5}[self.learning_rate_scaling]
        return self.learning_rate * (self.batch_size / self.base_batch_size) ** power


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """Finetuning: the checkpoint to start from, and the new task.

    Attributes:
        checkpoint: directory of a pretraining run's checkpoints; None trains from scratch.
        which: "best" by validation or "latest".
        averaged: start from the exponential averages of the weights, as JMP does.
        head_from: head of the checkpoint that the new head starts from, with its scales and, where
            they explain the labels, its element energies; "mean" for the mean of all its heads,
            None for a head from random weights. Only where there is a checkpoint.
        head: the new task's head.
        seeds: for workflow "transfer", one finetuned and one scratch model are trained for each;
            for workflow "finetune", several of them (or folds) make a run for each, with the mean
            and deviation of their errors, and one leaves the choice to ``seed``.
        folds: for workflow "finetune", values of ``arguments.fold`` of the datasets, for
            benchmarks with folds.
        data, train: for workflow "transfer", those of the downstream task (the sections of
            the same names at the top are then the pretraining's).
    """

    checkpoint: str | None = None
    which: Literal["best", "latest"] = "best"
    averaged: bool = True
    head_from: str | None = None
    head: HeadSettings = field(default_factory=HeadSettings)
    seeds: tuple[int, ...] = (0,)
    folds: tuple[int, ...] = ()
    data: DataSettings | None = None
    train: TrainSettings | None = None

    def __post_init__(self):
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds={list(self.seeds)} must be at least one, all different")
        if len(set(self.folds)) < len(self.folds):
            raise ConfigError(f"folds={list(self.folds)} must be all different")
        if self.head_from is not None and self.head.kind == "scalar":
            raise ConfigError("head_from is for energies and forces; leave it out for a property")


@dataclass(frozen=True, kw_only=True)
class RunSettings(WorkflowSettings):
    """A whole config.

    Attributes:
        workflow: "pretrain", "finetune", or "transfer" (pretrain, then finetune the result
            and a scratch twin).
        model: backbone.
        data: datasets.
        train: optimisation.
        head: heads of pretraining, the same for every dataset.
        finetune: for workflows "finetune" and "transfer".
        seed: seed of initialisation, shuffling and dropout.
        notes: reasons for the settings, for the data card.
    """

    workflow: Literal["pretrain", "finetune", "transfer"]
    model: ModelSettings
    data: DataSettings
    train: TrainSettings
    head: HeadSettings = field(default_factory=HeadSettings)
    finetune: FinetuneSettings | None = None
    seed: int = 0
    notes: tuple[str, ...] | None = None

    def __post_init__(self):
        if (self.workflow == "pretrain") != (self.finetune is None):
            raise ConfigError(
                'section "finetune" belongs to workflows "finetune" and "transfer", '
                f'and only to them; workflow is "{self.workflow}"'
            )
        if self.workflow == "transfer" and self.finetune is not None and self.finetune.folds:
            raise ConfigError('finetune.folds is for workflow "finetune"')
        if self.workflow == "transfer" and self.finetune is not None:
            for name in ("data", "train"):
                if getattr(self.finetune, name) is None:
                    raise ConfigError(f'workflow "transfer" needs finetune.{name}')
