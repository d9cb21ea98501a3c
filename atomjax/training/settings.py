"""What a training run can be told: the schema of every workflow's config.

A config file is a nested mapping with these keys; :func:`RunSettings.from_config` turns it into
the dataclasses below and refuses unknown keys, wrong types and combinations that contradict
each other, before anything is computed.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from atomjax.config import ConfigError, build, to_plain

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The backbone.

    Attributes:
        name: registered model, for instance "gemnet_oc_small".
        overrides: fields of that model's config to change.
    """

    name: str = "gemnet_oc_small"
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """What is predicted from the backbone's features.

    Attributes:
        kind: "energy_forces", "energy", or "scalar" (one property per structure).
        forces: "direct" (from the force outputs) or "conservative" (-dE/dR).
        pooling: how atoms become a structure. Energies are sums.
        target: for "scalar", the property's name in ``Structure.targets``.
        unit: for "scalar", the unit of that property, for reports.
        extensive: for "scalar", the property grows with the atoms, so each element's share is
            fitted and taken out first.
        num_layers: linear layers of the head.
    """

    kind: Literal["energy_forces", "energy", "scalar"] = "energy_forces"
    forces: Literal["direct", "conservative"] = "direct"
    pooling: Literal["sum", "mean", "max"] = "sum"
    target: str | None = None
    unit: str = ""
    extensive: bool = False
    num_layers: int = 5

    def __post_init__(self):
        if (self.kind == "scalar") != (self.target is not None):
            raise ConfigError('target names a property for kind "scalar", and only for it')
        if self.kind != "scalar" and self.pooling != "sum":
            raise ConfigError(f'pooling "{self.pooling}" is for kind "scalar"; energies are sums')


