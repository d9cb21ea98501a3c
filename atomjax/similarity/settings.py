"""Settings of a similarity job, and of the studies "study" and "halving" that begin with one."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from atomjax.data.labels import of_any_kind, without_labels
from atomjax.data.settings import DatasetSettings, DataSettings, GraphSettings
from atomjax.runtime.config import ConfigError, Count, Fraction, Range, Settings, WholeNumber
from atomjax.runtime.workflows import WorkflowSettings
from atomjax.similarity.analysis.bias import PARTS
from atomjax.similarity.analysis.columns import Column, all_columns
from atomjax.similarity.features.sampling import DEFAULT_SIZE
from atomjax.similarity.features.summaries import Summary
from atomjax.similarity.measures.registry import DEFAULT, find_measures
from atomjax.training.settings import (
    BatchingSettings,
    FinetuningSettings,
    HeadSettings,
    ModelSettings,
    RunSettings,
    TrainSettings,
)


@dataclass(frozen=True, kw_only=True)
class ExtractorSettings(Settings):
    """The backbone that computes features of atoms.

    Of ``conventions``, "efficient_atom" means reversed edge vectors, a tenth of the edges
    of upstream sets dropped at random, 30 neighbours within 12 Å (8 Å without periodicity) for
    upstream sets, the graph settings of the data set for downstream ones, and of those the first
    structures instead of a sample. It is for EquiformerV2 alone.
    """

    checkpoint: str | None = None
    "Directory of a run or converted checkpoint, or a name in the package; none: its default."
    which: Literal["best", "latest"] = "best"
    "Checkpoint of the run, by validation or the last one."
    graph: GraphSettings = field(default_factory=GraphSettings)
    "Changes to the graphs that it was trained on; those of the data sets do not count."
    batch_size: Count = 32
    "Structures at once, over all devices together."
    conventions: Literal["atomjax", "efficient_atom"] = "atomjax"
    '"efficient_atom" computes features as the code of arXiv:2502.11085 does.'


Strategy = Literal["balanced", "balanced_unique", "random", "stratified", "uniform"]
Unit = Literal["auto", "structure", "class", "trajectory"]


@dataclass(frozen=True, kw_only=True)
class SamplingSettings(Settings):
    """Sampling of the structures that represent a set.

    Units are structures, classes (frames of one molecule, composition, …) or parts of trajectories;
    see ``atomjax.similarity.features.units``. Where a class is too small for its share, its
    structures weigh more.
    """

    strategy: Strategy = "balanced"
    "See `atomjax.similarity.sample`; classes are `Structure.class_key`."
    size: Annotated[int, Range(PARTS)] = DEFAULT_SIZE
    'Structures of each set; only "balanced" may ask for more than there are.'
    seed: int = 0
    "Seed of the draws."
    unit: Unit = "auto"
    'Independent unit; "auto" knows generated sets, classes and some formats.'


@dataclass(frozen=True, kw_only=True)
class ViewSettings(Settings):
    """Further views of the same sets; each view extracts every set once more."""

    strategies: tuple[Strategy, ...] = ()
    "Further ways to draw the sample (Fig. 7 of arXiv:2502.11085)."
    extractors: tuple[ExtractorSettings, ...] = ()
    "Further backbones (Fig. 8); their values cannot be compared, their order can."
    rotations: WholeNumber = 0
    "Times that every candidate's structures are turned at random, to measure their effect."


@dataclass(frozen=True, kw_only=True)
class SelectionSettings(Settings):
    """Selection of structures of the recommended set to pretrain on.

    Features of all its structures are extracted for that, once.
    """

    size: Count
    "Structures to choose."
    method: Literal["greedy", "nearest", "covering", "farthest", "variance"] = "greedy"
    "See [choosing structures inside a set](csi.md#choosing-structures-inside-a-set)."


@dataclass(frozen=True, kw_only=True)
class PlanSettings(Settings):
    """The pretraining that a recommendation implies, whose epochs and structures follow from C.

    Batches and rate are those of section 4 and appendix D of arXiv:2502.11085.
    """

    model: ModelSettings = field(default_factory=ModelSettings)
    "Backbone to pretrain, which need not be the extractor."
    head: HeadSettings = field(default_factory=HeadSettings)
    "Quantities to pretrain on."
    train: TrainSettings = field(
        default_factory=lambda: TrainSettings(batching=BatchingSettings(batch_size=20), epochs=5)
    )
    "Schedule. `epochs` are those wanted where the set has structures enough."
    budget: Count | None = None
    "C = epochs × unique structures, in samples; none trains on all structures."
    seed: int = 0
    "Seed of the pretraining."

    def __post_init__(self):
        super().__post_init__()
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


@dataclass(frozen=True, kw_only=True)
class HalvingSettings(Settings):
    """Rounds of successive halving: who enters each, and with how much of the plan's budget."""

    fractions: tuple[float, ...] = (0.05, 0.2, 1.0)
    "Fractions of `plan.budget`, a round each."
    keep: Fraction = 0.5
    "Fraction of the candidates that go on from round to round, at least one."
    first: Count | None = None
    "Candidates that enter the first round, the nearest ones; none: all."

    def __post_init__(self):
        super().__post_init__()
        fractions = list(self.fractions)
        inside = [fraction for fraction in fractions if 0 < fraction <= 1]
        if not fractions or fractions != sorted(set(inside)):
            raise ConfigError(f"fractions={fractions} must rise, above 0 and at most to 1")


