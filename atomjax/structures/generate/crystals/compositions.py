"""Elements that fill a prototype: their charges balance and their sizes fit."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from ase.data import atomic_numbers, covalent_radii, reference_states

# Å, effective ionic radii of six-fold coordination (Shannon, Acta Cryst. A 32, 751, 1976), high
# spin where there is a choice.
CATIONS: dict[int, dict[str, float]] = {
    1: {
        "Li": 0.76, "Na": 1.02, "K": 1.38, "Rb": 1.52, "Cs": 1.67, "Cu": 0.77, "Ag": 1.15,
        "Tl": 1.50,
    },
    2: {
        "Be": 0.45, "Mg": 0.72, "Ca": 1.00, "Sr": 1.18, "Ba": 1.35, "Ti": 0.86, "V": 0.79,
        "Cr": 0.80, "Mn": 0.83, "Fe": 0.78, "Co": 0.745, "Ni": 0.69, "Cu": 0.73, "Zn": 0.74,
        "Pd": 0.86, "Cd": 0.95, "Hg": 1.02, "Pb": 1.19, "Eu": 1.17, "Yb": 1.02,
    },
    3: {
        "Al": 0.535, "Sc": 0.745, "Ti": 0.67, "V": 0.64, "Cr": 0.615, "Mn": 0.645, "Fe": 0.645,
        "Co": 0.61, "Ga": 0.62, "Y": 0.90, "Mo": 0.69, "Ru": 0.68, "Rh": 0.665, "In": 0.80,
        "Sb": 0.76, "La": 1.032, "Ce": 1.01, "Pr": 0.99, "Nd": 0.983, "Sm": 0.958, "Gd": 0.938,
        "Tb": 0.923, "Dy": 0.912, "Ho": 0.901, "Er": 0.890, "Tm": 0.880, "Lu": 0.861, "Ir": 0.68,
        "Bi": 1.03,
    },
    4: {
        "Si": 0.40, "Ge": 0.53, "Sn": 0.69, "Pb": 0.775, "Ti": 0.605, "V": 0.58, "Mn": 0.53,
        "Zr": 0.72, "Nb": 0.68, "Mo": 0.65, "Tc": 0.645, "Ru": 0.62, "Rh": 0.60, "Pd": 0.615,
        "Hf": 0.71, "Ta": 0.68, "W": 0.66, "Re": 0.63, "Os": 0.63, "Ir": 0.625, "Pt": 0.625,
        "Ce": 0.87, "Th": 0.94, "U": 0.89,
    },
    5: {"V": 0.54, "Nb": 0.64, "Sb": 0.60, "Ta": 0.64},
}  # fmt: skip
# Å; Shannon's, for pnictides, carbides and the hydride what makes their rock salts' lattice
# constants.
ANIONS: dict[int, dict[str, float]] = {
    1: {"H": 1.30, "F": 1.33, "Cl": 1.81, "Br": 1.96, "I": 2.20},
    2: {"O": 1.40, "S": 1.84, "Se": 1.98, "Te": 2.21},
    3: {"N": 1.60, "P": 2.05, "As": 2.15, "Sb": 2.35},
    4: {"C": 1.56, "Si": 2.15, "Ge": 2.20},
}
# Å³ per atom of metals whose ground state ASE does not know as fcc, bcc or hcp.
OTHER_METALS = {
    "Mn": 12.2, "Ga": 19.6, "In": 26.2, "Sn": 27.0, "Sm": 33.2, "Hg": 23.1, "Bi": 35.4, "U": 20.8,
}  # fmt: skip
NO_METALS = ("C", "Si", "Ge", "Se", "Te", "Ne", "Ar", "Kr", "Xe", "Ac")
# Å³ per atom of elements that crystallise in the structure of diamond.
TETRAHEDRAL = {"C": 5.69, "Si": 20.0, "Ge": 22.7, "Sn": 34.2}
# Largest ratio of the volumes of two elements that are mixed.
MISCIBLE = 1.8
# Compounds with tetrahedral cations, and trigonal prisms.
TETRAHEDRAL_CATIONS = {
    1: ("Cu", "Ag"),
    2: ("Be", "Mg", "Mn", "Zn", "Cd", "Hg"),
    3: ("B", "Al", "Ga", "In"),
    4: ("Si", "Ge", "Sn"),
}
PRISMATIC = ("V", "Nb", "Ta", "Mo", "W", "Re", "Tc")
# An atom amid twelve is so much larger than amid six, Å.
TWELVE_FOLD = 0.3


@dataclass(frozen=True)
class Composition:
    """Elements on the sites of a prototype.

    Attributes:
        prototype: one of `prototypes.PROTOTYPES`.
        sites: symbols, one for each site of the prototype; of metals and the like, the elements of
            four atoms.
        charges: charges of the sites; zeros in metals and the like.
        bond: Å, length between nearest neighbours; of spinels, to octahedral cations.
        others: further lengths, Å: bonds to the tetrahedron of spinels, and the radius of the
            anions of layers.
    """

    prototype: str
    sites: tuple[str, ...]
    charges: tuple[int, ...]
    bond: float
    others: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """Name within a plan, such as ``rocksalt:Na-Cl``."""
        return f"{self.prototype}:{'-'.join(self.sites)}"


def volumes_of_metals() -> dict[str, float]:
    """Å³ per atom of elements as metals, by symbol."""
    volumes = dict(OTHER_METALS)
    for symbol, number in atomic_numbers.items():
        state = reference_states[number] if number < len(reference_states) else None
        if state and symbol not in NO_METALS:
            shape = {
                "fcc": 1 / 4,
                "bcc": 1 / 2,
                "hcp": np.sqrt(3) / 4 * state.get("c/a", 1.633),
            }.get(state["symmetry"])
            if shape is not None:
                volumes[symbol] = float(shape * state["a"] ** 3)
    return volumes


@functools.cache
def compositions(prototype: str) -> tuple[Composition, ...]:
    """All elements that fill a prototype, each set of sites once."""
    return tuple({c.sites: c for c in _MAKERS[prototype](prototype)}.values())


@functools.cache
def elements() -> tuple[str, ...]:
    """Symbols of all elements that are in some composition, by atomic number."""
    found = {symbol for name in _MAKERS for c in compositions(name) for symbol in c.sites}
    return tuple(sorted(found, key=atomic_numbers.__getitem__))


def find_composition(name: str) -> Composition:
    """The composition of a `Composition.name`."""
    prototype = name.split(":")[0]
    return next(c for c in compositions(prototype) if c.name == name)


def _elements(prototype: str) -> Iterator[Composition]:
    """Elements and alloys of two, 1:1 and 3:1; as long a bond as gives the mean volume."""
    volumes = TETRAHEDRAL if prototype == "diamond" else volumes_of_metals()
    # Bond³ of one Å³ per atom.
    cube = {
        "fcc": np.sqrt(2), "hcp": np.sqrt(2), "bcc": 3 * np.sqrt(3) / 4,
        "diamond": 3 * np.sqrt(3) / 8,
    }[prototype]  # fmt: skip

    def make(sites: tuple[str, ...]) -> Composition:
        mean = np.mean([volumes[symbol] for symbol in sites])
        return Composition(prototype, sites, (0,) * 4, float(np.cbrt(cube * mean)))

    for symbol in volumes:
        yield make((symbol,) * 4)
    for one, two in combinations(volumes, 2):
        small, large = sorted((volumes[one], volumes[two]))
        if large <= MISCIBLE * small:
            yield make((one, one, one, two))
            yield make((one, one, two, two))
            yield make((one, two, two, two))


def _tetrahedral(prototype: str) -> Iterator[Composition]:
    """Compounds of two; bonds are sums of covalent radii."""
    for charge, cations in TETRAHEDRAL_CATIONS.items():
        anions = [x for x in ANIONS[charge] if x not in ("H", "F")]
        for pair in product(cations, anions):
            if pair[0] != pair[1]:
                bond = sum(float(covalent_radii[atomic_numbers[symbol]]) for symbol in pair)
                yield Composition(prototype, pair, (charge, -charge), bond)


def _pairs(cations: tuple[int, ...], anions: tuple[int, ...]) -> Iterator[tuple]:
    """Cations and anions of these charges: charge, symbol and radius of both."""
    for q, p in product(cations, anions):
        for (m, r), (x, s) in product(CATIONS[q].items(), ANIONS[p].items()):
            if m != x:
                yield q, m, r, p, x, s


def _rocksalt(prototype: str) -> Iterator[Composition]:
    for q, m, r, p, x, s in _pairs((1, 2, 3, 4), (1, 2, 3, 4)):
        # Carbides of transition metals; silicides and germanides have other structures.
        if q == p and r / s >= 0.3 and (q < 4 or (x == "C" and m not in ("Si", "Ge", "Sn", "Pb"))):
            yield Composition(prototype, (m, x), (q, -p), r + s)


def _fluorite(prototype: str) -> Iterator[Composition]:
    """The first site amid eight, the second amid four: CaF2, and Li2O the other way round."""
    for q, m, r, p, x, s in _pairs((1, 2, 4), (1, 2, 4)):
        # Eight neighbours push each other away.
        if q == 2 * p and r / s >= 0.5 and x not in ("Se", "Te"):
            yield Composition(prototype, (m, x), (q, -p), r + s + 0.05)
        elif p == 2 * q and r / s >= 0.3 and x != "C":
            yield Composition(prototype, (x, m), (-p, q), r + s - 0.1)


def _perovskite(prototype: str) -> Iterator[Composition]:
    """Goldschmidt's tolerance factor from 0.8 to 1.08."""
    for q, b, r, p, x, s in _pairs((2, 3, 4, 5), (1, 2)):
        charge = 3 * p - q
        if charge not in (1, 2, 3) or x == "H" or r / s < 0.3:
            continue
        for a, large in CATIONS[charge].items():
            factor = (large + TWELVE_FOLD + s) / (np.sqrt(2) * (r + s))
            if a != b and large > r and 0.8 <= factor <= 1.08:
                yield Composition(prototype, (a, b, x), (charge, q, -p), r + s)


