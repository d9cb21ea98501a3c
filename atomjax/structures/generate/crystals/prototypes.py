"""Unit cells of the prototypes, from a composition and its bond lengths."""

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.build import bulk

from atomjax.structures.generate.crystals.compositions import Composition

# Distance between anions of two layers as a multiple of twice their radius, as in TiS2, MoS2, CdI2.
LAYER_CONTACT = 0.95
# In-plane lattice constant and half the height of a layer, over the bond's length.
OCTAHEDRON = (np.sqrt(2), 1 / np.sqrt(3))
PRISM = (1.31, 0.656)


def unit_cell(composition: Composition) -> Atoms:
    """The prototype's cell: four atoms of metals (eight of diamond), else the primitive one."""
    return PROTOTYPES[composition.prototype](composition)


def formula(composition: Composition) -> str:
    """Formula of a composition, the charges falling: ``CaTiO3``, ``Li2O``, ``Cu3Au``."""
    atoms = unit_cell(composition)
    numbers = np.bincount(atoms.numbers)
    share = np.gcd.reduce(numbers[numbers > 0])
    # Cations before anions, and A before B.
    order = sorted(
        dict.fromkeys(composition.sites),
        key=lambda symbol: composition.charges[composition.sites.index(symbol)] < 0,
    )
    counts = {s: atoms.get_chemical_symbols().count(s) // share for s in order}
    return "".join(f"{s}{n if n > 1 else ''}" for s, n in counts.items())


def repeats_within(size: int, smallest: int, largest: int) -> np.ndarray:
    """Repeats [R, 3] of a cell of `size` atoms that hold `smallest` to `largest`."""
    repeats = np.array([r for r in np.ndindex(7, 7, 7) if min(r) > 0])
    sizes = size * repeats.prod(axis=1)
    return repeats[(smallest <= sizes) & (sizes <= largest)]


def supercell(cell: Atoms, repeats: np.ndarray, rng: np.random.Generator, mixed: bool) -> Atoms:
    """A unit cell, repeated at random and not too elongated.

    Args:
        cell: the unit cell.
        repeats: [R, 3], the repeats to choose from.
        rng: chooses.
        mixed: whether elements change places at random, as in an alloy.
    """
    sides = repeats * cell.cell.lengths()
    stretch = sides.max(axis=1) / sides.min(axis=1)
    compact = repeats[stretch <= max(2.0, stretch.min())]
    atoms = cell.repeat(tuple(compact[rng.integers(len(compact))].tolist()))
    if mixed:
        atoms.numbers = rng.permutation(atoms.numbers)
    return atoms


def _metal(c: Composition) -> Atoms:
    """Elements and alloys, in the order of the sites."""
    name = c.prototype
    a = (
        c.bond
        * {"fcc": np.sqrt(2), "bcc": 2 / np.sqrt(3), "hcp": 1, "diamond": 4 / np.sqrt(3)}[name]
    )
    atoms = bulk(
        "X", name, a=a, **({"c": a * np.sqrt(8 / 3)} if name == "hcp" else {"cubic": True})
    )
    if len(atoms) == 2:
        atoms = atoms.repeat((2, 1, 1))
    atoms.set_chemical_symbols(list(c.sites) * (len(atoms) // 4))
    return atoms


def _lattice(vectors: np.ndarray, a: float, symbols: tuple[str, ...], places: list) -> Atoms:
    cell = a * np.asarray(vectors)
    return Atoms(list(symbols), scaled_positions=places, cell=cell, pbc=True)


FCC = 0.5 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
HEXAGONAL = np.array([[1, 0, 0], [-0.5, np.sqrt(0.75), 0], [0, 0, 1]])


def _rocksalt(c: Composition) -> Atoms:
    return _lattice(FCC, 2 * c.bond, c.sites, [[0, 0, 0], [0.5, 0.5, 0.5]])


def _zincblende(c: Composition) -> Atoms:
    return _lattice(FCC, 4 / np.sqrt(3) * c.bond, c.sites, [[0, 0, 0], [0.25, 0.25, 0.25]])


def _wurtzite(c: Composition) -> Atoms:
    """Ideal: c/a = √(8/3), u = 3/8."""
    a = c.bond * np.sqrt(8 / 3)
    cell = HEXAGONAL * np.array([[1], [1], [np.sqrt(8 / 3)]])
    metal, other = c.sites
    one, two = (1 / 3, 2 / 3), (2 / 3, 1 / 3)
    places = [(*one, 0), (*two, 0.5), (*one, 0.375), (*two, 0.875)]
    return _lattice(cell, a, (metal, metal, other, other), places)


def _fluorite(c: Composition) -> Atoms:
    places = [[0, 0, 0], [0.25, 0.25, 0.25], [0.75, 0.75, 0.75]]
    return _lattice(FCC, 4 / np.sqrt(3) * c.bond, (c.sites[0], c.sites[1], c.sites[1]), places)


def _perovskite(c: Composition) -> Atoms:
    a, b, x = c.sites
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return _lattice(np.eye(3), 2 * c.bond, (a, b, x, x, x), places)


def _spinel(c: Composition) -> Atoms:
    """Primitive cell of Fd-3m (origin at the inversion centre): 8a, 16d, 32e."""
    a, b, x = c.sites
    octahedral, tetrahedral = c.bond, c.others[0]
    constant = 8 / 3 * (tetrahedral / np.sqrt(3) + octahedral)
    u = 1 / 8 + tetrahedral / (np.sqrt(3) * constant)
    eighth, half = 1 / 8, 1 / 2
    places = [[eighth] * 3, [1 - eighth] * 3]
    places += [[half, half, half], [half, half, 0], [half, 0, half], [0, half, half]]
    # In the primitive cell's own axes 32e is (u, u, u), (u, u, 1/2 - 3u) and so on, and inverted.
    for i in (None, 0, 1, 2):
        place = np.full(3, u)
        if i is not None:
            place[i] = half - 3 * u
        places += [place, -place]
    return _lattice(FCC, constant, (a, a, *[b] * 4, *[x] * 8), places)


def _layer(c: Composition, shape: tuple[float, float]) -> tuple[float, float, float]:
    """In-plane constant, half the height of a layer, and the gap between layers, Å."""
    a, height = shape[0] * c.bond, shape[1] * c.bond
    contact = 2 * LAYER_CONTACT * c.others[0]
    return a, height, float(np.sqrt(contact**2 - a**2 / 3))


def _layered_1t(c: Composition) -> Atoms:
    """CdI2: octahedra, one layer in the cell."""
    a, height, gap = _layer(c, OCTAHEDRON)
    c_over_a = (2 * height + gap) / a
    z = height / (a * c_over_a)
    cell = HEXAGONAL * np.array([[1], [1], [c_over_a]])
    metal, x = c.sites
    return _lattice(cell, a, (metal, x, x), [(0, 0, 0), (1 / 3, 2 / 3, z), (2 / 3, 1 / 3, -z)])


def _layered_2h(c: Composition) -> Atoms:
    """MoS2: trigonal prisms, two layers in the cell."""
    a, height, gap = _layer(c, PRISM)
    c_over_a = 2 * (2 * height + gap) / a
    z = height / (a * c_over_a)
    cell = HEXAGONAL * np.array([[1], [1], [c_over_a]])
    metal, x = c.sites
    one, two = (1 / 3, 2 / 3), (2 / 3, 1 / 3)
    places = [(*one, 0.25), (*two, 0.75)]
    places += [(*two, 0.25 - z), (*two, 0.25 + z), (*one, 0.75 - z), (*one, 0.75 + z)]
    return _lattice(cell, a, (metal, metal, x, x, x, x), places)


PROTOTYPES: dict[str, Callable[[Composition], Atoms]] = {
    "fcc": _metal,
    "bcc": _metal,
    "hcp": _metal,
    "diamond": _metal,
    "rocksalt": _rocksalt,
    "zincblende": _zincblende,
    "wurtzite": _wurtzite,
    "fluorite": _fluorite,
    "perovskite": _perovskite,
    "spinel": _spinel,
    "layered-1T": _layered_1t,
    "layered-2H": _layered_2h,
}
