"""Adsorbates on slabs of fcc metals and their alloys, in the image of OC20: ASE's EMT.

A slab of a pure metal or a surface alloy carries one adsorbate at a random place and turn. Frames
are rattled and then relaxed for a random number of steps, so that they lie scattered along
relaxations, as the original's do.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import fcc100, fcc111

from atomjax.structures.generate.errors import GenerateError
from atomjax.structures.generate.labels import EmtLabeler, check_force
from atomjax.structures.generate.pool.tasks import shuffled, spread
from atomjax.structures.generate.surfaces import check_overlaps, descend, place_above
from atomjax.structures.structure import TAG_SUBSURFACE, TAG_SURFACE, Structure

PACKAGES = ("ase",)
LABELS = "EMT (ASE)"
CHUNK = 20
# Å: where this EMT has its minimum, within 0.01.
LATTICE_CONSTANTS = {
    "Al": 3.99, "Ni": 3.49, "Cu": 3.59, "Pd": 3.88, "Ag": 4.06, "Pt": 3.92, "Au": 4.06,
}  # fmt: skip
METALS = tuple(LATTICE_CONSTANTS)
ADSORBATES = (
    "H", "C", "N", "O", "CO", "NO", "OH", "CH", "NH", "H2O", "NH2", "CH3", "NH3", "CH4", "N2",
    "O2", "HCN", "C2H2", "C2H4", "CH3OH", "H2CO",
)  # fmt: skip
FACETS = {"111": fcc111, "100": fcc100}


@dataclass(frozen=True)
class Options:
    """Options for slabs with adsorbates.

    Attributes:
        systems: number of slab-adsorbate pairs; 0 makes one for every 10 structures.
        metals: elements of the slabs.
        adsorbates: adsorbed species: chemical symbols H, C, N, O or names of ASE's molecules.
        facets: "111", "100".
        alloys: fraction of slabs with a second metal in place of a quarter of the atoms.
        size: atoms along the two sides of the slab, and layers.
        fixed_layers: layers held in place at the bottom.
        vacuum: Å on either side.
        rattle: Å, standard deviation, up to which free atoms are displaced.
        relaxation_steps: the most steps a frame is relaxed.
        periodic_normal: whether the cell also repeats across the vacuum, as in OC20.
        max_force: eV/Å; a frame with a larger force on an atom is dropped.
    """

    systems: int = 0
    metals: tuple[str, ...] = METALS
    adsorbates: tuple[str, ...] = ADSORBATES
    facets: tuple[str, ...] = ("111", "100")
    alloys: float = 0.4
    size: tuple[int, ...] = (3, 3, 4)
    fixed_layers: int = 2
    vacuum: float = 8.0
    rattle: float = 0.12
    relaxation_steps: int = 15
    periodic_normal: bool = True
    max_force: float = 30.0

    def __post_init__(self) -> None:
        known = {"metals": METALS, "adsorbates": ADSORBATES, "facets": tuple(FACETS)}
        for name, values in known.items():
            unknown = set(getattr(self, name)) - set(values)
            if unknown or not getattr(self, name):
                raise GenerateError(
                    f"slabs: {name} {sorted(unknown)} not among {', '.join(values)}"
                )
        if len(self.size) != 3 or min(self.size) < 1 or self.fixed_layers >= self.size[2]:
            raise GenerateError(
                f"slabs: size {self.size} must be three numbers, the last (layers) above"
                f" fixed_layers={self.fixed_layers}"
            )


def plan(options: Options, count: int, seed: int) -> list[tuple[str, int]]:
    """Slab-adsorbate pairs, each with its share of the frames."""
    rng = np.random.default_rng([seed, 0x51AB])
    slabs = []
    for metal in options.metals:
        others = [m for m in options.metals if m != metal]
        for facet in options.facets:
            slabs.extend(f"{metal}({facet})+{guest}" for guest in options.adsorbates)
            slabs.extend(
                f"{metal}3{rng.choice(others)}({facet})+{guest}"
                for guest in options.adsorbates
                if others
            )
    alloys = [name for name in shuffled(slabs, seed) if "3" in name.split("(")[0]]
    pure = [name for name in shuffled(slabs, seed) if name not in set(alloys)]
    wanted = options.systems or -(-count // 10)
    mixed = round(options.alloys * wanted) if alloys else 0
    chosen = shuffled([*alloys[:mixed], *pure[: wanted - mixed]], seed)
    return spread(chosen, count, CHUNK)


def begin(subject: str, options: Options, rng: np.random.Generator) -> Callable[[], Structure]:
    """Draws frames of one pair, such as ``Cu3Au(111)+CO``."""
    slab, guest = subject.split("+")
    bulk, facet = slab.rstrip(")").split("(")
    host, _, other = bulk.partition("3")

    def draw() -> Structure:
        clean = make_slab(host, other, facet, options, rng)
        top = clean.positions[clean.get_tags() == TAG_SURFACE]
        site = (rng.dirichlet(np.ones(3)) @ top[rng.permutation(len(top))[:3]]) if (
            rng.random() < 0.5 and len(top) > 2
        ) else top[rng.integers(len(top))]  # fmt: skip
        atoms = place_above(clean, guest, site, np.array([0.0, 0.0, 1.0]), rng)
        fixed = np.zeros(len(atoms), dtype=bool)
        fixed[: len(clean)] = clean.arrays["layer"] <= options.fixed_layers
        shake = rng.uniform(0.0, options.rattle) * rng.normal(size=(len(atoms), 3))
        atoms.positions[~fixed] += shake[~fixed]
        check_overlaps(atoms)
        steps = int(rng.integers(options.relaxation_steps + 1))
        label = descend(EmtLabeler(atoms), atoms, ~fixed, steps)
        check_force(label, options.max_force)
        return Structure(
            atomic_numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
            tags=atoms.get_tags(),
            fixed=fixed,
            energy=label.energy,
            forces=label.forces,
            class_key=subject,
        )

    return draw


def make_slab(
    host: str, other: str, facet: str, options: Options, rng: np.random.Generator
) -> Atoms:
    """A clean slab, tagged, with array ``layer`` (1 at the bottom).

    Where `other` names a metal, a quarter of the atoms at random are of it, and the lattice
    constant lies in between (Vegard).
    """
    constant = LATTICE_CONSTANTS[host]
    if other:
        constant = 0.75 * constant + 0.25 * LATTICE_CONSTANTS[other]
    atoms = FACETS[facet](host, size=options.size, a=constant, vacuum=options.vacuum)
    atoms.pbc = (True, True, options.periodic_normal)
    # ASE numbers layers from the top.
    layer = options.size[2] + 1 - atoms.get_tags()
    atoms.set_array("layer", layer)
    atoms.set_tags(np.where(layer == options.size[2], TAG_SURFACE, TAG_SUBSURFACE))
    if other:
        replaced = rng.permutation(len(atoms))[: round(len(atoms) / 4)]
        symbols = np.array(atoms.get_chemical_symbols(), dtype=object)
        symbols[replaced] = other
        atoms.set_chemical_symbols(symbols.tolist())
    return atoms