Aggregation = Literal["flat", "mean", "sum", "max"]
Invariance = Literal["none", "scalars", "norms"]


@dataclass(frozen=True, kw_only=True)
class SimilaritySettings(WorkflowSettings):
    """A comparison of data sets, and the study that follows it."""

    workflow: Literal["csi", "statistics", "study", "halving"]
    "Compare; keep statistics; or go on to train on nearest and farthest, or to choose by trials."
    candidates: tuple[DatasetSettings, ...]
    "Upstream sets; of a set with a split, the training part is compared."
    downstream: tuple[DatasetSettings, ...] = ()
    "Tasks, likewise; left out of a study, whose task is that of `finetuning.data`."
    extractor: ExtractorSettings = field(default_factory=ExtractorSettings)
    "Backbone that computes the features."
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    "Structures that stand for each set."
    aggregations: tuple[Aggregation, ...] = ("flat",)
    "Rules that make rows of atoms, combined with all `invariants`."
    invariants: tuple[Invariance, ...] = ("none", "norms")
    "Features that are compared: all, scalars, or norms."
    measures: tuple[str, ...] = tuple(measure.name for measure in DEFAULT)
    'Names of measures, or "module:NAME"; recommendations follow the first.'
    mixtures: tuple[Literal["balanced"] | float, ...] = ("balanced",)
    'Mixtures of all candidates to tabulate: "balanced", or T of fractions ∝ size^(1/T).'
    resamples: int = 200
    "Exchanges of units, by which noise is measured."
    level: float = 0.95
    "Confidence level of the intervals."
    keep_features: bool = False
    "Write all feature rows of the first combination, too."
    views: ViewSettings = field(default_factory=ViewSettings)
    "Further samples, backbones and orientations."
    select: SelectionSettings | None = None
    "Structures to choose of the recommended set for each task; none: no choice."
    plan: PlanSettings = field(default_factory=PlanSettings)
    "Pretraining that follows."
    finetuning: FinetuningSettings | None = None
    "For a study or halving: the task and its trainings."
    halving: HalvingSettings = field(default_factory=HalvingSettings)
    "For halving: its rounds."
    cache_dir: str | None = None
    "Directory of generated sets; none: the run directory."
    workers: WholeNumber = 0
    "Processes that label structures; 0: one per core."
    seed: int = 0
    "Seed of resampling, projection and figures."

    def __post_init__(self):
        super().__post_init__()
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
        if self.workflow not in ("study", "halving"):
            if self.finetuning is not None:
                raise ConfigError('section "finetuning" belongs to workflows "study" and "halving"')
            if self.workflow == "csi" and not self.downstream:
                raise ConfigError("downstream is empty; give at least one task")
            if self.workflow == "statistics" and (self.downstream or self.select is not None):
                raise ConfigError(
                    'workflow "statistics" compares nothing; leave downstream and select out'
                )
            self._check_statistics()
            return
        if self.downstream or len(self.candidates) < 2:
            raise ConfigError(
                f'workflow "{self.workflow}" needs two or more candidates, and takes its task from '
                'finetuning.data; leave "downstream" out'
            )
        if self.finetuning is None:
            raise ConfigError(
                f'workflow "{self.workflow}" needs a section "finetuning", with data and train'
            )
        budget, train = self.plan.budget, self.plan.train
        if self.workflow == "halving" and (
            budget is None or budget * self.halving.fractions[0] < train.epochs
        ):
            raise ConfigError(
                f'plan.budget={budget}: workflow "halving" needs one whose first fraction, '
                f"{self.halving.fractions[0]:g}, is a structure for each of plan.train.epochs="
                f"{train.epochs}"
            )

    def _check_statistics(self):
        given = [d.name for d in (*self.candidates, *self.tasks) if d.kind == "statistics"]
        wanting = {
            "views": self.views != ViewSettings(),
            "select": self.select is not None,
            "workflow": self.workflow == "statistics",
        }
        for name, wants in wanting.items():
            if given and wants:
                raise ConfigError(
                    f"{name} needs structures, and of {', '.join(given)} there are statistics"
                )

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

    def comparison(self) -> Self:
        """The similarity job that a study begins with."""
        return self.replace(
            workflow="csi",
            downstream=self.tasks,
            finetuning=None,
            halving=HalvingSettings(),
        )

    @property
    def summaries(self) -> list[Summary]:
        """Summaries that the measures need, each once."""
        needs = [one for measure in find_measures(self.measures) for one in measure.needs]
        return list({one.name: one for one in needs}.values())

    def as_read(self, dataset: DatasetSettings) -> DatasetSettings:
        """A data set with labels where measures or a selection take them, and without elsewhere."""
        with_labels = self.select is not None or any(one.labels for one in self.summaries)
        return of_any_kind(dataset) if with_labels else without_labels(dataset)

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
    settings: SimilaritySettings, candidate: str, available: int, plan: PlanSettings | None = None
) -> RunSettings:
    """The pretraining on one candidate under the plan's budget."""
    (chosen,) = (dataset for dataset in settings.candidates if dataset.name == candidate)
    plan = plan or settings.plan
    return RunSettings(
        workflow="pretrain",
        model=plan.model,
        head=plan.head,
        data=DataSettings(train=(chosen,), cache_dir=settings.cache_dir, workers=settings.workers),
        train=plan_training(plan.train, plan.budget, available),
        seed=plan.seed,
    )
