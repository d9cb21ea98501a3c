"""A data set as the comparison reads it, and the folder that keeps it.

features/<name>-<key>/set.json        what was drawn; written last
features/<name>-<key>/<variant>.npz   statistics
features/<name>-<key>/rows.npz        feature rows of some or all atoms, counts of classes
"""

import dataclasses
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
    arrays = {"rows": made.rows}
    for strategy, coverage in made.coverage.items():
        arrays[f"population/{strategy}"] = coverage.population
        arrays[f"drawn/{strategy}"] = coverage.drawn
    write_npz(folder / "rows.npz", arrays)
    described: dict[str, Any] = {name: getattr(made, name) for name in DESCRIBED}
    described["variants"] = list(made.variants)
    described["distinct"] = {name: one.distinct for name, one in made.coverage.items()}
    write_json(folder / DONE, described)


def read_set(name: str, folder: Path) -> ExtractedSet:
    """A set from the folder of :func:`write_set`.

    Raises:
        DamagedFile: a file is missing or damaged; all can be extracted again.
    """
    try:
        described = read_json(folder / DONE, MEND)
        variants = {v: read_features(folder / f"{v}.npz") for v in described.pop("variants")}
        arrays = read_npz(folder / "rows.npz", MEND)
        coverage = {
            strategy: Coverage(arrays[f"population/{strategy}"], arrays[f"drawn/{strategy}"], count)
            for strategy, count in described.pop("distinct").items()
        }
        rows = arrays["rows"]
        return ExtractedSet(name=name, coverage=coverage, variants=variants, rows=rows, **described)
    except DamagedFile:
        raise
    # Files of before checksums may hold anything.
    except PARSE_ERRORS as error:
        raise DamagedFile(f"{folder} is damaged ({error!r}); {MEND}") from error
