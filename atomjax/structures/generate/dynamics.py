"""Langevin dynamics of one molecule, in the image of rMD17: GFN2-xTB.

Walkers start from random conformers, relaxed and shaken, and keep frames far enough apart to be
nearly independent. Every atom is as heavy as carbon at least: masses change how fast a thermal
ensemble is walked through, not the ensemble of positions, and without light hydrogens the time
step can be four times as long.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import atomic_masses

from atomjax.structures.generate.errors import GenerateError, LabelError
from atomjax.structures.generate.geometry import ThermalMotion, bonds, relax
from atomjax.structures.generate.labels import XtbLabeler, check_force, label_of
from atomjax.structures.generate.molecules import NAMED, Molecule, embed
from atomjax.structures.generate.pool.tasks import spread
from atomjax.structures.structure import Structure
from atomjax.structures.units import BOLTZMANN, TIME

PACKAGES = ("tblite", "rdkit")
LABELS = "{method}"
LIGHTEST = 12.0


@dataclass(frozen=True)
class Options:
    """Options for Langevin dynamics of one molecule.

    Attributes:
        molecule: a name (`molecules.NAMED`) or a SMILES.
        temperatures: K; walkers take them in turn.
        timestep: fs.
        friction: 1/fs.
        stride: steps between frames that are kept.
        equilibration: steps before the first frame.
        frames_per_walker: frames that one walker gives.
        max_force: eV/Å; a frame with a larger force on an atom is dropped.
        method: "GFN2-xTB" or "GFN1-xTB".
    """

    molecule: str = "aspirin"
    temperatures: tuple[float, ...] = (500.0,)
    timestep: float = 2.0
    friction: float = 0.01
    stride: int = 10
    equilibration: int = 100
    frames_per_walker: int = 50
    max_force: float = 30.0
    method: str = "GFN2-xTB"

    def __post_init__(self) -> None:
        if not self.temperatures or min(self.temperatures) <= 0:
            raise GenerateError(f"dynamics: temperatures must be positive: {self.temperatures}")
        for name in ("timestep", "friction", "stride", "frames_per_walker"):
            if getattr(self, name) <= 0:
                raise GenerateError(f"dynamics: {name} must be positive")


def plan(options: Options, count: int, seed: int) -> list[tuple[str, int]]:
    """Walkers at the temperatures in turn."""
    del seed
    pieces = spread([options.molecule], count, options.frames_per_walker)
    temperatures = options.temperatures
    return [
        (f"{name}@{temperatures[i % len(temperatures)]}", n) for i, (name, n) in enumerate(pieces)
    ]


def begin(subject: str, options: Options, rng: np.random.Generator) -> Callable[[], Structure]:
    """Draws frames of one walker; `subject` is ``molecule@temperature``."""
    name, _, temperature = subject.rpartition("@")
    molecule = embed(NAMED.get(name, name), rng)
    labeler = XtbLabeler(options.method, molecule.atomic_numbers)
    walker = Walker(molecule, labeler, float(temperature), options, rng)

    def draw() -> Structure:
        walker.advance(options.stride)
        # Labelled from scratch, not from the field of the step before, like any other structure.
        label = check_force(labeler.label(walker.positions), options.max_force)
        return Structure(
            atomic_numbers=molecule.atomic_numbers,
            positions=walker.positions - walker.positions.mean(axis=0),
            energy=label.energy,
            forces=label.forces,
            class_key=name,
        )

    return draw


class Walker:
    """One molecule in a heat bath (BAOAB; Leimkuhler, Matthews, Appl. Math. Res. 34, 2013).

    Args:
        molecule: molecule in its initial geometry, before relaxation.
        labeler: gives forces.
        temperature: K.
        options: time step and friction.
        rng: random numbers of the heat bath.
    """

    def __init__(
        self,
        molecule: Molecule,
        labeler: XtbLabeler,
        temperature: float,
        options: Options,
        rng: np.random.Generator,
    ) -> None:
        self._molecule = molecule
        self._labeler = labeler
        self._options = options
        self._rng = rng
        masses = np.maximum(atomic_masses[molecule.atomic_numbers], LIGHTEST)[:, None]
        self._masses = masses
        self._spread = np.sqrt(BOLTZMANN * temperature / masses)
        self._temperature = temperature
        self.positions = molecule.positions
        self._restart()

    def _restart(self) -> None:
        numbers = self._molecule.atomic_numbers
        self.positions, _ = relax(
            self._labeler, numbers, self._molecule.positions, max_force=0.1, steps=100,
            must_converge=False,
        )  # fmt: skip
        self._bonds = bonds(numbers, self.positions)
        motion = ThermalMotion(numbers, self.positions)
        self.positions = self.positions + motion.displacement(self._temperature, self._rng)
        self.velocities = self._spread * self._rng.normal(size=self.positions.shape)
        self._result: Any = None
        self._forces = self._solve()
        self._unsettled = self._options.equilibration

    def _solve(self) -> np.ndarray:
        self._result = self._labeler.solve(self.positions, self._result)
        return label_of(self._result).forces

    def advance(self, steps: int) -> None:
        """Walk on; after a start, first the steps of equilibration.

        Raises:
            LabelError: a step has no label or the molecule fell apart; the walker has restarted.
        """
        try:
            for _ in range(self._unsettled + steps):
                self._step()
            self._unsettled = 0
        except LabelError:
            self._restart()
            raise
        if bonds(self._molecule.atomic_numbers, self.positions) != self._bonds:
            self._restart()
            raise LabelError("the molecule reacted")

    def _step(self) -> None:
        dt = self._options.timestep / TIME
        kept = np.exp(-self._options.friction * self._options.timestep)
        self.velocities = self.velocities + dt / 2 * self._forces / self._masses
        self.positions = self.positions + dt / 2 * self.velocities
        noise = self._spread * self._rng.normal(size=self.positions.shape)
        self.velocities = kept * self.velocities + np.sqrt(1 - kept**2) * noise
        self.positions = self.positions + dt / 2 * self.velocities
        self._forces = self._solve()
        self.velocities = self.velocities + dt / 2 * self._forces / self._masses
