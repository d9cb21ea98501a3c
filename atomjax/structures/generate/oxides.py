"""Metal oxides with small adsorbates, in the image of OC22: GFN1-xTB.

Clusters are neutral, stoichiometric pieces cut at random from the crystal; slabs are thin, repeat
in all three directions with vacuum between, and are sampled at Γ alone, as tblite does. Frames are
rattled and, for a random number of steps, relaxed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import bulk, surface
from ase.spacegroup import crystal

from atomjax.structures.generate.errors import GenerateError, LabelError
from atomjax.structures.generate.labels import XtbLabeler, check_force
from atomjax.structures.generate.pool.tasks import check_range, shuffled, spread
from atomjax.structures.generate.surfaces import check_overlaps, descend, place_above
from atomjax.structures.structure import TAG_ADSORBATE, TAG_SUBSURFACE, TAG_SURFACE, Structure

PACKAGES = ("tblite", "ase")
LABELS = "{method}"
CHUNK = 5
# Experimental lattice constants, Å (Wyckoff, Crystal Structures, 2nd ed.).
ROCKSALT = {"MgO": 4.21, "CaO": 4.81, "MnO": 4.44, "CoO": 4.26, "NiO": 4.18, "CdO": 4.70}
RUTILE = {"TiO2": (4.594, 2.959, 0.305), "SnO2": (4.737, 3.186, 0.307)}
WURTZITE = {"ZnO": (3.25, 5.207)}
OXIDES = (*ROCKSALT, *WURTZITE, *RUTILE)
ADSORBATES = ("none", "O", "H2O", "OH", "CO", "CO2", "H2", "O2", "NH3")


@dataclass(frozen=True)
class Options:
    """Options for metal oxides with adsorbates.

    Attributes:
        geometry: "clusters" (10 to 50 ms a label) or "slabs" (some 0.1 to 0.6 s a label; TiO2 and
            SnO2 are too large for that and are left out).
        systems: number of oxide-adsorbate pairs; 0 takes all there are, at most one for every 5
            structures.
        oxides: formulas.
        adsorbates: adsorbed species; "none" for the bare oxide.
        formula_units: smallest and largest size of clusters.
        layers: number of layers of slabs.
        rattle: Å, standard deviation, up to which free atoms are displaced.
        relaxation_steps: the most steps a frame is relaxed; each costs as much as a label.
        max_force: eV/Å; a frame with a larger force on an atom is dropped.
        method: "GFN1-xTB" or "GFN2-xTB".
    """

    geometry: str = "clusters"
    systems: int = 0
    oxides: tuple[str, ...] = OXIDES
    adsorbates: tuple[str, ...] = ADSORBATES
    formula_units: tuple[int, ...] = (2, 4)
    layers: int = 2
    rattle: float = 0.1
    relaxation_steps: int = 6
    max_force: float = 30.0
    method: str = "GFN1-xTB"

    def __post_init__(self) -> None:
        check_range("oxides: formula_units", self.formula_units, 1)
        if self.geometry not in ("clusters", "slabs"):
            raise GenerateError(f"oxides: geometry {self.geometry!r}; write 'clusters' or 'slabs'")
        for name, values in (("oxides", OXIDES), ("adsorbates", ADSORBATES)):
            unknown = set(getattr(self, name)) - set(values)
            if unknown or not getattr(self, name):
                raise GenerateError(
                    f"oxides: {name} {sorted(unknown)} not among {', '.join(values)}"
                )


def plan(options: Options, count: int, seed: int) -> list[tuple[str, int]]:
    """Oxide-adsorbate pairs, each with its share of the frames."""
    names = [
        name for name in options.oxides if options.geometry == "clusters" or name not in RUTILE
    ]
    if not names:
        raise GenerateError(f"oxides: none of {', '.join(options.oxides)} makes a small slab")
    pairs = shuffled([f"{name}+{guest}" for name in names for guest in options.adsorbates], seed)
    return spread(pairs[: options.systems or max(count // 5, 1)], count, CHUNK)


def begin(subject: str, options: Options, rng: np.random.Generator) -> Callable[[], Structure]:
    """Draws frames of one pair, such as ``MgO+H2O``."""
    formula, guest = subject.split("+")

    def draw() -> Structure:
        if options.geometry == "clusters":
            units = int(rng.integers(options.formula_units[0], options.formula_units[1] + 1))
            atoms = cut_cluster(formula, units, rng)
            normal = rng.normal(size=3)
            normal /= np.linalg.norm(normal)
            site = atoms.positions.mean(axis=0)
        else:
            atoms = make_slab(formula, options.layers)
            normal = np.array([0.0, 0.0, 1.0])
            top = atoms.positions[atoms.get_tags() == TAG_SURFACE]
            site = top[rng.integers(len(top))] + [*rng.uniform(-0.7, 0.7, size=2), 0.0]
        free = atoms.get_tags() != TAG_SUBSURFACE
        if guest != "none":
            atoms = place_above(atoms, guest, site, normal, rng)
            free = np.append(free, np.ones(len(atoms) - len(free), dtype=bool))
        shake = rng.uniform(0.0, options.rattle) * rng.normal(size=(len(atoms), 3))
        atoms.positions[free] += shake[free]
        check_overlaps(atoms)
        cell = atoms.cell.array if atoms.pbc.any() else None
        labeler = XtbLabeler(options.method, atoms.numbers, cell)
        steps = int(rng.integers(options.relaxation_steps + 1))
        label = check_force(descend(labeler, atoms, free, steps), options.max_force)
        return Structure(
            atomic_numbers=atoms.numbers,
            positions=atoms.positions,
            cell=cell,
            pbc=atoms.pbc,
            tags=atoms.get_tags(),
            fixed=~free,
            energy=label.energy,
            forces=label.forces,
            class_key=subject if cell is None else f"{formula}(100)+{guest}",
        )

    return draw


def conventional_cell(formula: str) -> Atoms:
    """The crystal's conventional cell."""
    if formula in ROCKSALT:
        return bulk(formula, "rocksalt", a=ROCKSALT[formula], cubic=True)
    if formula in WURTZITE:
        a, c = WURTZITE[formula]
        return bulk(formula, "wurtzite", a=a, c=c)
    a, c, u = RUTILE[formula]
    metal = formula.removesuffix("O2")
    return crystal(
        [metal, "O"], basis=[(0, 0, 0), (u, u, 0)], spacegroup=136,
        cellpar=[a, a, c, 90, 90, 90],
    )  # fmt: skip


