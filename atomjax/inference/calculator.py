"""A trained model as an ASE calculator, for relaxations and molecular dynamics.

atoms.calc = atomjax.load("runs/quickstart").calculator()
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from atomjax.inference.predict import MARKS, load_predictor
from atomjax.structures import Structure
from atomjax.structures.states import CHARGES, MULTIPLICITIES, SPIN
from atomjax.training.running.results import StructureResult

# Takes structures and the data set whose head predicts: a `Predictor` or an `EnsemblePredictor`.
Predict = Callable[[Sequence[Structure], str | None], list[StructureResult]]

# Neighbours come and go while atoms move; a shape with some to spare is compiled once.
SLACK = 0.15


class OutsideTrainingWarning(UserWarning):
    """Atoms differ from the training set, or have properties that the model does not read."""


class AtomjaxCalculator(Calculator):
    """Energy (eV), forces (eV/Å) and stress (eV/Å³) of a trained model.

    Stress comes from heads that were trained with head.stress, for atoms that repeat in all three
    directions.

    Steps of a trajectory share one padded shape, so that the model is compiled at the first step
    and again only when the neighbours outgrow the shape. It warns, once for each calculator, of
    periodicity that the model was not trained on, of charges and magnetic moments, which it does
    not read, and of energies that are relative (`atomjax.inference.predict.MARKS`). Calculators can
    be copied and pickled.

    Args:
        model: a run directory, or a `Predictor`, or an `EnsemblePredictor`, whose standard
            deviations are results, too: "energy_deviation", "forces_deviation", "stress_deviation".
        dataset: data set whose head predicts; may be left out if there is one head.
        use_tags: whether the tags of the atoms mean 0 below the surface, 1 surface, 2 adsorbate,
            as the model was trained; False takes all atoms for adsorbates or molecules.
        **options: options of ASE's ``Calculator``.

    Attributes:
        predictor: the model; setting it discards the last results, as setting the next two does.
        dataset: data set whose head predicts.
        use_tags: use of tags.

    Raises:
        CheckpointError: there is no such checkpoint.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(
        self,
        model: str | Path | Predict,
        dataset: str | None = None,
        *,
        use_tags: bool = False,
        **options: Any,
    ):
        super().__init__(**options)
        if isinstance(model, str | Path):
            model = load_predictor(model, batch_size=1, slack=SLACK)
        self.predictor: Predict = model
        self.dataset, self.use_tags = dataset, use_tags
        self._told: set[str] = set()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in ("predictor", "dataset", "use_tags"):
            self.reset()

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Changes in the atoms since the last calculation, tags included; called by ASE."""
        changes = super().check_state(atoms, tol)
        if self.use_tags and self.atoms is not None and "tags" not in changes:
            before, now = self.atoms.get_tags(), atoms.get_tags()
            if not np.array_equal(before, now):
                changes = [*changes, "tags"]
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Predicts energy, forces and stress of `atoms`; called by ASE.

        Raises:
            PropertyNotImplementedError: the head predicts no such property.
            ReferencesError: an element that the training set did not hold, or a composition that
                its references do not determine.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        assert self.atoms is not None
        (result,) = self.predictor([self._structure(self.atoms)], self.dataset)
        self._tell({name: MARKS[name] for name in sorted(result.marks)} | _unread(self.atoms))
        found = _results(result) | {"free_energy": result.energy}
        if result.deviation is not None:
            deviations = _results(result.deviation)
            found |= {f"{name}_deviation": value for name, value in deviations.items()}
        self.results = {name: value for name, value in found.items() if value is not None}
        missing = [name for name in properties if name not in self.results]
        if missing:
            raise PropertyNotImplementedError(
                f"the model's head predicts no {', '.join(missing)}; use one that was trained with"
                ' head.kind="energy_forces"; stresses also need head.stress=true, and atoms that'
                " repeat in all directions"
            )

    def _tell(self, remarks: Mapping[str, str]) -> None:
        """Give each warning once."""
        for name, text in remarks.items():
            if name not in self._told:
                self._told.add(name)
                warnings.warn(text, OutsideTrainingWarning, stacklevel=4)

    def _structure(self, atoms: Atoms) -> Structure:
        return Structure(
            atomic_numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array if np.any(atoms.pbc) else None,
            pbc=atoms.pbc,
            tags=atoms.get_tags() if self.use_tags else None,
            identifier=atoms.get_chemical_formula(),
        )


def _results(result: StructureResult) -> dict[str, Any]:
    """Results under ASE's names; None where the head predicts no such property."""
    stress = None if result.stress is None else full_3x3_to_voigt_6_stress(result.stress)
    return {"energy": result.energy, "forces": result.forces, "stress": stress}


def _unread(atoms: Atoms) -> dict[str, str]:
    """Warnings about properties of the atoms that no model here reads: charge and spin."""
    info, singlet = atoms.info, 1
    charge = any(info.get(name, 0) for name in CHARGES)
    spin = info.get(SPIN, 0) or any(info.get(n, singlet) != singlet for n in MULTIPLICITIES)
    given = {
        "charge": charge or np.any(atoms.get_initial_charges()),
        "spin": spin or np.any(atoms.get_initial_magnetic_moments()),
    }
    return {
        name: f"the atoms have a {name}, which the model does not read: results are those of the"
        " charge and spin that it was trained on"
        for name, value in given.items()
        if value
    }
