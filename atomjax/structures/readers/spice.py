"""SPICE: ``SPICE-1.*.hdf5``, or the files of one subset that JMP used.

One group a molecule, with ``subset`` [1], ``smiles`` [1], ``atomic_numbers`` [N], ``conformations``
[n, N, 3] in Bohr, ``dft_total_energy`` [n] and ``formation_energy`` [n] in Hartree, and
``dft_total_gradient`` [n, N, 3] in Hartree/Bohr: the gradient, so that forces are its negative
(Eastman et al., Sci. Data 10, 11, 2023). The charge is the sum of the SMILES' formal charges.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from atomjax.structures.readers.format import Format
from atomjax.structures.readers.layouts.conformations import Layout
from atomjax.structures.readers.layouts.hdf5 import ConformerFile, molecule_groups
from atomjax.structures.readers.layouts.records import ReadError, ReadOptions
from atomjax.structures.readers.layouts.structure_file import shuffled

# Short name → how the names in the files begin, whatever the version behind them.
SUBSETS = {
    "dipeptides": "SPICE Dipeptides Single Points Dataset",
    "solvated_amino_acids": "SPICE Solvated Amino Acids Single Points Dataset",
    "des370k": "SPICE DES370K Single Points Dataset",
    "des_monomers": "SPICE DES Monomers Single Points Dataset",
    "ion_pairs": "SPICE Ion Pairs Single Points Dataset",
    "pubchem": "SPICE PubChem Set",
}


@dataclass(frozen=True, kw_only=True)
class SpiceOptions(ReadOptions):
    """Options of SPICE.

    Attributes:
        subset: one of `SUBSETS`, or how a subset's name in the file begins; None reads all
            molecules.
        energy_kind: "total", or "referenced" for the formation energy.
        train_size, test_size: number or fraction of the conformations; the rest are the validation
            part. JMP: 80 %, 10 %, 10 %.
        split_seed: seed of the shuffle; JMP's.
    """

    energy_unit: str = "Ha"
    length_unit: str = "bohr"
    subset: str | None = None
    energy_kind: Literal["total", "referenced"] = "total"
    train_size: int | float = 0.8
    test_size: int | float = 0.1
    split_seed: int = 42


class SpiceFile(ConformerFile):
    """The conformations of a subset of SPICE."""

    options: SpiceOptions

    def __init__(self, path: Path, options: SpiceOptions) -> None:
        kinds = {"total": "dft_total_energy", "referenced": "formation_energy"}
        energy = options.energy_key or kinds[options.energy_kind]
        forces = options.forces_key or options.gradients_key or "dft_total_gradient"
        sign = 1.0 if options.forces_key else -1.0
        layout = Layout("atomic_numbers", "conformations", energy, forces, sign)
        self._charges: dict[str, float] = {}
        super().__init__(path, options, layout)

    def _groups(self, file: h5py.File) -> list[str]:
        names = molecule_groups(file, self.layout)
        wanted = self.options.subset
        if wanted is None:
            return names
        beginning = SUBSETS.get(wanted, wanted)
        subsets = {name: _subset(file[name]) for name in names}
        chosen = [name for name in names if subsets[name].startswith(beginning)]
        if not chosen:
            known = ", ".join(sorted(set(subsets.values()) - {""})) or "not named in the file"
            raise ReadError(
                f"{self.path}: no molecule of the subset {wanted!r}; the subsets are: {known}."
                " A file of a single subset is read with subset=None"
            )
        return chosen

    def _index(self, name: str, group: Any) -> np.ndarray:
        if "smiles" in group:
            self._charges[name] = formal_charge(_text(group["smiles"]))
        return super()._index(name, group)

    def _states(self, name: str) -> dict[str, float]:
        return {"charge": self._charges[name]} if name in self._charges else {}

    def _split(self, name: str) -> np.ndarray:
        options = self.options
        sizes = {"train": options.train_size, "validation": None, "test": options.test_size}
        return self._cut(shuffled(self._count(), options.split_seed), sizes, name)


def _subset(group: Any) -> str:
    return _text(group["subset"]) if "subset" in group else ""


def _text(dataset: Any) -> str:
    value = np.asarray(dataset[()]).reshape(-1)[0]
    return value.decode() if isinstance(value, bytes) else str(value)


def formal_charge(smiles: str) -> float:
    """Charge of a molecule, e: the sum of those of its atoms in brackets, as ``[NH3+:4]``."""
    signs = re.findall(r"\[[^\]]*?(\++|-+)(\d*)(?::\d+)?\]", smiles)
    return float(sum(int(f"{sign[0]}{count or len(sign)}") for sign, count in signs))


FORMAT = Format(
    name="spice",
    files="`SPICE-1.*.hdf5`, or the file of a subset",
    about="class: molecule; JMP's 80/10/10; referenced to free atoms (formation)",
    citation="Eastman et al., Sci. Data 10, 11 (2023)",
    records=SpiceFile,
    options=SpiceOptions,
    keys=("gradients_key",),
    energy_unit="Ha",
    length_unit="bohr",
    energy_kinds=("total", "referenced"),
    splits="parts",
)