@dataclass(frozen=True, kw_only=True)
class GraphSettings:
    """Interaction graphs; see ``atomjax.graphs.GraphConfig``.

    What is None is what the model is known for (``atomjax.models.default_graph``): 12 Å, 8 Å for
    molecules and 30 neighbours for GemNet-OC; 12 Å and 20 neighbours for EquiformerV2.

    Attributes:
        kind: "gemnet_oc" (four graphs) or "nearest" (one, directed); a model reads one of them.
        cutoff: Å, for structures with a periodic direction.
        cutoff_molecule: Å, for structures without.
        max_neighbors: of the main graph; the limits of the others follow in the ratios of the
            original (20/30, 8/30, 1000/30).
        qint_tags: tags whose atoms take part in quadruplets.
    """

    kind: Literal["gemnet_oc", "nearest"] | None = None
    cutoff: float | None = None
    cutoff_molecule: float | None = None
    max_neighbors: int | None = None
    qint_tags: tuple[int, ...] = (1, 2)


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """How one dataset is divided.

    Attributes:
        train, validation, test: number of structures (int) or share of the dataset (float
            below 1). A train of None takes what the others leave.
        by: "structure", or "class_key" so that no class (molecule, reaction, slab) is in two
            splits.
        seed: of the shuffle, apart from the run's seed so that seeds share a test set.
    """

    train: int | float | None = None
    validation: int | float = 0
    test: int | float = 0
    by: Literal["structure", "class_key"] = "structure"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """One dataset.

    Attributes:
        name: how logs and heads call it.
        kind: "generate" (labelled here) or "read" (from a file).
        generator: for "generate", the name of the generator.
        arguments: of the generator, or further arguments of the reader.
        path: for "read", the file.
        format: for "read", the file's format; None guesses from the name.
        energy_unit, length_unit: for "read", units of the file, required.
        force_unit: for "read"; None means energy_unit / length_unit.
        energy_kind: for "read", what an energy of this file means, required.
        split: how this dataset is divided; None for a dataset used whole.
        graph: interaction graphs of this dataset.
        energy_coefficient, force_coefficient: weights in the loss instead of those of
            ``train``.
    """

    name: str
    kind: Literal["generate", "read"]
    generator: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    path: str | None = None
    format: str | None = None
    energy_unit: str | None = None
    length_unit: str | None = None
    force_unit: str | None = None
    energy_kind: Literal["total", "referenced", "adsorption", "none"] | None = None
    split: SplitSettings | None = None
    graph: GraphSettings = field(default_factory=GraphSettings)
    energy_coefficient: float | None = None
    force_coefficient: float | None = None

    def __post_init__(self):
        if self.kind == "generate":
            self._require("generator")
        else:
            self._require("path", "length_unit", "energy_kind")
            if self.energy_kind != "none":
                self._require("energy_unit")

    def _require(self, *names: str):
        for name in names:
            if getattr(self, name) is None:
                raise ConfigError(
                    f'dataset "{self.name}" of kind "{self.kind}" does not declare {name}; '
                    f"add {name}=..."
                    + (
                        ' ("total", "referenced", "adsorption" or "none")'
                        if name == "energy_kind"
                        else ""
                    )
                )


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The datasets of a run.

    Attributes:
        train: at least one; one head is trained for each.
        validation: datasets with the names of training datasets, used whole. Empty takes the
            validation split of each training dataset.
        test: as validation.
        cache_dir: where generated sets are kept; None keeps them in the run directory.
        workers: processes that label structures; 0 means one per core.
    """

    train: tuple[DatasetSettings, ...]
    validation: tuple[DatasetSettings, ...] = ()
    test: tuple[DatasetSettings, ...] = ()
    cache_dir: str | None = None
    workers: int = 0

    def __post_init__(self):
        names = [dataset.name for dataset in self.train]
        if not names:
            raise ConfigError("data.train is empty; give at least one dataset")
        if len(set(names)) < len(names):
            raise ConfigError(f"two training datasets share a name: {', '.join(names)}")
        for part in ("validation", "test"):
            for dataset in getattr(self, part):
                if dataset.name not in names:
                    raise ConfigError(
                        f'{part} dataset "{dataset.name}" has the name of no training dataset '
                        f"({', '.join(names)}); its head would not exist"
                    )
                split = self.train[names.index(dataset.name)].split
                if split is not None and getattr(split, part):
                    raise ConfigError(
                        f'dataset "{dataset.name}" takes its {part} structures both from its '
                        f"split in data.train and from data.{part}; leave one of them out"
                    )


@dataclass(frozen=True, kw_only=True)
class GroupSettings:
    """Parameters that learn at their own rate.

    Attributes:
        pattern: regular expression searched in the path of a parameter, for instance
            "^backbone/int_blocks_0/".
        multiplier: of the learning rate; 0 freezes.
        final_factor: where this group's cosine ends, instead of ``train.final_factor``.
    """

    pattern: str
    multiplier: float
    final_factor: float | None = None

    def __post_init__(self):
        if self.multiplier < 0:
            raise ConfigError(f"multiplier {self.multiplier} is negative; 0 freezes")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Optimisation.

    Attributes:
        batch_size: structures per step over all devices together.
        epochs: passes over the training structures.
        max_structures: train on a random subset of this many unique structures (None: all).
        budget: C = epochs × unique structures. When given, it must agree with the two.
        learning_rate: peak value.
        warmup_steps: linear warm-up from ``warmup_factor`` × learning_rate.
        warmup_factor: see warmup_steps.
        final_factor: the cosine ends at this fraction of learning_rate.
        beta1, beta2, epsilon, weight_decay: of AdamW.
        clip_norm: bound of the gradient's global norm, or None.
        clip_value: bound of each gradient entry, or None.
        ema_decay: of the averaged weights that are validated and tested; 0 keeps none.
        groups: learning-rate multipliers by parameter path; the first that matches counts.
        energy_coefficient, force_coefficient: weights of the loss terms.
        force_reduction: "structure" (mean over a structure's atoms, then over structures) or
            "atom" (mean over all atoms).
        dropout: of the backbone's dense layers; None leaves the model's own.
        edge_dropout: share of directed a2a edges dropped while training.
        num_buckets: static shapes that batches are padded to (one compilation each).
        scale_factor_batches: batches from which a new model's scale factors are fitted.
        log_every: steps between logged training metrics.
        eval_every: steps between validations; 0 means once per epoch.
        eval_batch_size: structures per evaluated batch; None means batch_size.
        checkpoint_every: steps between saves of the latest state; 0 means once per epoch.
        early_stopping_patience: validations without improvement before stopping, or None.
        select_by: validation metric that chooses the best checkpoint: "loss", "energy_mae",
            "force_mae" or "value_mae".
        min_improvement: smallest relative improvement that counts.
        dtype: of parameters and batches; "float64" needs JAX_ENABLE_X64=1.
    """

    batch_size: int
    epochs: int
    max_structures: int | None = None
    budget: int | None = None
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    warmup_factor: float = 0.2
    final_factor: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float | None = 1.0
    clip_value: float | None = None
    ema_decay: float = 0.99
    groups: tuple[GroupSettings, ...] = ()
    energy_coefficient: float = 1.0
    force_coefficient: float = 10.0
    force_reduction: Literal["structure", "atom"] = "structure"
    dropout: float | None = None
    edge_dropout: float = 0.0
    num_buckets: int = 1
    scale_factor_batches: int = 8
    log_every: int = 10
    eval_every: int = 0
    eval_batch_size: int | None = None
    checkpoint_every: int = 0
    early_stopping_patience: int | None = None
    select_by: Literal["loss", "energy_mae", "force_mae", "value_mae"] = "loss"
    min_improvement: float = 0.0
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self):
        for name in ("batch_size", "epochs", "num_buckets", "log_every", "scale_factor_batches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("ema_decay", "edge_dropout", "final_factor", "beta1", "beta2"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be between 0 and 1")
        for name in ("warmup_steps", "eval_every", "checkpoint_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)} must not be negative")
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate={self.learning_rate} must be positive")


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """What is finetuned, from where.

    Attributes:
        checkpoint: directory of a pretraining run's checkpoints; None trains from scratch.
        which: "best" by validation or "latest".
        head: the new task's head.
        seeds: for workflow "transfer", one finetuned and one scratch model are trained for each.
        data, train: for workflow "transfer", those of the downstream task (the sections of
            the same names at the top are then the pretraining's).
    """

    checkpoint: str | None = None
    which: Literal["best", "latest"] = "best"
    head: HeadSettings = field(default_factory=HeadSettings)
    seeds: tuple[int, ...] = (0,)
    data: DataSettings | None = None
    train: TrainSettings | None = None

    def __post_init__(self):
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds={list(self.seeds)} must be at least one, all different")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """A whole config.

    Attributes:
        workflow: "pretrain", "finetune", or "transfer" (pretrain, then finetune the result
            and a scratch twin).
        model: backbone.
        data: datasets.
        train: optimisation.
        head: heads of pretraining, the same for every dataset.
        finetune: for workflows "finetune" and "transfer".
        seed: of initialisation, shuffling and dropout.
    """

    workflow: Literal["pretrain", "finetune", "transfer"]
    model: ModelSettings
    data: DataSettings
    train: TrainSettings
    head: HeadSettings = field(default_factory=HeadSettings)
    finetune: FinetuneSettings | None = None
    seed: int = 0

    def __post_init__(self):
        if (self.workflow == "pretrain") != (self.finetune is None):
            raise ConfigError(
                'section "finetune" belongs to workflows "finetune" and "transfer", '
                f'and only to them; workflow is "{self.workflow}"'
            )
        if self.workflow == "transfer" and self.finetune is not None:
            for name in ("data", "train"):
                if getattr(self.finetune, name) is None:
                    raise ConfigError(f'workflow "transfer" needs finetune.{name}')

    @classmethod
    def from_config(cls, config: "Mapping[str, Any] | RunSettings") -> "RunSettings":
        """Settings from a nested mapping such as a ``ConfigDict``.

        Raises:
            ConfigError: naming the key, and what to write instead.
        """
        return build(cls, config)

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts and lists, as JSON holds them; ``from_config`` reads them back."""
        return to_plain(self)

    def replace(self, **changes: Any) -> "RunSettings":
        """A copy with some sections exchanged."""
        return dataclasses.replace(self, **changes)
