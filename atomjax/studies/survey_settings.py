"""What a survey can be told: the schema of workflow "survey"."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from atomjax.data.settings import DatasetSettings, DataSettings
from atomjax.runtime.config import ConfigError
from atomjax.runtime.names import check_name
from atomjax.runtime.workflows import WorkflowSettings
from atomjax.similarity.settings import (
    ExtractorSettings,
    Invariance,
    SamplingSettings,
    SimilaritySettings,
)
from atomjax.training.settings import (
    FinetuneSettings,
    HeadSettings,
    ModelSettings,
    RunSettings,
    TrainSettings,
)

SCRATCH = "scratch"


@dataclass(frozen=True, kw_only=True)
class StartSettings:
    """One pretraining.

    Attributes:
        name: how reports call it.
        structures: candidate → unique structures N taken of it, a fixed random subset; smaller
            subsets lie within larger ones.
        epochs: E passes over them; the budget is E × N.
        seeds: of the survey's seeds, those that this start has; None: all.
    """

    name: str
    structures: dict[str, int]
    epochs: int
    seeds: tuple[int, ...] | None = None

    def __post_init__(self):
        if not self.structures or min(self.structures.values()) < 1:
            raise ConfigError(f'start "{self.name}" needs at least one structure of each set')

    @property
    def budget(self) -> int:
        """C = epochs × unique structures."""
        return self.epochs * sum(self.structures.values())


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """One downstream task.

    Attributes:
        data: with a split into train, validation and test; only its training part is compared.
        head: what is predicted.
        train: schedule, the same for every start.
    """

    data: DatasetSettings
    head: HeadSettings
    train: TrainSettings


@dataclass(frozen=True, kw_only=True)
class SurveySettings(WorkflowSettings):
    """A whole config.

    Attributes:
        workflow: "survey" (pretrain one model on every start, finetune each on every task, and
            correlate the errors with the CSI).
        candidates: upstream sets. Of a set with a split, the training part is used.
        tasks: downstream.
        starts: pretrainings. Those on a single set with the most common budget are correlated.
        pairs: (start, start it is compared with), reported task by task.
        seeds: of pretraining and finetuning; the model of seed s is finetuned with seed s.
        model: that is pretrained.
        head, train: of the pretrainings; ``epochs`` are those of the start.
        extractor, sampling, invariants, resamples, level: of the comparison; see
            :class:`atomjax.similarity.settings.SimilaritySettings`.
        cache_dir: where generated sets are kept; None keeps them in the run directory.
        workers: processes that label structures; 0 means one per core.
    """

    workflow: Literal["survey"]
    candidates: tuple[DatasetSettings, ...]
    tasks: tuple[TaskSettings, ...]
    starts: tuple[StartSettings, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    model: ModelSettings = field(default_factory=ModelSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    train: TrainSettings
    extractor: ExtractorSettings = field(default_factory=ExtractorSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    invariants: tuple[Invariance, ...] = ("none", "norms")
    resamples: int = 200
    level: float = 0.95
    cache_dir: str | None = None
    workers: int = 0

    def __post_init__(self):
        for name in ("candidates", "tasks", "starts", "seeds"):
            values = [
                value.data.name if name == "tasks" else getattr(value, "name", value)
                for value in getattr(self, name)
            ]
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"{name}={values} must be at least one, all different")
        for start in self.starts:
            if start.seeds is not None and not set(start.seeds) <= set(self.seeds):
                raise ConfigError(
                    f'start "{start.name}" has seeds {list(start.seeds)}, the survey '
                    f"{list(self.seeds)}; give some of those"
                )
        for start in self.starts:
            check_name(start.name, "start")
        known = [dataset.name for dataset in self.candidates]
        for start in self.starts:
            unknown = sorted(set(start.structures) - set(known))
            if unknown or start.name == SCRATCH:
                raise ConfigError(
                    f'start "{start.name}" takes {", ".join(unknown) or "no set"}; candidates are '
                    f'{", ".join(known)}, and "{SCRATCH}" is the name of the start without any'
                )
        names = [*(start.name for start in self.starts), SCRATCH]
        wrong = sorted({name for pair in self.pairs for name in pair} - set(names))
        if wrong:
            raise ConfigError(f"pairs name {', '.join(wrong)}; starts are {', '.join(names)}")

    @property
    def singles(self) -> dict[str, str]:
        """Candidate → its start on that set alone, of the most common budget, with all seeds."""
        alone = [s for s in self.starts if len(s.structures) == 1 and s.seeds is None]
        budgets = [(s.budget, s.epochs) for s in alone]
        if not budgets:
            return {}
        common = max(budgets, key=budgets.count)
        return {next(iter(s.structures)): s.name for s in alone if (s.budget, s.epochs) == common}

    def comparison(self) -> SimilaritySettings:
        """The similarity job of the survey."""
        return SimilaritySettings(
            workflow="csi",
            candidates=self.candidates,
            downstream=tuple(task.data for task in self.tasks),
            extractor=self.extractor,
            sampling=self.sampling,
            invariants=self.invariants,
            mixtures=(),
            resamples=self.resamples,
            level=self.level,
            cache_dir=self.cache_dir,
            workers=self.workers,
        )

    def pretraining(self, start: StartSettings, seed: int) -> RunSettings:
        """The pretraining of one start."""
        sets = tuple(
            dataclasses.replace(dataset, max_structures=start.structures[dataset.name])
            for dataset in self.candidates
            if dataset.name in start.structures
        )
        train = dataclasses.replace(self.train, epochs=start.epochs, budget=start.budget)
        return RunSettings(
            workflow="pretrain",
            model=self.model,
            head=self.head,
            data=DataSettings(train=sets, cache_dir=self.cache_dir, workers=self.workers),
            train=train,
            seed=seed,
        )

    def finetuning(self, task: TaskSettings, seed: int, checkpoint: str | None) -> RunSettings:
        """The finetuning of one start on one task; from random weights without a checkpoint."""
        return RunSettings(
            workflow="finetune",
            model=self.model,
            data=DataSettings(train=(task.data,), cache_dir=self.cache_dir, workers=self.workers),
            train=task.train,
            finetune=FinetuneSettings(checkpoint=checkpoint, head=task.head, seeds=(seed,)),
            seed=seed,
        )