def _spinel(prototype: str) -> Iterator[Composition]:
    """Chalcogenides A²⁺B³⁺₂X₄ and A⁴⁺B²⁺₂O₄, of small cations."""
    for q, b, r, p, x, s in _pairs((2, 3), (2,)):
        charge = 8 - 2 * q
        if not 0.5 <= r <= 0.9 or x == "Te" or (q == 2 and x != "O"):
            continue
        for a, small in CATIONS[charge].items():
            if a != b and small <= 0.95:
                # Amid four an ion is some 0.14 Å smaller than amid six.
                yield Composition(prototype, (a, b, x), (charge, q, -p), r + s, (small + s - 0.14,))


def _layers(prototype: str) -> Iterator[Composition]:
    """Halides of divalent and chalcogenides of tetravalent metals, without oxides and fluorides."""
    for q, m, r, p, x, s in _pairs((2, 4), (1, 2)):
        prismatic = prototype == "layered-2H"
        if q != 2 * p or x in ("O", "F", "H") or not 0.25 <= r / s <= 0.6:
            continue
        if not prismatic or (q == 4 and m in PRISMATIC):
            yield Composition(prototype, (m, x), (q, -p), r + s, (s,))


_MAKERS = {
    "fcc": _elements,
    "bcc": _elements,
    "hcp": _elements,
    "diamond": _elements,
    "rocksalt": _rocksalt,
    "zincblende": _tetrahedral,
    "wurtzite": _tetrahedral,
    "fluorite": _fluorite,
    "perovskite": _perovskite,
    "spinel": _spinel,
    "layered-1T": _layers,
    "layered-2H": _layers,
}
