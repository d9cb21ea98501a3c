"""Sets of crystals: which are made, how they are relaxed, and how frames are drawn of them."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from ase import Atoms

from atomjax.structures.elements import ATOMIC_NUMBERS, MAX_ATOMIC_NUMBER
from atomjax.structures.generate.crystals.chgnet import VERSION, ChgnetLabeler
from atomjax.structures.generate.crystals.compositions import (
    Composition,
    compositions,
    elements,
    find_composition,
)
from atomjax.structures.generate.crystals.prototypes import (
    PROTOTYPES,
    formula,
    repeats_within,
    supercell,
    unit_cell,
)
from atomjax.structures.generate.errors import GenerateError, LabelError
from atomjax.structures.generate.labels import Label, check_force
from atomjax.structures.generate.pool.tasks import check_range, spread
from atomjax.structures.generate.surfaces import check_overlaps
from atomjax.structures.structure import Structure

PACKAGES = ("chgnet", "ase")
LABELS = f"CHGNet {VERSION} (BSD-3-Clause), a model trained on MPtrj (CC-BY-4.0), not DFT"
CHUNK = 10
# Frames labelled in one evaluation, and crystals that stand in for one that is not stable.
BATCH, SPARES = 8, 3
FRAMES_PER_CRYSTAL = 5
# Scales of the lattice at which its energy is computed, and how often they may be moved on.
SCALES, SHIFTS = np.linspace(0.88, 1.12, 7), 2
# Atoms without which a cell is too small to lose one.
SMALLEST_WITH_VACANCY = 8
# Frames that fail before a crystal gives way to its first spare.
TRIES = 10


@dataclass(frozen=True)
class Options:
    """Options for bulk crystals.

    Attributes:
        systems: number of crystals; 0 makes one for every 5 structures.
        prototypes: "fcc", "bcc", "hcp", "diamond", "rocksalt", "zincblende", "wurtzite",
            "fluorite", "perovskite", "spinel", "layered-1T", "layered-2H".
        elements: symbols that crystals may hold; none given means all that there are.
        atoms: smallest and largest number of atoms in a cell; the vacancy comes off it.
        strain: standard deviation up to which the components of a random strain go.
        rattle: Å, standard deviation, up to which atoms are displaced.
        vacancies: fraction of frames that lack an atom, where the cell has eight or more.
        max_force: eV/Å; a frame with a larger force on an atom is dropped.
    """

    systems: int = 0
    prototypes: tuple[str, ...] = tuple(PROTOTYPES)
    elements: tuple[str, ...] = ()
    atoms: tuple[int, ...] = (8, 28)
    strain: float = 0.03
    rattle: float = 0.15
    vacancies: float = 0.15
    max_force: float = 20.0

    def __post_init__(self) -> None:
        check_range("crystals: atoms", self.atoms, 1)
        unknown = set(self.prototypes) - set(PROTOTYPES)
        if unknown or not self.prototypes:
            raise GenerateError(
                f"crystals: prototypes {sorted(unknown)} not among {', '.join(PROTOTYPES)}"
            )
        unknown = set(self.elements) - set(elements())
        if unknown:
            raise GenerateError(
                f"crystals: elements {sorted(unknown)} not among {', '.join(elements())}"
            )


def plan(options: Options, count: int, seed: int) -> list[tuple[str, int]]:
    """Crystals, over the prototypes in turn, each with its share of the frames."""
    rng = np.random.default_rng([seed, 0xC7A1])
    pools = {name: _Pool(name, options) for name in options.prototypes}
    wanted = min(options.systems or -(-count // FRAMES_PER_CRYSTAL), count)
    seen = np.zeros(MAX_ATOMIC_NUMBER + 1)
    subjects: list[str] = []
    while len(subjects) < wanted:
        waiting = [pool for pool in pools.values() if pool.left]
        if not waiting:
            break
        subjects.extend(pool.take(seen, rng) for pool in waiting[: wanted - len(subjects)])
    if not subjects:
        raise GenerateError(
            f"crystals: elements {', '.join(options.elements)} and atoms {options.atoms} leave"
            f" nothing of {', '.join(options.prototypes)}"
        )
    # What labels a crystal's frames together has to know how many they are.
    return [(f"{n} {names}", n) for names, n in spread(subjects, count, CHUNK)]


class _Pool:
    """Crystals of one prototype that are still to be taken."""

    def __init__(self, prototype: str, options: Options) -> None:
        allowed = set(options.elements)
        self._crystals = [
            c for c in compositions(prototype) if not allowed or allowed.issuperset(c.sites)
        ]
        size = len(unit_cell(compositions(prototype)[0]))
        if not len(repeats_within(size, *options.atoms)):
            self._crystals = []
        self._holds = np.zeros((len(self._crystals), MAX_ATOMIC_NUMBER + 1))
        for row, crystal in zip(self._holds, self._crystals, strict=True):
            row[[ATOMIC_NUMBERS[symbol] for symbol in crystal.sites]] = 1
        self._kinds = self._holds.sum(axis=1)
        self._free = np.ones(len(self._crystals), dtype=bool)

    @property
    def left(self) -> int:
        """Number of crystals still to be taken."""
        return int(self._free.sum())

    def take(self, seen: np.ndarray, rng: np.random.Generator) -> str:
        """A crystal of elements `seen` [119] least so far, and spares; counts its elements."""
        open_ = self._free
        # Alloys outnumber elements by far.
        pure = open_ & (self._kinds == 1)
        if pure.any() and rng.random() < 0.5:
            open_ = pure
        score = self._holds @ seen / self._kinds + 0.5 * rng.random(len(open_))
        chosen = int(np.argmin(np.where(open_, score, np.inf)))
        self._free[chosen] = False
        seen += self._holds[chosen]
        spares = rng.choice(len(self._crystals), min(SPARES, len(self._crystals)), replace=False)
        return " ".join(self._crystals[i].name for i in [chosen, *spares.tolist()])


def begin(subject: str, options: Options, rng: np.random.Generator) -> Callable[[], Structure]:
    """Draws frames of one crystal, or of its spares where it has no stable volume.

    `subject` is the number of frames and names, such as ``5 rocksalt:Na-Cl rocksalt:K-Br``.
    """
    count, *names = subject.split()
    waiting = cycle(names)
    labeler = ChgnetLabeler()
    missing, failures = int(count), 0
    crystal: tuple[Composition, Atoms] | None = None
    frames: deque[tuple[Atoms, Label | LabelError]] = deque()

    def attempt() -> Structure:
        nonlocal crystal, failures
        if crystal is None:
            composition = find_composition(next(waiting))
            crystal = composition, relax_volume(unit_cell(composition), labeler)
            failures = 0
        composition, cell = crystal
        if not frames:
            mixed = len(set(composition.sites)) > 1 and not any(composition.charges)
            wanted = min(max(missing, 1), BATCH)
            geometries = [_frame(cell, mixed, options, rng) for _ in range(wanted)]
            frames.extend(zip(geometries, labeler.label(geometries), strict=True))
        atoms, label = frames.popleft()
        if isinstance(label, LabelError):
            raise label
        check_force(label, options.max_force)
        return Structure(
            atomic_numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=True,
            energy=label.energy,
            forces=label.forces,
            stress=label.stress,
            class_key=f"{composition.prototype} {formula(composition)}",
        )

    def draw() -> Structure:
        nonlocal crystal, missing, failures
        try:
            structure = attempt()
        except LabelError:
            failures += 1
            if failures == TRIES:
                crystal = None
                frames.clear()
            raise
        missing -= 1
        return structure

    return draw


def relax_volume(cell: Atoms, labeler: ChgnetLabeler) -> Atoms:
    """The cell, scaled to where its energy is least: the vertex through the three lowest points.

    Raises:
        LabelError: the energy has no minimum near this volume.
    """
    scales = SCALES
    for _ in range(SHIFTS + 1):
        energies = labeler.energies([_scaled(cell, scale) for scale in scales])
        lowest = int(np.argmin(energies))
        near = slice(lowest - 1, lowest + 2)
        if 0 < lowest < len(scales) - 1 and np.isfinite(energies[near]).all():
            square, slope, _ = np.polyfit(scales[near], energies[near], 2)
            return _scaled(cell, -slope / (2 * square))
        scales = scales * (scales[lowest] / scales[len(scales) // 2])
    raise LabelError("no minimum of the volume")


def _scaled(cell: Atoms, scale: float) -> Atoms:
    scaled = cell.copy()
    scaled.set_cell(cell.cell.array * scale, scale_atoms=True)
    return scaled


def _frame(cell: Atoms, mixed: bool, options: Options, rng: np.random.Generator) -> Atoms:
    """A strained, rattled supercell, now and then without one of its atoms."""
    atoms = supercell(cell, repeats_within(len(cell), *options.atoms), rng, mixed)
    if len(atoms) >= SMALLEST_WITH_VACANCY and rng.random() < options.vacancies:
        del atoms[int(rng.integers(len(atoms)))]
    strain = rng.uniform(0.0, options.strain) * rng.normal(size=(3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    atoms.positions += rng.uniform(0.0, options.rattle) * rng.normal(size=(len(atoms), 3))
    check_overlaps(atoms)
    return atoms
