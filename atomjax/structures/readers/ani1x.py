"""ANI-1x: ``ani1x-release.h5``, off-equilibrium conformations of small organic molecules.

One group a formula, with ``atomic_numbers`` [N], ``coordinates`` [n, N, 3] in Å and, for the level
of theory ωB97x/6-31G(d), ``wb97x_dz.energy`` [n] in Hartree and ``wb97x_dz.forces`` [n, N, 3] in
Hartree/Å. A property that was not computed is NaN (Smith et al., Sci. Data 7, 134, 2020).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from atomjax.structures.readers.format import Format
from atomjax.structures.readers.layouts.conformations import Layout
from atomjax.structures.readers.layouts.hdf5 import ConformerFile
from atomjax.structures.readers.layouts.records import ReadError, ReadOptions
from atomjax.structures.readers.layouts.structure_file import shuffled

HELD_OUT = ("validation", "test")


@dataclass(frozen=True, kw_only=True)
class Ani1xOptions(ReadOptions):
    """Options of ANI-1x.

    Attributes:
        level: prefix of the labels, such as "wb97x_dz" or "wb97x_tz".
        min_atoms: smaller molecules are left out. The paper of JMP leaves out those of less than
            4 atoms, which have no dihedral angle.
        held_out: fraction of the conformations in the validation part, and in the test part. Whole
            formulas go there, so that no molecule of theirs is trained on. JMP: 10 %.
        split_seed: seed of the choice of formulas.
    """

    energy_unit: str = "Ha"
    level: str = "wb97x_dz"
    min_atoms: int = 1
    held_out: float = 0.1
    split_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.held_out < 0.5:
            raise ReadError(f"held_out={self.held_out} must be a share between 0 and 0.5")


class Ani1xFile(ConformerFile):
    """The conformations of ``ani1x-release.h5`` that have an energy at the chosen level."""

    options: Ani1xOptions
    what = "conformation with an energy at the chosen level"

    def __init__(self, path: Path, options: Ani1xOptions) -> None:
        energy = options.energy_key or f"{options.level}.energy"
        forces = options.forces_key or f"{options.level}.forces"
        super().__init__(path, options, Layout("atomic_numbers", "coordinates", energy, forces))

    def _groups(self, file: h5py.File) -> list[str]:
        return [name for name, group in file.items() if isinstance(group, h5py.Group)]

    def _index(self, name: str, group: Any) -> np.ndarray:
        kept = super()._index(name, group)
        if group[self.layout.numbers].size < self.options.min_atoms:
            self._exclude(f"fewer than min_atoms={self.options.min_atoms} atoms", len(kept))
            return kept[:0]
        if self.options.energy_key == "":
            return kept
        labelled = ~np.isnan(group[self.layout.energy][()])
        self._exclude(f"no {self.layout.energy} (NaN)", int((~labelled).sum()))
        return kept[labelled]

    def _split(self, name: str) -> np.ndarray:
        parts = self._formula_parts()
        if name not in parts:
            raise self._no_split(name, tuple(parts))
        return np.flatnonzero(np.isin(self._molecule, parts[name]))

    def _formula_parts(self) -> dict[str, np.ndarray]:
        """Split → indices of its formulas."""
        sizes = np.bincount(self._molecule, minlength=len(self.names))
        order = shuffled(len(self.names), self.options.split_seed)
        order = order[sizes[order] > 0]
        wanted = self.options.held_out * sizes.sum()
        parts: dict[str, np.ndarray] = {}
        for name in HELD_OUT:
            count = int(np.searchsorted(np.cumsum(sizes[order]), wanted)) + 1
            parts[name], order = order[:count], order[count:]
        return {"train": order, **parts}


FORMAT = Format(
    name="ani1x",
    files="`ani1x-release.h5`",
    about="class: formula; whole formulas held out",
    licence="CC0",
    citation="Smith et al., Sci. Data 7, 134 (2020)",
    records=Ani1xFile,
    options=Ani1xOptions,
    energy_unit="Ha",
    length_unit="Å",
    energy_kinds=("total",),
    splits="parts",
)
