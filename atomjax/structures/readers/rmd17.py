"""rMD17: ``rmd17_<molecule>.npz``, molecular dynamics of ten molecules, in kcal/mol and Å.

``nuclear_charges`` [N], ``coords`` [n, N, 3], ``energies`` [n] and ``forces`` [n, N, 3]; beside
``npz_data`` lies ``splits`` with five official divisions, ``index_train_01.csv`` to
``index_test_05.csv``, of 1000 frames each (Christensen and von Lilienfeld, Mach. Learn.: Sci.
Technol. 1, 045018, 2020).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from atomjax.structures.readers.format import Format
from atomjax.structures.readers.layouts.conformations import Layout
from atomjax.structures.readers.layouts.npz_trajectory import NpzTrajectory
from atomjax.structures.readers.layouts.records import ReadError, ReadOptions
from atomjax.structures.readers.layouts.structure_file import shuffled

NAMES = Layout("nuclear_charges", "coords", "energies", "forces")


@dataclass(frozen=True, kw_only=True)
class Rmd17Options(ReadOptions):
    """Options of rMD17.

    Attributes:
        fold: number of the official division, 1 to 5.
        train_size: frames to train on, of the division's 1000; 50 for the few-shot variant.
        validation_size: frames to validate on, the next ones of the same 1000.
        division: "official", or "jmp": a random one by JMP's script, in which all other frames
            are the test part.
        split_seed: seed of division "jmp".
        splits_folder: folder of the official divisions; None looks beside the file and its folder.
    """

    energy_unit: str = "kcal/mol"
    fold: int = 1
    train_size: int = 950
    validation_size: int = 50
    division: Literal["official", "jmp"] = "official"
    split_seed: int = 42
    splits_folder: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fold not in range(1, 6):
            raise ReadError(f"fold={self.fold}: rMD17 has the divisions 1 to 5")


class Rmd17File(NpzTrajectory):
    """The frames of one molecule of rMD17."""

    options: Rmd17Options

    def _split(self, name: str) -> np.ndarray:
        options = self.options
        sizes = {"train": options.train_size, "validation": options.validation_size, "test": None}
        if options.division == "jmp":
            return self._cut(shuffled(self._count(), options.split_seed), sizes, name)
        if name == "test":
            return self._official("test")
        return self._cut(self._official("train"), sizes, name)

    def _official(self, part: str) -> np.ndarray:
        """Frames of one list of the official division."""
        file = self._splits_folder() / f"index_{part}_0{self.options.fold}.csv"
        try:
            frames = np.loadtxt(file, dtype=np.int64, ndmin=1)
        except (OSError, ValueError) as error:
            raise ReadError(f"{file}: not a list of frame numbers ({error})") from error
        if len(frames) and not 0 <= frames.min() <= frames.max() < self._count():
            raise ReadError(
                f"{file}: frame {int(frames.max())} is not among the {self._count()} of"
                f" {self.path.name}; one of the two files is of another version or truncated"
            )
        return frames

    def _splits_folder(self) -> Path:
        given = self.options.splits_folder
        places = [self.path.parent / "splits", self.path.parent.parent / "splits"]
        places = [given.expanduser()] if given is not None else places
        for place in places:
            if place.is_dir():
                return place
        raise ReadError(
            f"{self.path}: no folder with rMD17's official divisions at"
            f" {' or '.join(map(str, places))}; set splits_folder, or division='jmp' for a random"
            " one"
        )


def records(path: Path, options: Rmd17Options) -> Rmd17File:
    """Opens the file of one molecule."""
    return Rmd17File(path, options, NAMES, path.stem.removeprefix("rmd17_"))


FORMAT = Format(
    name="rmd17",
    files="`rmd17_<molecule>.npz`, `splits/`",
    about="class: molecule; five official splits, or JMP's",
    licence="CC0",
    citation="Christensen and von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020)",
    records=records,
    options=Rmd17Options,
    energy_unit="kcal/mol",
    length_unit="Å",
    energy_kinds=("total",),
    trajectory=True,
    splits="parts",
)
