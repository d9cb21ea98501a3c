"""The data section of a config: which sets, from where, how divided and turned into graphs."""

from dataclasses import dataclass, field
from typing import Any, Literal

from atomjax.config import ConfigError
from atomjax.structures.formats import Format
from atomjax.training.file_declarations import check_official_split, facts_of, fixed_fields

DECLARED = ("energy_unit", "length_unit", "force_unit", "energy_kind")
SPLITS = ("train", "validation", "test")


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
        by: "structure", "class_key" so that no class (molecule, reaction, slab) is in two
            splits, or "official" for the parts that the data set itself defines.
        seed: of the shuffle, apart from the run's seed so that seeds share a test set.
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
        name: how logs and heads call it.
        kind: "generate" (labelled here), "read" (from a file) or "store" (from a folder that
            ``python -m atomjax.structures.convert`` made, whose structures are read when needed).
        generator: for "generate", the name of the generator.
        arguments: of the generator, or further arguments of the reader.
        path: for "read", the file, or a folder for formats that are folders; for "store", its
            folder.
        format: for "read", the file's format; None guesses from the name.
        energy_unit, length_unit: for "read", units of the file, required unless the format fixes
            them.
        force_unit: for "read"; None means energy_unit / length_unit.
        energy_kind: for "read", what an energy of this file means, required unless the format
            says; "total" for OC20 and "referenced" for SPICE ask for those energies.
        split: how this dataset is divided; None for a dataset used whole.
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
    graph: GraphSettings = field(default_factory=GraphSettings)
    energy_coefficient: float | None = None
    force_coefficient: float | None = None

    def __post_init__(self):
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
            # What the format fixes is filled in, so that saved configs say it.
            declared = {name: getattr(self, name) for name in DECLARED}
            for name, value in fixed_fields(self.name, declared, self.facts).items():
                object.__setattr__(self, name, value)
            self._require("length_unit", "energy_kind")
            if self.energy_kind != "none":
                self._require("energy_unit")
        if self.split is not None and self.split.by == "official":
            check_official_split(self.name, self.facts if self.kind == "read" else Format())

    @property
    def facts(self) -> Format:
        """What the file's format fixes."""
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
                if split is not None and split.fills(part):
                    raise ConfigError(
                        f'dataset "{dataset.name}" takes its {part} structures both from its '
                        f"split in data.train and from data.{part}; leave one of them out"
                    )