def cut_cluster(formula: str, units: int, rng: np.random.Generator) -> Atoms:
    """`units` formula units around a random point of the crystal, all tagged as a molecule.

    Raises:
        LabelError: the piece would fall into two.
    """
    cell = conventional_cell(formula)
    block = cell.repeat((4, 4, 4))
    centre = (1.5 + rng.random(3)) @ cell.cell.array
    # Unequal axes, so that clusters are not always round.
    stretch = rng.uniform(0.6, 1.4, size=3)
    order = np.argsort(np.linalg.norm((block.positions - centre) * stretch, axis=1))
    is_oxygen = block.numbers[order] == 8
    per_unit = 2 if formula.endswith("2") else 1
    chosen = np.concatenate([order[~is_oxygen][:units], order[is_oxygen][: per_unit * units]])
    cluster = Atoms(block.numbers[chosen], block.positions[chosen] - centre)
    if not _connected(cluster.positions):
        raise LabelError("not one piece")
    cluster.set_tags(TAG_ADSORBATE)
    return cluster


def _connected(positions: np.ndarray) -> bool:
    reached = np.zeros(len(positions), dtype=bool)
    reached[0] = True
    near = np.linalg.norm(positions[:, None] - positions[None], axis=-1) < 2.6
    for _ in positions:
        reached = reached | near[reached].any(axis=0)
    return bool(reached.all())


def make_slab(formula: str, layers: int) -> Atoms:
    """A thin slab with 6 Å of vacuum on either side; the top layer is the surface."""
    atoms = surface(conventional_cell(formula), (1, 0, 0), layers, vacuum=6.0, periodic=True)
    heights = atoms.positions[:, 2]
    top = heights > heights.max() - 1.0
    atoms.set_tags(np.where(top, TAG_SURFACE, TAG_SUBSURFACE))
    return atoms
