"""A data set as the comparison reads it, and the folder that keeps it.

features/<name>-<key>/set.json        what was drawn; written last
features/<name>-<key>/<variant>.npz   statistics
features/<name>-<key>/rows.npz        feature rows of some or all atoms, counts of classes
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.runtime.files import (
    PARSE_ERRORS,
    DamagedFile,
    read_json,
    read_npz,
    write_json,
    write_npz,
)
from atomjax.similarity.features.collect import MEND, SetFeatures, read_features, write_features
from atomjax.similarity.features.coverage import Coverage

DONE = "set.json"
# What computes the features of a set: a change to it makes another folder.
CODE = (
    "atomjax.structures.readers",
    "atomjax.graphs",
    "atomjax.ops",
    "atomjax.models",
    "atomjax.similarity.features",
)
# Feature rows of each set that are kept for figures.
SHOWN_ROWS = 1500
DESCRIBED = ("available", "classes", "unit", "units", "heaviest")


@dataclasses.dataclass(frozen=True)
class ExtractedSet:
    """A data set as the comparison reads it.

    Attributes:
        name: name of the set.
        available: structures of its training part.
        classes: number of classes of its training part.
        unit: kind of the independent units of the sample; see ``features.units``.
        units: number of these units.
        heaviest: weight of the heaviest structure over their mean weight; 1 where all count alike.
        coverage: strategy → classes of a sample of this size; that of the job first, then random
            sampling for comparison.
        variants: name of the variant → its features.
        rows: [n, d] features of some atoms (or structures) of the first variant.
        class_names: [K] name of each class, in the order of the coverage; empty where there are
            too many.
    """

    name: str
    available: int
    classes: int
    unit: str
    units: int
    heaviest: float
    coverage: dict[str, Coverage]
    variants: dict[str, SetFeatures]
    rows: np.ndarray
    class_names: tuple[str, ...] = ()

    @property
    def features(self) -> SetFeatures:
        """Features of the deciding variant."""
        return next(iter(self.variants.values()))

    @property
    def covered(self) -> int:
        """Classes with a structure in the sample."""
        return next(iter(self.coverage.values())).covered


def write_set(folder: Path, made: ExtractedSet) -> None:
    """Writes a set; the file that marks it as complete comes last."""
    for variant, features in made.variants.items():
        write_features(folder / f"{variant}.npz", features)
    arrays, described = describe_set(made)
    write_npz(folder / "rows.npz", arrays)
    write_json(folder / DONE, described)


def read_set(name: str, folder: Path) -> ExtractedSet:
    """A set from the folder of :func:`write_set`.

    Raises:
        DamagedFile: a file is missing or damaged; all can be extracted again.
    """
    try:
        described = read_json(folder / DONE, MEND)
        variants = {v: read_features(folder / f"{v}.npz") for v in described["variants"]}
        return set_from(name, variants, read_npz(folder / "rows.npz", MEND), described)
    except DamagedFile:
        raise
    # Files of before checksums may hold anything.
    except PARSE_ERRORS as error:
        raise DamagedFile(f"{folder} is damaged ({error!r}); {MEND}") from error


def describe_set(made: ExtractedSet) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All of a set but its features, as arrays and as what JSON holds."""
    arrays = {"rows": made.rows, "class_names": np.array(made.class_names, np.str_)}
    for strategy, coverage in made.coverage.items():
        arrays[f"population/{strategy}"] = coverage.population
        arrays[f"drawn/{strategy}"] = coverage.drawn
    described: dict[str, Any] = {name: getattr(made, name) for name in DESCRIBED}
    described["variants"] = list(made.variants)
    described["distinct"] = {name: one.distinct for name, one in made.coverage.items()}
    return arrays, described


def set_from(
    name: str,
    variants: dict[str, SetFeatures],
    arrays: Mapping[str, np.ndarray],
    described: Mapping[str, Any],
) -> ExtractedSet:
    """The set that :func:`describe_set` describes."""
    coverage = {
        strategy: Coverage(arrays[f"population/{strategy}"], arrays[f"drawn/{strategy}"], count)
        for strategy, count in described["distinct"].items()
    }
    return ExtractedSet(
        name=name,
        coverage=coverage,
        variants=variants,
        rows=arrays["rows"],
        # Folders of before have none.
        class_names=tuple(arrays.get("class_names", np.array([], np.str_)).tolist()),
        **{field: described[field] for field in DESCRIBED},
    )
