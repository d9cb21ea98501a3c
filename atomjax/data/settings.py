"""The data section of a config: which sets, from where, how divided and turned into graphs."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from atomjax.data.declarations import check_official_split, facts_of, fixed_fields
from atomjax.graphs.config import KINDS, Shells, Symmetrization
from atomjax.runtime.config import (
    ConfigError,
    Count,
    NotNegative,
    Positive,
    Settings,
    WholeNumber,
)
from atomjax.runtime.downloads import find_download, is_download
from atomjax.runtime.names import check_name
from atomjax.structures.readers import Format

UNITS = ("energy_unit", "length_unit", "force_unit")
DECLARED = (*UNITS, "energy_kind")
# End of the names of files of statistics.
STATISTICS = ".statistics.npz"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class GraphSettings(Settings):
    """Interaction graphs; see ``atomjax.graphs.GraphConfig``, which has the same fields.

    None takes the value of the checkpoint that a finetuning starts from, and otherwise that of
    ``GraphConfig``: all neighbours within 5 Å. The published graphs depend on the order of atoms:
    12 Å, 8 Å for molecules and 30 neighbours for GemNet-OC; 12 Å and 20 neighbours for
    EquiformerV2.
    """

    preset: Literal["published"] | None = None
    '"published" for the graphs of the backbone\'s originals, which other fields change.'
    kind: str | None = None
    '"gemnet_oc" (four graphs) or "nearest" (one, directed); none: that of the model.'
    cutoff: Positive | None = None
    "Å, of the main graph."
    cutoff_molecule: Positive | None = None
    "Å, of the main graph of structures without a periodic direction."
    cutoff_a2ee2a: Positive | None = None
    "Å, of the graph between atoms and edges."
    cutoff_qint: Positive | None = None
    "Å, of the graph of quadruplets."
    cutoff_a2a: Positive | None = None
    "Å, of the graph between atoms."
    max_neighbors: Count | None = None
    "Limit of the main graph; the others' follow in the ratios 20/30, 8/30 and 1000/30."
    max_neighbors_qint: Count | None = None
    "Limit of the quadruplet graph, instead of the ratio's."
    symmetrization: Symmetrization | None = None
    "Edges of graphs with a limit that are kept in both directions."
    shells: Shells | None = None
    "Neighbours that are as far away as a limit's last one."
    qint_tags: tuple[int, ...] = (1, 2)
    "Tags whose atoms take part in quadruplets."

    def __post_init__(self):
        super().__post_init__()
        if self.kind is not None and self.kind not in KINDS:
            raise ConfigError(f'graph.kind="{self.kind}": write one of {", ".join(KINDS)}')


@dataclass(frozen=True, kw_only=True)
class SplitSettings(Settings):
    """Division of one data set into parts.

    Sizes are numbers of structures, or fractions of the data set where they are numbers below 1. A
    class is a molecule, a reaction, a composition.
    """

    train: int | NotNegative | None = None
    "Training structures; none: all that the others leave."
    validation: int | NotNegative = 0
    "Validation structures."
    test: int | NotNegative = 0
    "Test structures."
    by: Literal["structure", "class_key", "official"] = "structure"
    "Unit of the division, so that no class is in two parts; or the parts of the data set itself."
    seed: int = 0
    "Seed of the shuffle, apart from the run's so that seeds share a test set."

    def __post_init__(self):
        super().__post_init__()
        if self.by == "official" and (self.train is not None or self.validation or self.test):
            raise ConfigError(
                'split by="official" takes the sizes of the data set; leave train, validation and '
                "test out (train.max_structures takes fewer to train on)"
            )

    def fills(self, part: str) -> bool:
        """Whether the split leaves structures for a part."""
        return self.by == "official" or bool(getattr(self, part))


@dataclass(frozen=True, kw_only=True)
class DatasetSettings(Settings):
    """One data set."""

    name: str
    "Name in logs, and of the head."
    kind: Literal["generate", "read", "store", "statistics"]
    "Labelled here, read from a file, a converted folder, or (to be compared alone) statistics."
    generator: str | None = None
    'For "generate": name of the generator.'
    arguments: dict[str, Any] = field(default_factory=dict)
    "Arguments of the generator, or further ones of the reader."
    path: str | None = None
    'For "read" and "store": the file or folder, or "download:NAME".'
    format: str | None = None
    'For "read": format of the file; none guesses from the name.'
    energy_unit: str | None = None
    'For "read": unit of energies; required where they are read, unless format or file state it.'
    length_unit: str | None = None
    'For "read": unit of lengths; required unless the format fixes it or the file states it.'
    force_unit: str | None = None
    'For "read": unit of forces; none: `energy_unit` / `length_unit`.'
    energy_kind: Literal["total", "referenced", "adsorption", "none"] | None = None
    'For "read": meaning of the energies; required for trainings, unless the format fixes it.'
    split: SplitSettings | None = None
    "Division of this data set; none: it is used whole."
    max_structures: Count | None = None
    "Fixed random subset of its training structures, or of all outside `train`; none: all."
    graph: GraphSettings = field(default_factory=GraphSettings)
    "Interaction graphs."
    energy_coefficient: NotNegative | None = None
    "Weight of its energies in the loss; none: `loss.energy_coefficient`."
    force_coefficient: NotNegative | None = None
    "Weight of its forces in the loss; none: `loss.force_coefficient`."

    def __post_init__(self):
        super().__post_init__()
        check_name(self.name, "dataset")
        if is_download(self.path):
            find_download(self.path or "")
        if self.kind == "generate":
            self._require("generator")
        elif self.kind in ("store", "statistics"):
            self._require("path")
            given = [name for name in (*DECLARED, "format") if getattr(self, name) is not None]
            if given or self.arguments:
                raise ConfigError(
                    f'dataset "{self.name}" of kind "{self.kind}": '
                    f"{', '.join(given) or 'arguments'} must be left out; it is in eV and Å, and "
                    "what it holds was decided when it was made"
                )
        else:
            self._require("path")
            # Facts that the format fixes are filled in, so that saved configs hold them. What the
            # file may state, and what only labels need, is asked for when it is read.
            declared, facts = {name: getattr(self, name) for name in DECLARED}, self.facts
            fixed = fixed_fields(self.name, declared, facts, guessed=self.format is None)
            for name, value in fixed.items():
                object.__setattr__(self, name, value)
            if not facts.states_units:
                self._require("length_unit")
        if self.split is not None and self.split.by == "official":
            check_official_split(self.name, self.facts if self.kind == "read" else Format())

    @property
    def facts(self) -> Format:
        """Facts that the file's format fixes."""
        return facts_of(self.name, self.format, self.path)

    def _require(self, *names: str):
        for name in names:
            if getattr(self, name) is None:
                raise ConfigError(
                    f'dataset "{self.name}" of kind "{self.kind}" does not declare {name}; '
                    f"add {name}=..."
                )


