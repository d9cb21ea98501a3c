"""Labels of the structures of a data set, and their kinds: counted, not guessed.

A store says both in its index, so that nothing of it is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from atomjax.data.settings import DatasetSettings
from atomjax.runtime.config import ConfigError
from atomjax.structures.elements import SYMBOLS
from atomjax.structures.readers.format import LABEL_KEYS
from atomjax.structures.store import Store
from atomjax.structures.store.records import LABELS
from atomjax.structures.structure import Structure

# Structures of a part of a store that its elements are taken from.
ELEMENT_SAMPLE = 5_000
# eV; adsorbates on unrelaxed slabs have a few tens at most.
LARGEST_ADSORPTION = 50.0


@dataclass(frozen=True, kw_only=True)
class LabelCounts:
    """Numbers of structures.

    Attributes:
        structures: all of them.
        energy, forces, stress: those with such a label.
        periodic: those that repeat in some direction.
        targets: name of each property asked for → those that have it.
    """

    structures: int
    energy: int
    forces: int
    stress: int
    periodic: int
    targets: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, structures: Sequence[Structure], targets: Sequence[str] = ()) -> "LabelCounts":
        """Count the labels of `structures`, and the properties of these names."""
        if isinstance(structures, Store):
            counts = {name: int(structures.labelled(name).sum()) for name in LABELS}
            periodic = int(structures.periodic.sum())
            named = {name: int(structures.with_target(name).sum()) for name in targets}
            return cls(structures=len(structures), periodic=periodic, targets=named, **counts)
        return cls(
            structures=len(structures),
            energy=sum(s.energy is not None for s in structures),
            forces=sum(s.forces is not None for s in structures),
            stress=sum(s.stress is not None for s in structures),
            periodic=sum(s.is_periodic for s in structures),
            targets={name: sum(name in s.targets for s in structures) for name in targets},
        )

    def __str__(self) -> str:
        total = f"{self.structures:,}"
        words = {self.structures: "all", 0: "none"}
        counts = {n: words.get(c, f"{c:,} of {total}") for n, c in self._named()}
        return ", ".join(f"{n} of {c}" for n, c in counts.items() if (n, c) != ("stresses", "none"))

    def missing(self) -> str:
        """Labels that some but not all structures have, in words."""
        some = [(name, count) for name, count in self._named() if 0 < count < self.structures]
        return ", ".join(f"{name} of {count:,} of {self.structures:,}" for name, count in some)

    def _named(self) -> list[tuple[str, int]]:
        own = [("energies", self.energy), ("forces", self.forces), ("stresses", self.stress)]
        return [*own, *self.targets.items()]


def check_energy_kind(name: str, kind: str | None, structures: Sequence[Structure]) -> None:
    """Raise where energies that are declared to be of adsorption cannot be.

    Those are a few eV whatever the slab, while total energies are some eV of every atom.

    Raises:
        ConfigError: half of the energies are larger than any adsorption.
    """
    if kind != "adsorption":
        return
    if isinstance(structures, Store):
        labelled = structures.labelled("energy")
        energies, sizes = structures.energies[labelled], structures.n_atom[labelled]
    else:
        own = [s for s in structures if s.energy is not None]
        energies, sizes = np.array([s.energy for s in own]), np.array([len(s) for s in own])
    if not len(energies):
        return
    typical = float(np.median(np.abs(energies)))
    if typical > LARGEST_ADSORPTION and np.median(np.abs(energies) / sizes) > 1.0:
        raise ConfigError(
            f'dataset "{name}": energy_kind="adsorption", but half of the energies exceed '
            f"{typical:,.0f} eV, more than 1 eV an atom, as total energies do; declare "
            'energy_kind="total", or check energy_unit'
        )


def elements_of(structures: Sequence[Structure]) -> list[str]:
    """Symbols of the elements that occur, by atomic number."""
    if isinstance(structures, Store) and structures.indices is None:
        return list(structures.manifest["statistics"]["elements"])
    if isinstance(structures, Store):
        structures = structures.sample(ELEMENT_SAMPLE)
    numbers = np.unique(np.concatenate([structure.atomic_numbers for structure in structures]))
    return [SYMBOLS[number] for number in numbers]


def trained_on(
    structures: Sequence[Structure],
    targets: Sequence[str] = (),
    *,
    energy: bool = True,
    forces: bool = True,
) -> dict[str, Any]:
    """Label counts and elements of a head's training set, kept in its checkpoint; as JSON.

    Args:
        structures: the training set.
        targets: names of the properties that are trained.
        energy: whether the energies enter the loss.
        forces: whether the forces do.
    """
    counts = asdict(LabelCounts.of(structures, targets))
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


def without_labels(dataset: DatasetSettings) -> DatasetSettings:
    """A data set whose labels are not read, even those that its arguments ask for.

    Unless they decide which records belong to it, as in official sets and where damaged records
    are left out: it has to be the set that is trained on.
    """
    if dataset.kind != "read":
        return dataset
    if dataset.facts.fixes_units or dataset.arguments.get("on_error") == "skip":
        return of_any_kind(dataset)
    declined = unwanted_labels(energies=False, forces=False, stress=False)
    asked = {"forces_key", *LABEL_KEYS}
    kept = {name: value for name, value in dataset.arguments.items() if name not in asked}
    return replace(dataset, energy_kind="none", arguments={**kept, **declined})


def of_any_kind(dataset: DatasetSettings) -> DatasetSettings:
    """A data set of whose energies nobody asks what they mean."""
    if dataset.kind != "read" or dataset.energy_kind is not None:
        return dataset
    return replace(dataset, energy_kind=next(iter(dataset.facts.energy_kinds), "total"))
