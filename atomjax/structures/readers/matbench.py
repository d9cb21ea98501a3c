"""MatBench: ``matbench_<task>.json.gz``, properties of inorganic crystals.

A table as pandas writes it (``orient="split"``): ``index``, ``columns`` and ``data``, of which each
row holds a structure of pymatgen and one number, or one truth value. The eight regression tasks
with structures are read, and mp_is_metal; expt_is_metal and glass are of compositions. The five
folds are those of the benchmark, by its own rule: scikit-learn's
``KFold(5, shuffle=True, random_state=18012019)`` in the order of the file, and ``StratifiedKFold``
with the same settings for truth values (Dunn et al., npj Comput. Mater. 6, 138, 2020).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.structures.readers.format import Format
from atomjax.structures.readers.layouts.json_records import JsonRecords
from atomjax.structures.readers.layouts.pymatgen_sites import crystal
from atomjax.structures.readers.layouts.records import ReadError, ReadOptions
from atomjax.structures.readers.layouts.structure_file import StructureFile, shuffled
from atomjax.structures.structure import Structure

FOLD_SEED, FOLDS = 18012019, 5
# Task → the column of its property, and the unit, which is kept.
TASKS: Mapping[str, tuple[str, str]] = {
    "matbench_jdft2d": ("exfoliation_en", "meV/atom"),
    "matbench_phonons": ("last phdos peak", "1/cm"),
    "matbench_dielectric": ("n", ""),
    "matbench_log_gvrh": ("log10(G_VRH)", "log10(GPa)"),
    "matbench_log_kvrh": ("log10(K_VRH)", "log10(GPa)"),
    "matbench_perovskites": ("e_form", "eV/unit cell"),
    "matbench_mp_gap": ("gap pbe", "eV"),
    "matbench_mp_e_form": ("e_form", "eV/atom"),
    "matbench_mp_is_metal": ("is_metal", ""),
}


@dataclass(frozen=True, kw_only=True)
class MatbenchOptions(ReadOptions):
    """Options of MatBench.

    Attributes:
        fold: number of the benchmark's fold that is the test part, 0 to 4.
        train_share: fraction of the other four to train on; the rest is the validation part. The
            benchmark leaves that open; 90 % and the shuffle are JMP's.
        split_seed: seed of that shuffle.
    """

    fold: int = 0
    train_share: float = 0.9
    split_seed: int = 42

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fold not in range(FOLDS):
            raise ReadError(f"fold={self.fold}: MatBench has the folds 0 to 4")


class MatbenchFile(StructureFile):
    """The crystals of one task.

    Attributes:
        target: the name of the property, the column in the file.
    """

    options: MatbenchOptions

    def __init__(self, path: Path, options: MatbenchOptions) -> None:
        super().__init__(path, options)
        self._rows = JsonRecords(path, "data")
        columns = self._rows.others.get("columns")
        if not isinstance(columns, list) or "structure" not in columns or len(columns) != 2:
            raise ReadError(
                f"{path}: has the columns {columns}, expected a structure and one property; tasks"
                " on compositions have no structures to read"
            )
        self._structure_column = columns.index("structure")
        self.target = str(columns[1 - self._structure_column])
        if not len(self._rows):
            raise ReadError(f"{path}: holds no crystal")
        self._are_classes = isinstance(self._value(0), bool)

    def _count(self) -> int:
        return len(self._rows)

    def _structure(self, record: int) -> Structure:
        row = self._rows[record]
        if not isinstance(row, list) or len(row) != 2:
            raise ReadError("its row has not two entries")
        described, value = row[self._structure_column], row[1 - self._structure_column]
        is_class = isinstance(value, bool)
        if not isinstance(value, int | float) or is_class != self._are_classes:
            expected = "a truth value" if self._are_classes else "a number"
            raise ReadError(f"{self.target} is {value!r}, expected {expected}")
        numbers, positions, cell = crystal(described)
        return self.options.structure(
            atomic_numbers=numbers,
            positions=positions,
            cell=cell,
            pbc=True,
            targets={self.target: float(value)},
            identifier=self._identifier(record),
            source=self.options.source or self.path.name.partition(".")[0],
        )

    def _split(self, name: str) -> np.ndarray:
        test = self._fold()
        if name == "test":
            return test
        others = np.setdiff1d(np.arange(self._count()), test)
        order = others[shuffled(len(others), self.options.split_seed)]
        sizes = {"train": self.options.train_share, "validation": None}
        if name not in sizes:
            raise self._no_split(name, (*sizes, "test"))
        return self._cut(order, sizes, name)

    def _fold(self) -> np.ndarray:
        """The test part, by the rule of regression or of classification."""
        if self._are_classes:
            values = [self._value(record) for record in range(self._count())]
            return stratified_fold_indices(values, self.options.fold)
        return fold_indices(self._count(), self.options.fold)

    def _value(self, record: int) -> Any:
        """The label of a row, None where the row is damaged."""
        row = self._rows[record]
        return row[1 - self._structure_column] if isinstance(row, list) and len(row) == 2 else None


def stratified_fold_indices(classes: Sequence[bool], fold: int) -> np.ndarray:
    """The test part of a fold of a classification task, sorted, by the benchmark's rule.

    The records of each class, in an order by class, are dealt out to the folds in turn, which says
    how many of each a fold gets; a shuffle of each class's folds says which.

    Args:
        classes: label of each record.
        fold: 0 to 4.
    """
    labels = np.asarray(classes)
    found = list(dict.fromkeys(labels.tolist()))
    numbers = np.array([found.index(label) for label in labels.tolist()])
    in_order = np.sort(numbers)
    generator = np.random.RandomState(FOLD_SEED)
    own = np.zeros(len(labels), dtype=np.int64)
    for number in range(len(found)):
        counts = [int((in_order[one::FOLDS] == number).sum()) for one in range(FOLDS)]
        dealt = np.repeat(np.arange(FOLDS), counts)
        generator.shuffle(dealt)
        own[numbers == number] = dealt
    return np.flatnonzero(own == fold)


def fold_indices(count: int, fold: int) -> np.ndarray:
    """The test part of a fold, sorted, by the benchmark's rule.

    Args:
        count: number of crystals of the task.
        fold: 0 to 4.
    """
    sizes = np.full(FOLDS, count // FOLDS)
    sizes[: count % FOLDS] += 1
    end = int(np.cumsum(sizes)[fold])
    return np.sort(shuffled(count, FOLD_SEED)[end - int(sizes[fold]) : end])


FORMAT = Format(
    name="matbench",
    files="`matbench_<task>.json.gz`",
    about="one target, as it is; class: formula; the five official folds",
    citation="Dunn et al., npj Comput. Mater. 6, 138 (2020)",
    records=MatbenchFile,
    options=MatbenchOptions,
    energy_unit="eV",
    length_unit="Å",
    energy_kinds=("none",),
    suffixes=(".json.gz",),
    splits="parts",
)