@dataclass(frozen=True, kw_only=True)
class MixtureSettings(Settings):
    """Fraction of an epoch's samples that each training data set gets.

    A data set whose share is larger than itself is gone through more than
    once an epoch; one whose share is smaller takes turns, so that all its structures come.
    """

    kind: Literal["single", "balanced", "temperature", "proportional"] = "proportional"
    'Equal fractions, n^(1/T) / Σ n^(1/T) of sizes n, or fractions by size; "single": one data set.'
    temperature: Positive = 2.0
    'T of kind "temperature"; JMP\'s is 2.'
    epoch: Literal["total", "largest"] = "total"
    "Samples: all structures (or `train.max_structures`); or the fewest that show each set whole."


@dataclass(frozen=True, kw_only=True)
class DataSettings(Settings):
    """The data sets of a run."""

    train: tuple[DatasetSettings, ...]
    "Training sets, with a head for each."
    validation: tuple[DatasetSettings, ...] = ()
    "Data sets used whole, with names of training sets; none given: their splits."
    test: tuple[DatasetSettings, ...] = ()
    "Test sets, likewise."
    seen: tuple[DatasetSettings, ...] = ()
    "Sets pretrained on, say: test errors are also given by whether these hold the formula."
    mixture: MixtureSettings = field(default_factory=MixtureSettings)
    "Fractions of an epoch that are drawn from each training set."
    max_validation: WholeNumber | None = None
    "Validate on a fixed random subset of so many structures of each set; 0: on nothing, none: all."
    max_test: WholeNumber | None = None
    "Test on a fixed random subset of so many structures of each set; 0: on nothing, none: all."
    ignore_charge: bool = False
    "Train and test on charges and spins that differ, though no model here reads them."
    root: str | None = None
    "Folder of relative paths; none: the working directory. It is put before them at once."
    cache_dir: str | None = None
    "Directory of generated sets; none: the run directory."
    workers: WholeNumber = 0
    "Processes that label structures; 0: one per core."
    loader_workers: WholeNumber = 0
    "Processes that build training batches ahead; 0: threads of the training process."

    def __post_init__(self):
        super().__post_init__()
        self._join_root()
        names = [dataset.name for dataset in self.train]
        if not names:
            raise ConfigError("data.train is empty; give at least one dataset")
        if len(set(names)) < len(names):
            raise ConfigError(f"two training datasets share a name: {', '.join(names)}")
        if self.mixture.kind == "single" and len(names) > 1:
            raise ConfigError(
                f'data.mixture.kind="single" is for one dataset, and there are {", ".join(names)}; '
                'write "balanced", "temperature" or "proportional"'
            )
        seen = [dataset.name for dataset in self.seen]
        if len(set(seen)) < len(seen):
            raise ConfigError(f"two data sets of data.seen share a name: {', '.join(seen)}")
        for part in ("validation", "test"):
            held_out = [dataset.name for dataset in getattr(self, part)]
            if len(set(held_out)) < len(held_out):
                raise ConfigError(
                    f"two {part} datasets share a name: {', '.join(held_out)}; each training set "
                    "has one of them, whose structures are in one file or store"
                )
            for dataset in getattr(self, part):
                if dataset.name not in names:
                    raise ConfigError(
                        f'{part} dataset "{dataset.name}" has the name of no training dataset '
                        f"({', '.join(names)}); its head would not exist"
                    )
                split = self.train[names.index(dataset.name)].split
                if split is not None and split.fills(part):
                    raise ConfigError(
                        f'dataset "{dataset.name}" takes its {part} structures both from its '
                        f"split in data.train and from data.{part}; leave one of them out"
                    )

    def _join_root(self) -> None:
        """Puts the root before relative paths, so that saved configs name the files themselves."""
        if self.root is None:
            return
        for part in (*SPLITS, "seen"):
            joined = tuple(_below(Path(self.root), d) for d in getattr(self, part))
            object.__setattr__(self, part, joined)
        object.__setattr__(self, "root", None)


def _below(root: Path, dataset: DatasetSettings) -> DatasetSettings:
    """A dataset with ``root`` before its relative paths."""
    if dataset.path is None:
        return dataset
    paths = dataset.facts.path_options if dataset.kind == "read" else ()
    arguments = {
        name: _joined(root, value) if name in paths and value else value
        for name, value in dataset.arguments.items()
    }
    return replace(dataset, path=_joined(root, dataset.path), arguments=arguments)


def _joined(root: Path, path: str) -> str:
    return path if is_download(path) else str(root / path)
