"""Settings of a similarity job: the schema of workflows "csi" and "study"."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from atomjax.data.settings import DatasetSettings, DataSettings, GraphSettings
from atomjax.runtime.config import ConfigError
from atomjax.runtime.workflows import WorkflowSettings
from atomjax.similarity.analysis.bias import PARTS
from atomjax.similarity.analysis.columns import Column, all_columns
from atomjax.similarity.features.sampling import DEFAULT_SIZE
from atomjax.similarity.measures.registry import BUILT_IN, find_measures
from atomjax.training.settings import (
    BatchingSettings,
    FinetuningSettings,
    HeadSettings,
    ModelSettings,
    RunSettings,
    TrainSettings,
)


@dataclass(frozen=True, kw_only=True)
class ExtractorSettings:
    """The backbone that computes features of atoms.

    Attributes:
        checkpoint: directory of a run or of a converted checkpoint; None takes the small
            EquiformerV2 that comes with the package.
        which: "best" or "latest".
        graph: changes to the graphs that the extractor was trained on. Those of the
            data sets themselves are for training and do not count here.
        batch_size: structures at once, over all devices together.
        conventions: "efficient_atom" computes features as the code of arXiv:2502.11085 does:
            reversed edge vectors, a tenth of the edges of upstream sets dropped at random, 30
            neighbours within 12 Å (8 Å without periodicity) for upstream sets, the graph settings
            of the data set for downstream ones, and of those the first structures instead of a
            sample. For EquiformerV2 alone.
    """

    checkpoint: str | None = None
    which: Literal["best", "latest"] = "best"
    graph: GraphSettings = field(default_factory=GraphSettings)
    batch_size: int = 32
    conventions: Literal["atomjax", "efficient_atom"] = "atomjax"

    def __post_init__(self):
        if self.batch_size < 1:
            raise ConfigError(f"batch_size={self.batch_size} must be at least 1")


Strategy = Literal["balanced", "balanced_unique", "random", "stratified", "uniform"]
Unit = Literal["auto", "structure", "class", "trajectory"]


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """Sampling of the structures that represent a set.

    Attributes:
        strategy: see ``atomjax.similarity.sample``. Classes are ``Structure.class_key``.
        size: structures drawn from each set; only "balanced" may ask for more than there are,
            and takes them all. Where a class is too small for its share, its structures weigh more.
        seed: seed of the draws.
        unit: independent unit: "structure", "class" (frames of one molecule, composition, …),
            "trajectory" (parts of one), or "auto", which knows generated sets, classes and some
            formats; see ``atomjax.similarity.features.units``.
    """

    strategy: Strategy = "balanced"
    size: int = DEFAULT_SIZE
    seed: int = 0
    unit: Unit = "auto"

    def __post_init__(self):
        if self.size < PARTS:
            raise ConfigError(f"size={self.size} must be at least {PARTS}")


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """Further views of the same sets; each view extracts every set once more.

    Attributes:
        strategies: further ways to draw the sample (Fig. 7 of arXiv:2502.11085).
        extractors: further backbones (Fig. 8). Their values cannot be compared, their order can.
        rotations: number of times that the structures of every candidate are turned at random, each
            by a rotation of its own, to measure how far the distance depends on their orientation.
    """

    strategies: tuple[Strategy, ...] = ()
    extractors: tuple[ExtractorSettings, ...] = ()
    rotations: int = 0

    def __post_init__(self):
        if self.rotations < 0:
            raise ConfigError(f"rotations={self.rotations} must not be negative")


@dataclass(frozen=True, kw_only=True)
class SelectionSettings:
    """Selection of structures of the recommended set to pretrain on.

    Features of all its structures are extracted for that, once.

    Attributes:
        size: structures to choose.
        method: "greedy" or "nearest"; see ``atomjax.similarity.analysis.selection``.
    """

    size: int
    method: Literal["greedy", "nearest"] = "greedy"

    def __post_init__(self):
        if self.size < 1:
            raise ConfigError(f"size={self.size} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """The pretraining that a recommendation implies.

    Attributes:
        model: backbone to pretrain, which need not be the extractor.
        head: head to pretrain.
        train: schedule. ``epochs`` are those wanted where the set has structures enough; epochs,
            ``max_structures`` and ``budget`` of the plan follow from the budget.
        budget: C = epochs × unique structures, in samples; None trains on all structures.
        seed: seed of the pretraining.
    """

    model: ModelSettings = field(default_factory=ModelSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    # Section 4 and appendix D of arXiv:2502.11085.
    train: TrainSettings = field(
        default_factory=lambda: TrainSettings(batching=BatchingSettings(batch_size=20), epochs=5)
    )
    budget: int | None = None
    seed: int = 0

    def __post_init__(self):
        for name in ("budget", "max_structures"):
            if getattr(self.train, name) is not None:
                raise ConfigError(
                    f"train.{name} follows from the plan's budget; leave it out of plan.train and "
                    "set plan.budget"
                )
        if self.budget is not None and self.budget < self.train.epochs:
            raise ConfigError(
                f"budget={self.budget} samples are less than one structure for each of "
                f"train.epochs={self.train.epochs}; raise it"
            )


Aggregation = Literal["flat", "mean", "sum", "max"]
Invariance = Literal["none", "scalars", "norms"]


@dataclass(frozen=True, kw_only=True)
class SimilaritySettings(WorkflowSettings):
    """The whole config of a similarity job.

    Attributes:
        workflow: "csi" (compare and recommend), or "study" (then pretrain on the closest and on
            the farthest set under one budget, finetune both and a scratch twin).
        candidates: upstream sets. Of a set with a split, the training part is compared.
        downstream: tasks, likewise; for "study" left out, since ``finetuning.data`` names the task.
        extractor: features.
        sampling: structures that stand for each set.
        aggregations: rules that make rows of atoms. Every combination with ``invariants`` is
            tabulated; the recommendation follows the first of both.
        invariants: "none" (all features, as published), "scalars" or "norms".
        measures: names of the measures, each tabulated on all of these combinations that it suits;
            the recommendation follows the first. "module:NAME" is imported.
        mixtures: mixtures of all candidates, whose distances are tabulated too: "balanced", or the
            temperature T of fractions ∝ size^(1/T).
        resamples: exchanges of units, by which noise is measured.
        level: confidence level of the intervals.
        keep_features: write all feature rows of the first combination, too.
        views: further samples, backbones and orientations.
        select: choose structures inside the recommended set, for each task; None: do not.
        plan: the pretraining that follows.
        finetuning: for "study".
        cache_dir: directory of generated sets; None keeps them in the run directory.
        workers: processes that label structures; 0 means one per core.
        seed: seed of resampling, projection and figures.
    """

    workflow: Literal["csi", "study"]
    candidates: tuple[DatasetSettings, ...]
    downstream: tuple[DatasetSettings, ...] = ()
    extractor: ExtractorSettings = field(default_factory=ExtractorSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    aggregations: tuple[Aggregation, ...] = ("flat",)
    invariants: tuple[Invariance, ...] = ("none", "norms")
    measures: tuple[str, ...] = tuple(measure.name for measure in BUILT_IN)
    mixtures: tuple[Literal["balanced"] | float, ...] = ("balanced",)
    resamples: int = 200
    level: float = 0.95
    keep_features: bool = False
    views: ViewSettings = field(default_factory=ViewSettings)
    select: SelectionSettings | None = None
    plan: PlanSettings = field(default_factory=PlanSettings)
    finetuning: FinetuningSettings | None = None
    cache_dir: str | None = None
    workers: int = 0
    seed: int = 0

    def __post_init__(self):
        self._check_workflow()
        for name in ("candidates", "aggregations", "invariants", "measures"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty; give at least one")
        check_measures(self.measures)
        names = [dataset.name for dataset in (*self.candidates, *self.tasks)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"two data sets share a name: {', '.join(twice)}; rename one")
        wrong = [name for name in names if "/" in name or name.startswith(".")]
        if wrong:
            raise ConfigError(f"name {wrong[0]!r} cannot name a folder; rename the data set")
        if any(mixture != "balanced" and mixture <= 0 for mixture in self.mixtures):
            raise ConfigError(
                f'mixtures={list(self.mixtures)}: give "balanced" or temperatures above 0'
            )
        if self.resamples < 2 or not 0 < self.level < 1:
            raise ConfigError(
                f"resamples={self.resamples} and level={self.level} give no interval; use at "
                "least 2 resamples and a level between 0 and 1"
            )

    def _check_workflow(self):
        if self.workflow == "csi":
            if not self.downstream:
                raise ConfigError("downstream is empty; give at least one task")
            if self.finetuning is not None:
                raise ConfigError('section "finetuning" belongs to workflow "study"')
            return
        if self.downstream or len(self.candidates) < 2:
            raise ConfigError(
                'workflow "study" needs two or more candidates, and takes its task from '
                'finetuning.data; leave "downstream" out'
            )
        if self.finetuning is None:
            raise ConfigError('workflow "study" needs a section "finetuning", with data and train')

    @classmethod
    def from_earlier(cls, previous: Mapping[str, Any]) -> Mapping[str, Any]:
        """A stored config whose section "finetuning" was called "finetune"."""
        return {{"finetune": "finetuning"}.get(key, key): previous[key] for key in previous}

    @property
    def tasks(self) -> tuple[DatasetSettings, ...]:
        """The downstream sets."""
        if self.finetuning is not None:
            return self.finetuning.data.train
        return self.downstream

    @property
    def variants(self) -> tuple[tuple[Aggregation, Invariance], ...]:
        """Combinations of aggregation and invariance, the deciding one first."""
        return tuple((a, i) for a in self.aggregations for i in self.invariants)

    @property
    def columns(self) -> list[Column]:
        """Columns to tabulate, the deciding column first."""
        return all_columns(
            find_measures(self.measures), [variant_name(*one) for one in self.variants]
        )


def variant_name(aggregation: str, invariance: str) -> str:
    """Name of a variant in reports and files."""
    return aggregation if invariance == "none" else f"{aggregation}-{invariance}"


def check_measures(names: tuple[str, ...]) -> None:
    """Checks that measures are known and differ, and that the first can decide.

    Raises:
        ConfigError: naming the measure.
    """
    measures = find_measures(names)
    called = [measure.name for measure in measures]
    if len(set(called)) < len(called):
        raise ConfigError(f"measures={called} must all be different; leave one out")
    if measures[0].resampling is None:
        able = ", ".join(m.name for m in measures if m.resampling is not None) or "csi"
        raise ConfigError(
            f'measures: "{called[0]}" knows neither interval nor noise floor, so no recommendation '
            f"can follow it; put one first that does: {able}"
        )


def plan_training(train: TrainSettings, budget: int | None, available: int) -> TrainSettings:
    """The schedule that spends a budget on a set.

    Takes as many structures as allow the epochs that ``train`` asks for, and all of a smaller
    set, for more epochs.

    Args:
        train: schedule whose epochs are wished for.
        budget: C, epochs × unique structures; None takes all structures.
        available: training structures of the set.

    Returns:
        ``train`` with epochs E, unique structures N and budget E × N, at most C.
    """
    wanted = available if budget is None else budget // train.epochs
    structures = min(available, wanted)
    epochs = train.epochs if budget is None else budget // structures
    return dataclasses.replace(
        train, epochs=epochs, max_structures=structures, budget=epochs * structures
    )


def implied_pretraining(
    settings: SimilaritySettings, candidate: str, available: int
) -> RunSettings:
    """The pretraining on one candidate under the plan's budget.

    Args:
        settings: settings of the job.
        candidate: name of the upstream set.
        available: training structures to count on.
    """
    (chosen,) = (dataset for dataset in settings.candidates if dataset.name == candidate)
    plan = settings.plan
    return RunSettings(
        workflow="pretrain",
        model=plan.model,
        head=plan.head,
        data=DataSettings(train=(chosen,), cache_dir=settings.cache_dir, workers=settings.workers),
        train=plan_training(plan.train, plan.budget, available),
        seed=plan.seed,
    )
