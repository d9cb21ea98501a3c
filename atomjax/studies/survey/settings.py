"""Settings of a survey: starts, tasks, and the trainings that follow from them."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from atomjax.data.settings import DatasetSettings, DataSettings
from atomjax.runtime.config import ConfigError, Count, Settings, WholeNumber
from atomjax.runtime.names import check_name
from atomjax.runtime.workflows import WorkflowSettings
from atomjax.similarity.settings import (
    ExtractorSettings,
    Invariance,
    SamplingSettings,
    SimilaritySettings,
)
from atomjax.studies.transfer import SCRATCH
from atomjax.training.gradients import GradientSettings
from atomjax.training.settings import (
    FinetuneSettings,
    HeadSettings,
    ModelSettings,
    RunSettings,
    TrainSettings,
)


@dataclass(frozen=True, kw_only=True)
class StartSettings(Settings):
    """One pretraining."""

    name: str
    "Name in reports."
    structures: dict[str, int]
    "Candidate → N, unique structures taken of it; smaller subsets lie within larger ones."
    epochs: Count
    "E, passes over them; the budget is E × N."
    seeds: tuple[int, ...] | None = None
    "Those of the survey's that it has, where the survey has them; none: all."

    def __post_init__(self):
        super().__post_init__()
        if not self.structures or min(self.structures.values()) < 1:
            raise ConfigError(f'start "{self.name}" needs at least one structure of each set')
        check_name(self.name, "start")

    @property
    def budget(self) -> int:
        """C = epochs × unique structures."""
        return self.epochs * sum(self.structures.values())

    @property
    def only(self) -> str:
        """The candidate of a start on a single set."""
        return next(iter(self.structures))


@dataclass(frozen=True, kw_only=True)
class TaskSettings(Settings):
    """One downstream task."""

    data: DatasetSettings
    "Data set, split into train, validation and test; the training part is compared."
    head: HeadSettings
    "Quantities to predict."
    train: TrainSettings
    "Optimisation, the same for every start."
    head_from: str | None = None
    'The pretrained head to begin with, or "mean" of all; none: a new one.'

    def __post_init__(self):
        super().__post_init__()
        self.head.check_comparable()


@dataclass(frozen=True, kw_only=True)
class SurveySettings(WorkflowSettings):
    """Pretrainings on several sets, finetuned on several tasks, against distances of the sets."""

    workflow: Literal["survey"]
    "Correlate distances with errors."
    candidates: tuple[DatasetSettings, ...]
    "Upstream sets, of which training parts are used."
    tasks: tuple[TaskSettings, ...]
    "Downstream tasks."
    starts: tuple[StartSettings, ...]
    "Pretrainings; those on a single set with the most common budget are correlated."
    pairs: tuple[tuple[str, str], ...] = ()
    "Pairs of starts whose errors are divided, task by task."
    seeds: tuple[int, ...] = (0, 1, 2)
    "Seeds; the model of seed s is finetuned with seed s."
    model: ModelSettings = field(default_factory=ModelSettings)
    "Backbone of all."
    head: HeadSettings = field(default_factory=HeadSettings)
    "Quantities to pretrain on."
    train: TrainSettings
    "Schedule of the pretrainings; their epochs are those of the start."
    extractor: ExtractorSettings = field(default_factory=ExtractorSettings)
    "Backbone that computes the features."
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    "Structures that stand for each set."
    invariants: tuple[Invariance, ...] = ("none", "norms")
    "Features that are compared: all, scalars, or norms."
    measures: tuple[str, ...] = ("csi", "within_elements")
    "Measures to correlate errors with, on all these features."
    probe: bool = False
    "Correlate errors with linear probes of every pretraining on a single set, too."
    gradients: WholeNumber = 0
    "Correlate errors with distances of gradients at so many random weights, too; 0: do not."
    resamples: Count = 200
    "Exchanges of units, by which noise is measured."
    level: float = 0.95
    "Confidence level of the intervals."
    cache_dir: str | None = None
    "Directory of generated sets; none: the run directory."
    workers: WholeNumber = 0
    "Processes that label structures; 0: one per core."

    def __post_init__(self):
        super().__post_init__()
        known = [dataset.name for dataset in self.candidates]
        names = [start.name for start in self.starts]
        tasks = [task.data.name for task in self.tasks]
        given = {"candidates": known, "tasks": tasks, "starts": names, "seeds": self.seeds}
        for name, values in given.items():
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"{name}={values} must be at least one, all different")
        for start in self.starts:
            unknown = sorted(set(start.structures) - set(known))
            if unknown or start.name == SCRATCH:
                raise ConfigError(
                    f'start "{start.name}" takes {", ".join(unknown) or "no set"}; candidates are '
                    f'{", ".join(known)}, and "{SCRATCH}" is the name of the start without any'
                )
        wrong = sorted({name for pair in self.pairs for name in pair} - {*names, SCRATCH})
        if wrong:
            raise ConfigError(
                f"pairs name {', '.join(wrong)}; starts are {', '.join([*names, SCRATCH])}"
            )

    @property
    def singles(self) -> dict[str, str]:
        """Candidate → its start on that set alone, of the most common budget, with all seeds."""
        alone = [s for s in self.starts if len(s.structures) == 1 and s.seeds is None]
        budgets = [(s.budget, s.epochs) for s in alone]
        if not budgets:
            return {}
        common = max(budgets, key=budgets.count)
        return {s.only: s.name for s in alone if (s.budget, s.epochs) == common}

    @property
    def smaller_budgets(self) -> dict[int, dict[str, str]]:
        """Budget → candidate → start, where all of ``singles`` have one of a smaller budget."""
        names = set(self.singles.values())
        alone = [s for s in self.starts if len(s.structures) == 1]
        most = min((s.budget for s in alone if s.name in names), default=0)
        found: dict[int, dict[str, str]] = {}
        for one in alone:
            if one.budget < most:
                found.setdefault(one.budget, {})[one.only] = one.name
        return {c: starts for c, starts in found.items() if set(self.singles) <= set(starts)}

    def comparison(self) -> SimilaritySettings:
        """The similarity job of the survey."""
        names = ("candidates", "extractor", "sampling", "invariants", "measures", "resamples",
                 "level", "cache_dir", "workers")  # fmt: skip
        given = {name: getattr(self, name) for name in names}
        tasks = tuple(task.data for task in self.tasks)
        return SimilaritySettings(workflow="csi", downstream=tasks, mixtures=(), **given)

    def gradient_comparison(self) -> GradientSettings:
        """The comparison of samples of the single sets with the tasks by gradients."""
        seed, upstream = self.seeds[0], []
        for candidate, name in self.singles.items():
            (start,) = (one for one in self.starts if one.name == name)
            size = min(self.sampling.size, start.structures[candidate])
            sample = dataclasses.replace(start, structures={candidate: size}, epochs=1)
            upstream.append(self.pretraining(sample, seed))
        return GradientSettings(
            workflow="gradients",
            upstream=tuple(upstream),
            downstream=tuple(self.finetuning(task, seed) for task in self.tasks),
            initialisations=self.gradients,
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

    def probing(self, task: TaskSettings, seed: int) -> RunSettings:
        """The linear probe on one task, of energies where forces are finetuned, too."""
        finetuning = self.finetuning(task, seed)
        head, train = finetuning.head, finetuning.train
        if head.kind != "scalar":
            head = dataclasses.replace(head, kind="energy", forces="conservative", stress=False)
            validation = dataclasses.replace(train.validation, select_by="energy_mae")
            train = dataclasses.replace(train, validation=validation)
        start = dataclasses.replace(finetuning.finetune or FinetuneSettings(), head_from=None)
        return finetuning.replace(workflow="probe", head=head, train=train, finetune=start)

    def finetuning(self, task: TaskSettings, seed: int) -> RunSettings:
        """The finetuning on one task, whose start is not known yet."""
        return RunSettings(
            workflow="finetune",
            model=self.model,
            data=DataSettings(train=(task.data,), cache_dir=self.cache_dir, workers=self.workers),
            train=task.train,
            head=task.head,
            finetune=FinetuneSettings(seeds=(seed,), head_from=task.head_from),
            seed=seed,
        )
