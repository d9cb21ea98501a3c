"""Energies and forces from physics, checked before they count as labels."""

import importlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT

from atomjax.structures.generate.errors import LabelError, missing_package
from atomjax.structures.units import BOHR, DEBYE, HARTREE

XTB_METHODS = ("GFN2-xTB", "GFN1-xTB")


@dataclass(frozen=True, eq=False)
class Label:
    """Result of one calculation.

    Attributes:
        energy: eV.
        forces: [N, 3] eV/Å.
        stress: [3, 3] eV/Å³, positive under tension; None where the method gives none.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None


class Labeler(Protocol):
    """Labels geometries of one set of atoms."""

    def label(self, positions: np.ndarray) -> Label:
        """The label at `positions` [N, 3] Å.

        Raises:
            LabelError: the calculation fails or gives numbers that are not finite.
        """
        ...


class XtbLabeler:
    """Extended tight binding by tblite, one calculator for all geometries of these atoms.

    GFN2-xTB: Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15, 1652 (2019); GFN1-xTB: Grimme,
    Bannwarth, Shushkov, ibid. 13, 1989 (2017). Electrons are smeared at 300 K, which lets broken
    bonds converge; periodic cells are sampled at Γ alone.

    Args:
        method: one of `XTB_METHODS`.
        atomic_numbers: [N].
        cell: [3, 3] Å, or None; periodic in all three directions where given.
        unpaired: electrons without a partner.
    """

    def __init__(
        self,
        method: str,
        atomic_numbers: np.ndarray,
        cell: np.ndarray | None = None,
        unpaired: int | None = None,
    ) -> None:
        try:
            self._interface: Any = importlib.import_module("tblite.interface")
        except ImportError as error:
            raise missing_package("tblite") from error
        self._method = method
        self._numbers = np.asarray(atomic_numbers)
        self._cell = None if cell is None else np.asarray(cell) / BOHR
        self._unpaired = unpaired
        self._calculator: Any = None

    def label(self, positions: np.ndarray) -> Label:
        """The label at `positions` [N, 3] Å, from a calculation that starts afresh."""
        return _label(self.solve(positions))

    def solve(self, positions: np.ndarray, guess: Any = None) -> Any:
        """The calculation's full result, from `guess` (an earlier result) where given.

        Raises:
            LabelError: the self-consistent field does not converge.
        """
        bohr = np.asarray(positions) / BOHR
        try:
            if self._calculator is None:
                self._calculator = self._new_calculator(bohr)
            else:
                self._calculator.update(bohr)
            return self._calculator.singlepoint(guess)
        except RuntimeError as error:
            # A failed field may leave its debris in the calculator.
            self._calculator = None
            raise LabelError("did not converge") from error

    def _new_calculator(self, bohr: np.ndarray) -> Any:
        lattice = {}
        if self._cell is not None:
            lattice = {"lattice": self._cell, "periodic": np.ones(3, dtype=bool)}
        calculator = self._interface.Calculator(
            self._method, self._numbers, bohr, uhf=self._unpaired, **lattice
        )
        calculator.set("verbosity", 0)
        return calculator


class EmtLabeler:
    """Effective medium theory, ASE's implementation, for atoms with a cell or without.

    Jacobsen, Stoltze, Nørskov, Surf. Sci. 366, 394 (1996): Al, Cu, Ag, Au, Ni, Pd, Pt; ASE adds H,
    C, N, O with made-up parameters, good for a smooth surface to learn and for no chemistry.
    """

    def __init__(self, atoms: Atoms) -> None:
        self._atoms = atoms.copy()
        self._atoms.set_constraint()
        self._atoms.calc = EMT()

    def label(self, positions: np.ndarray) -> Label:
        """The label at `positions` [N, 3] Å."""
        self._atoms.positions = positions
        label = Label(float(self._atoms.get_potential_energy()), self._atoms.get_forces())
        return check_finite(label)


def _label(result: Any) -> Label:
    energy = float(result.get("energy")) * HARTREE
    return check_finite(Label(energy, -np.asarray(result.get("gradient")) * (HARTREE / BOHR)))


def label_of(result: Any) -> Label:
    """Energy and forces of a result of `XtbLabeler.solve`; raises LabelError where not finite."""
    return _label(result)


def electronic_properties(result: Any) -> dict[str, float]:
    """Dipole moment (D), orbital energies and gap (eV) of a result of `XtbLabeler.solve`.

    The frontier is between the last orbital that is at least half full and the next.
    """
    levels = np.asarray(result.get("orbital-energies")) * HARTREE
    filled = np.asarray(result.get("orbital-occupations")) >= 1.0
    homo, lumo = float(levels[filled].max()), float(levels[~filled].min())
    dipole = float(np.linalg.norm(result.get("dipole"))) * BOHR / DEBYE
    return {"dipole": dipole, "homo": homo, "lumo": lumo, "gap": lumo - homo}


def check_finite(label: Label) -> Label:
    """The label itself; raises LabelError where a number in it is not finite."""
    parts = [label.energy, label.forces, *([] if label.stress is None else [label.stress])]
    if not all(np.isfinite(part).all() for part in parts):
        raise LabelError("not finite")
    return label


def check_force(label: Label, max_force: float) -> Label:
    """The label itself.

    Raises:
        LabelError: an atom's force is larger than `max_force`, eV/Å: the atoms are too near for
            the method to mean anything.
    """
    if np.linalg.norm(label.forces, axis=1).max() > max_force:
        raise LabelError("force above the limit")
    return label
