"""Which labels the structures of a data set have, and of what kind they are: counted, not guessed.

A store says both in its index, so that nothing of it is read.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from atomjax.structures.elements import SYMBOLS
from atomjax.structures.store import Store
from atomjax.structures.structure import Structure

# Structures of a part of a store that its elements are taken from.
ELEMENT_SAMPLE = 5_000


@dataclass(frozen=True, kw_only=True)
class LabelCounts:
    """Numbers of structures.

    Attributes:
        structures: all of them.
        energy, forces, stress: those with such a label.
        periodic: those that repeat in some direction.
    """

    structures: int
    energy: int
    forces: int
    stress: int
    periodic: int

    @classmethod
    def of(cls, structures: Sequence[Structure]) -> "LabelCounts":
        """Count the labels of `structures`."""
        if isinstance(structures, Store):
            return cls(structures=len(structures), **structures.label_counts)
        return cls(
            structures=len(structures),
            energy=sum(s.energy is not None for s in structures),
            forces=sum(s.forces is not None for s in structures),
            stress=sum(s.stress is not None for s in structures),
            periodic=sum(s.is_periodic for s in structures),
        )

    def __str__(self) -> str:
        total = f"{self.structures:,}"
        words = {self.structures: "all", 0: "none"}
        counts = {n: words.get(c, f"{c:,} of {total}") for n, c in self._named()}
        return ", ".join(f"{n} of {c}" for n, c in counts.items() if (n, c) != ("stresses", "none"))

    def missing(self) -> str:
        """Which labels some but not all structures have, in words."""
        some = [(name, count) for name, count in self._named() if 0 < count < self.structures]
        return ", ".join(f"{name} of {count:,} of {self.structures:,}" for name, count in some)

    def _named(self) -> list[tuple[str, int]]:
        return [("energies", self.energy), ("forces", self.forces), ("stresses", self.stress)]


def elements_of(structures: Sequence[Structure]) -> list[str]:
    """Symbols of the elements that occur, by atomic number."""
    if isinstance(structures, Store) and structures.indices is None:
        return list(structures.manifest["statistics"]["elements"])
    if isinstance(structures, Store):
        structures = structures.sample(ELEMENT_SAMPLE)
    numbers = np.unique(np.concatenate([structure.atomic_numbers for structure in structures]))
    return [SYMBOLS[number] for number in numbers]


def trained_on(
    structures: Sequence[Structure], *, energy: bool = True, forces: bool = True
) -> dict[str, Any]:
    """What a checkpoint keeps of the structures that its head was trained on, as JSON.

    Args:
        structures: the training set.
        energy: whether the energies enter the loss.
        forces: whether the forces do.
    """
    counts = asdict(LabelCounts.of(structures))
    counts["energy"] *= energy
    counts["forces"] *= forces
    return {**counts, "elements": elements_of(structures)}


def unwanted_labels(*, energies: bool, forces: bool, stress: bool) -> dict[str, str]:
    """Arguments of readers that decline the labels which a training does not want.

    A label that is not read cannot be damaged.
    """
    wanted = {
        "energy_key": energies,
        "forces_key": energies and forces,
        "stress_key": energies and stress,
    }
    return {name: "" for name, is_wanted in wanted.items() if not is_wanted}
