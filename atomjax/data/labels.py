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
from atomjax.structures.units import HARTREE, energy_factor

# Structures of a part of a store that its elements are taken from.
ELEMENT_SAMPLE = 5_000
# eV; adsorbates on unrelaxed slabs have a few tens at most.
LARGEST_ADSORPTION = 50.0
# Exact energies of the atoms H to Ar without relativity, Ha (Chakravorty et al., Phys. Rev. A 47,
# 3649, 1993). Where there is any atom but hydrogen and helium, bonds, functionals and relativity
# change them by these fractions; pseudopotentials and tight binding are far away.
ATOMS_HA = -np.fromstring(
    "0.5 2.9037 7.4781 14.6674 24.6539 37.8450 54.5893 75.0674 99.7341 128.9383 162.2546 200.053 "
    "242.346 289.359 341.259 398.110 460.148 527.540",
    sep=" ",
)
ALL_ELECTRON_RATIOS = (0.99, 1.025)
TOTAL_ENERGY_UNITS = ("eV", "Ha", "Ry", "kcal/mol", "kJ/mol")


@dataclass(frozen=True, kw_only=True)
class LabelCounts:
    """Numbers of structures."""

    structures: int  # all of them
    # Those with such a label.
    energy: int
    forces: int
    stress: int
    periodic: int  # those that repeat in some direction
    # Name of each property asked for → those that have it.
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


def check_energy_unit(name: str, unit: str | None, structures: Sequence[Structure]) -> str:
    """Compare the unit of total energies with that in which they are those of all electrons.

    Molecules of light elements have nearly the energy of their atoms, which is known; so nearly
    all of quantum chemistry tells its unit. Other energies tell nothing.

    Args:
        name: data set, for the message.
        unit: unit that the energies were read in; None: eV.
        structures: they, in eV.

    Returns:
        A doubt in words, where the energies of one single composition tell of another unit; it
        may be chance. Else "".

    Raises:
        ConfigError: those of several do.
    """
    sample = structures
    if isinstance(structures, Store) and len(structures) > ELEMENT_SAMPLE:
        sample = structures.sample(ELEMENT_SAMPLE)
    found = [(r, s) for s in sample if (r := _of_all_electrons(s)) is not None]
    ratios, read_in = np.array([ratio for ratio, _ in found]), energy_factor(unit or "eV")
    least, most = ALL_ELECTRON_RATIOS
    for other in TOTAL_ENERGY_UNITS if found else ():
        as_other = ratios * energy_factor(other) / read_in
        fitting = np.mean((as_other > least) & (as_other < most))
        if fitting > 0.9 and energy_factor(other) != read_in:
            text = (
                f"energies read in {unit or 'eV'} are those of all electrons in {other}; declare "
                f"energy_unit={other!r} (for a store: convert again)"
            )
            if len({structure.formula for _, structure in found}) > 1:
                raise ConfigError(f'dataset "{name}": its {text}')
            return f"doubtful: {text}"
    return ""


def _of_all_electrons(structure: Structure) -> float | None:
    """Energy over that of the atoms with all their electrons; None where these are not known."""
    numbers = structure.atomic_numbers
    known = len(numbers) and 2 < numbers.max() <= len(ATOMS_HA)
    if structure.energy is None or not known:
        return None
    return structure.energy / float(ATOMS_HA[numbers - 1].sum() * HARTREE)


def with_any_target(structures: Sequence[Structure], names: Sequence[str]) -> np.ndarray:
    """[S] whether each structure has a target of one of these names."""
    if isinstance(structures, Store):
        held = [structures.with_target(name) for name in names]
        return np.any(held, axis=0) if held else np.zeros(len(structures), bool)
    return np.array([any(name in one.targets for name in names) for one in structures], bool)


def sizes_of(structures: Sequence[Structure]) -> np.ndarray:
    """[S] numbers of atoms."""
    if isinstance(structures, Store):
        return structures.n_atom
    return np.array([len(structure) for structure in structures], dtype=np.int64)


def elements_of(structures: Sequence[Structure]) -> list[str]:
    """Symbols of the elements that occur, by atomic number."""
    if isinstance(structures, Store) and structures.indices is None:
        return list(structures.manifest["statistics"]["elements"])
    if isinstance(structures, Store):
        numbers = np.flatnonzero(structures.statistics(ELEMENT_SAMPLE).elements)
    else:
        numbers = np.unique(np.concatenate([one.atomic_numbers for one in structures]))
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
