"""A trained model as an ASE calculator, for relaxations and molecular dynamics.

atoms.calc = AtomjaxCalculator("runs/quickstart")
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from atomjax.inference.predict import Predictor, load_predictor
from atomjax.structures import Structure

# Neighbours come and go while atoms move; a shape with some to spare is compiled once.
SLACK = 0.15


class AtomjaxCalculator(Calculator):
    """Energy (eV), forces (eV/Å) and stress (eV/Å³) of a trained model.

    Stress comes from heads that were trained with head.stress, for atoms that repeat in all three
    directions.

    Steps of a trajectory share one padded shape, so that the model is compiled at the first step
    and again only when the neighbours outgrow the shape.

    Args:
        model: a run directory, or a `Predictor`.
        dataset: whose head to ask; may be left out where there is one.
        use_tags: whether the tags of the atoms mean 0 below the surface, 1 surface, 2 adsorbate,
            as the model was trained; False takes all atoms for adsorbates or molecules.
        **options: of ASE's ``Calculator``.

    Raises:
        CheckpointError: there is no such checkpoint.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(
        self,
        model: str | Path | Predictor,
        dataset: str | None = None,
        *,
        use_tags: bool = False,
        **options: Any,
    ):
        super().__init__(**options)
        if not isinstance(model, Predictor):
            model = load_predictor(model, batch_size=1, slack=SLACK)
        self.predictor = model
        self.dataset, self.use_tags = dataset, use_tags

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Predicts energy, forces and stress of `atoms`; called by ASE.

        Raises:
            PropertyNotImplementedError: the head predicts no such property.
            ReferencesError: an element that the training set did not hold.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        assert self.atoms is not None
        (result,) = self.predictor([self._structure(self.atoms)], self.dataset)
        found = {"energy": result.energy, "free_energy": result.energy, "forces": result.forces}
        if result.stress is not None:
            found["stress"] = full_3x3_to_voigt_6_stress(result.stress)
        self.results = {name: value for name, value in found.items() if value is not None}
        missing = [name for name in properties if name not in self.results]
        if missing:
            raise PropertyNotImplementedError(
                f"the model's head predicts no {', '.join(missing)}; use one that was trained with"
                ' head.kind="energy_forces"; stresses also need head.stress=true, and atoms that'
                " repeat in all directions"
            )

    def _structure(self, atoms: Atoms) -> Structure:
        return Structure(
            atomic_numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array if np.any(atoms.pbc) else None,
            pbc=atoms.pbc,
            tags=atoms.get_tags() if self.use_tags else None,
            identifier=atoms.get_chemical_formula(),
        )
