"""The data section of a config: which sets, from where, how divided and turned into graphs."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from atomjax.data.declarations import check_official_split, facts_of, fixed_fields
from atomjax.graphs.config import KINDS, Shells, Symmetrization
from atomjax.runtime.config import ConfigError
from atomjax.runtime.names import check_name
from atomjax.structures.readers import Format

UNITS = ("energy_unit", "length_unit", "force_unit")
DECLARED = (*UNITS, "energy_kind")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class GraphSettings:
    """Interaction graphs; see ``atomjax.graphs.GraphConfig``, which has the same fields.

    None takes the value of the checkpoint that a finetuning starts from, and otherwise that of
    ``GraphConfig``: all neighbours within 5 Å.

    Attributes:
        preset: "published" for the graphs of the backbone's originals, which depend on the order
            of atoms: 12 Å, 8 Å for molecules and 30 neighbours for GemNet-OC; 12 Å and 20
            neighbours for EquiformerV2. Other fields change them.
        kind: "gemnet_oc" (four graphs) or "nearest" (one, directed); that of the model by default.
        cutoff: Å, of the main graph.
        cutoff_molecule: Å, the same for structures without a periodic direction.
        cutoff_a2ee2a, cutoff_qint, cutoff_a2a: Å, of the other graphs.
        max_neighbors: limit of the main graph; those of the others follow in the ratios of the
            original (20/30, 8/30, 1000/30).
        max_neighbors_qint: limit of the quadruplet graph, instead of the ratio's.
        symmetrization: "union", "intersection" or "index", for graphs with a limit.
        shells: "keep", "leave" or "cut": neighbours that are as far away as a limit's last one.
        qint_tags: tags whose atoms take part in quadruplets.
    """

    preset: Literal["published"] | None = None
    kind: str | None = None
    cutoff: float | None = None
    cutoff_molecule: float | None = None
    cutoff_a2ee2a: float | None = None
    cutoff_qint: float | None = None
    cutoff_a2a: float | None = None
    max_neighbors: int | None = None
    max_neighbors_qint: int | None = None
    symmetrization: Symmetrization | None = None
    shells: Shells | None = None
    qint_tags: tuple[int, ...] = (1, 2)

    def __post_init__(self):
        if self.kind is not None and self.kind not in KINDS:
            raise ConfigError(f'graph.kind="{self.kind}": write one of {", ".join(KINDS)}')


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """Division of one dataset into parts.

    Attributes:
        train, validation, test: number of structures (int) or fraction of the dataset (float
            below 1). A train of None takes what the others leave.
        by: "structure", "class_key" so that no class (molecule, reaction, slab) is in two
            splits, or "official" for the parts that the data set itself defines.
        seed: seed of the shuffle, apart from the run's so that seeds share a test set.
    """

    train: int | float | None = None
    validation: int | float = 0
    test: int | float = 0
    by: Literal["structure", "class_key", "official"] = "structure"
    seed: int = 0

    def __post_init__(self):
        if self.by == "official" and (self.train is not None or self.validation or self.test):
            raise ConfigError(
                'split by="official" takes the sizes of the data set; leave train, validation and '
                "test out (train.max_structures takes fewer to train on)"
            )

    def fills(self, part: str) -> bool:
        """Whether the split leaves structures for a part."""
        return self.by == "official" or bool(getattr(self, part))


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """One dataset.

    Attributes:
        name: name in logs, and of the head.
        kind: "generate" (labelled here), "read" (from a file) or "store" (from a folder that
            ``python -m atomjax.structures.convert`` made, whose structures are read when needed).
        generator: for "generate", the name of the generator.
        arguments: arguments of the generator, or further ones of the reader.
        path: for "read", the file, or a folder for formats that are folders; for "store", its
            folder.
        format: for "read", the file's format; None guesses from the name.
        energy_unit, length_unit: for "read", units of the file, required unless the format fixes
            them or the file states them.
        force_unit: for "read"; None means energy_unit / length_unit.
        energy_kind: for "read", kind of the file's energies, required unless the format fixes
            it; "total" for OC20 and "referenced" for SPICE select those energies.
        split: division of this dataset; None for a dataset used whole.
        max_structures: use a fixed random subset of this many of its training structures, or of
            all its structures where it is listed under ``validation`` or ``test``; None: all.
        graph: interaction graphs of this dataset.
        energy_coefficient, force_coefficient: weights in the loss instead of those of
            ``train``.
    """

    name: str
    kind: Literal["generate", "read", "store"]
    generator: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    path: str | None = None
    format: str | None = None
    energy_unit: str | None = None
    length_unit: str | None = None
    force_unit: str | None = None
    energy_kind: Literal["total", "referenced", "adsorption", "none"] | None = None
    split: SplitSettings | None = None
    max_structures: int | None = None
    graph: GraphSettings = field(default_factory=GraphSettings)
    energy_coefficient: float | None = None
    force_coefficient: float | None = None

    def __post_init__(self):
        check_name(self.name, "dataset")
        if self.kind == "generate":
            self._require("generator")
        elif self.kind == "store":
            self._require("path")
            given = [name for name in (*DECLARED, "format") if getattr(self, name) is not None]
            if given or self.arguments:
                raise ConfigError(
                    f'dataset "{self.name}" of kind "store": {", ".join(given) or "arguments"} '
                    "must be left out; a store is in eV and Å, and what it holds was decided when "
                    "it was made"
                )
        else:
            self._require("path")
            # Facts that the format fixes are filled in, so that saved configs hold them.
            declared = {name: getattr(self, name) for name in DECLARED}
            open_ones = self.facts.undeclared(declared, guessed=self.format is None)
            # Those that the file may state are looked up when it is read.
            stated = UNITS if self.facts.states_units else ()
            self._require(*(name for name in open_ones if name not in stated))
            for name, value in fixed_fields(self.name, declared, self.facts).items():
                object.__setattr__(self, name, value)
        if self.max_structures is not None and self.max_structures < 1:
            raise ConfigError(
                f'dataset "{self.name}": max_structures={self.max_structures} must be at least 1'
            )
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
                    + (
                        ' ("total", "referenced", "adsorption" or "none")'
                        if name == "energy_kind"
                        else ""
                    )
                )


@dataclass(frozen=True, kw_only=True)
class MixtureSettings:
    """Fraction of an epoch's samples that each training dataset gets.

    An epoch has as many samples as there are training structures (``train.max_structures`` of
    them where that is set). A dataset whose share is larger than itself is gone through more than
    once an epoch; one whose share is smaller takes turns, so that all its structures come.

    Attributes:
        kind: "proportional" to the sizes; "balanced", equal shares; "temperature", n^(1/T) /
            Σ n^(1/T); "single", which allows one dataset only.
        temperature: T of kind "temperature"; JMP's is 2.
    """

    kind: Literal["single", "balanced", "temperature", "proportional"] = "proportional"
    temperature: float = 2.0

    def __post_init__(self):
        if self.temperature <= 0:
            raise ConfigError(f"temperature={self.temperature} must be positive")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The datasets of a run.

    Attributes:
        train: at least one; one head is trained for each.
        validation: datasets with the names of training datasets, used whole. Empty takes the
            validation split of each training dataset.
        test: as validation.
        mixture: fractions of an epoch that are drawn from each training dataset.
        max_validation: validate on a fixed random subset of this many structures of each dataset;
            None: all.
        max_test: the same of the test structures.
        root: folder that relative paths of datasets are in, None for the working directory. It is
            put before them at once, and then None.
        cache_dir: directory of generated sets; None keeps them in the run directory.
        workers: processes that label structures; 0 means one per core.
        loader_workers: processes that read structures and build training batches ahead; 0 builds
            them on threads of the training process.
    """

    train: tuple[DatasetSettings, ...]
    validation: tuple[DatasetSettings, ...] = ()
    test: tuple[DatasetSettings, ...] = ()
    mixture: MixtureSettings = field(default_factory=MixtureSettings)
    max_validation: int | None = None
    max_test: int | None = None
    root: str | None = None
    cache_dir: str | None = None
    workers: int = 0
    loader_workers: int = 0

    def __post_init__(self):
        self._join_root()
        if self.loader_workers < 0:
            raise ConfigError(f"data.loader_workers={self.loader_workers} must not be negative")
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
        for name in ("max_validation", "max_test"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"data.{name}={value} must be at least 1")
        for part in ("validation", "test"):
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
        for part in SPLITS:
            joined = tuple(_below(Path(self.root), d) for d in getattr(self, part))
            object.__setattr__(self, part, joined)
        object.__setattr__(self, "root", None)


def _below(root: Path, dataset: DatasetSettings) -> DatasetSettings:
    """A dataset with ``root`` before its relative paths."""
    if dataset.path is None:
        return dataset
    paths = dataset.facts.path_options if dataset.kind == "read" else ()
    arguments = {
        name: str(root / value) if name in paths and value else value
        for name, value in dataset.arguments.items()
    }
    return replace(dataset, path=str(root / dataset.path), arguments=arguments)
