"""Each kind: what it makes, what it drops, and that labels belong to their geometries."""

from importlib.util import find_spec

import numpy as np
import pytest
from ase import Atoms
from ase.data.vdw_alvarez import vdw_radii

from atomjax.structures import Structure
from atomjax.structures.generate import conformers, dynamics, slabs
from atomjax.structures.generate.crystals.chgnet import ChgnetLabeler
from atomjax.structures.generate.errors import GenerateError
from atomjax.structures.generate.geometry import bonds
from atomjax.structures.generate.kinds import KINDS, find_kind
from atomjax.structures.generate.labels import EmtLabeler, Label, XtbLabeler
from atomjax.structures.generate.molecules import embed, heavy_atoms, library
from atomjax.structures.generate.pool.tasks import Task, make_tasks, options_from, produce, spread
from atomjax.structures.units import BOLTZMANN

SMALL = {
    "conformers": {"heavy_atoms": (2, 3)},
    "reactions": {"heavy_atoms": (2, 3)},
    "dimers": {"heavy_atoms": (1, 2)},
    "dynamics": {"molecule": "ethanol", "equilibration": 5, "stride": 3},
    "properties": {"heavy_atoms": (2, 3)},
    "slabs": {"size": (2, 2, 3), "adsorbates": ("CO", "O"), "systems": 2},
    "oxides": {"formula_units": (2, 2), "systems": 2, "oxides": ("MgO",)},
    "crystals": {"systems": 2, "prototypes": ("rocksalt", "layered-1T"), "atoms": (6, 8)},
}
# No lock holds chgnet, which brings as much as all else together.
ALL = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name == "crystals" and find_spec("chgnet") is None,
            reason="crystals are labelled with chgnet (extra crystals)",
        ),
    )
    for name in sorted(KINDS)
]


def make(name: str, count: int, seed: int = 0, **changes) -> tuple[list[Structure], dict[str, int]]:
    kind = find_kind(name)
    options = options_from(kind.Options, {**SMALL[name], **changes}, name)
    structures, dropped = [], {}
    for task in make_tasks(kind.plan(options, count, seed)):
        made, failures = produce(kind, name, options, seed, task)
        structures.extend(made)
        dropped.update(failures)
    return structures, dropped


def relabel(structure: Structure, name: str):
    if name in ("slabs", "crystals"):
        atoms = Atoms(
            structure.atomic_numbers,
            structure.positions,
            cell=structure.cell,
            pbc=structure.pbc,
        )
        if name == "crystals":
            (label,) = ChgnetLabeler().label([atoms])
            assert isinstance(label, Label)
            return label
        return EmtLabeler(atoms).label(structure.positions)
    method = "GFN1-xTB" if name == "oxides" else "GFN2-xTB"
    cell = structure.cell if structure.is_periodic else None
    return XtbLabeler(method, structure.atomic_numbers, cell).label(structure.positions)


@pytest.mark.parametrize("name", ALL)
def test_labels_belong_to_their_geometries(name):
    structures, _ = make(name, 4)
    assert [s.identifier for s in structures] == [f"{name}:{i}" for i in range(4)]
    for structure in structures:
        assert structure.source == name
        assert structure.class_key
        assert structure.energy is not None
        assert structure.forces is not None
        label = relabel(structure, name)
        assert structure.energy == pytest.approx(label.energy, abs=1e-3)
        np.testing.assert_allclose(structure.forces, label.forces, atol=5e-3)


@pytest.mark.parametrize("name", ALL)
def test_seeded(name):
    first, again, other = make(name, 2)[0], make(name, 2)[0], make(name, 2, seed=1)[0]
    # To the last bit on one thread, which OMP_NUM_THREADS may say otherwise.
    for a, b in zip(first, again, strict=True):
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-5)
        assert a.forces is not None
        assert b.forces is not None
        np.testing.assert_allclose(a.forces, b.forces, atol=1e-3)
        assert a.energy == pytest.approx(b.energy, abs=1e-4)
    assert first[0].energy != other[0].energy


@pytest.mark.parametrize(
    ("name", "limit"), [("conformers", 4.0), ("slabs", 1.0), ("oxides", 6.0), ("reactions", 6.0)]
)
def test_strong_forces_are_dropped_and_counted(name, limit):
    structures, dropped = make(name, 6, max_force=limit)
    assert len(structures) == 6
    assert dropped["force above the limit"] > 0
    for structure in structures:
        assert structure.forces is not None
        assert np.linalg.norm(structure.forces, axis=1).max() <= limit


def test_an_impossible_limit_is_an_error_with_the_counts():
    with pytest.raises(GenerateError, match=r"slabs, .*gave up after \d+ .*force above the limit"):
        make("slabs", 1, max_force=1e-6)


def test_a_field_that_never_converges_is_dropped_and_counted(monkeypatch):
    original = XtbLabeler._new_calculator
    failures = iter([True, True])

    def stubborn(self, bohr):
        calculator = original(self, bohr)
        if next(failures, False):
            calculator.set("max-iter", 1)
        return calculator

    monkeypatch.setattr(XtbLabeler, "_new_calculator", stubborn)
    structures, dropped = make("oxides", 2)
    assert len(structures) == 2
    assert dropped["did not converge"] == 2


def test_conformers_are_off_equilibrium_and_many():
    structures, _ = make("conformers", 12)
    forces = [np.linalg.norm(s.forces, axis=1).max() for s in structures if s.forces is not None]
    assert np.median(forces) > 1.0
    assert len({s.class_key for s in structures}) == 12
    only, _ = make("conformers", 3, smiles=["CO"], turned=1.0)
    few, many = (
        {subject for subject, _ in conformers.plan(conformers.Options(molecules=n), 500, seed=0)}
        for n in (15, 400)
    )
    # The library's, and more than it holds.
    assert (len(few), len(many)) == (15, 400)
    assert few < set(library(2, 10))
    assert {heavy_atoms(smiles) for smiles in many} <= set(range(2, 11))
    assert {s.class_key for s in only} == {"CO"}


def test_dimers_touch_as_near_as_they_are_told_to():
    structures, _ = make("dimers", 4, pairs=2, smiles=("O", "CC"), turned=1.0, contacts=(0.9, 0.9))
    assert {s.class_key for s in structures} <= {"O.CC", "CC.O", "O.O", "CC.CC"}
    for structure in structures:
        numbers, positions = structure.atomic_numbers, structure.positions
        first = 3 if str(structure.class_key).startswith("O.") else 8
        radii = vdw_radii[numbers]
        apart = np.linalg.norm(positions[:first, None] - positions[None, first:], axis=-1)
        near = apart / (radii[:first, None] + radii[None, first:])
        assert near.min() == pytest.approx(0.9)


def test_bound_dimers_are_shifted_apart():
    given = {"smiles": ("O",), "turned": 0.0, "temperatures": (0.0, 0.0)}
    (near, _), (far, _) = (
        make("dimers", 2, shifts=(shift, shift), **given)[0] for shift in (0.0, 6.0)
    )
    assert near.energy is not None
    assert far.energy is not None
    # A hydrogen bond of water: some 0.2 eV.
    assert 0.1 < far.energy - near.energy < 0.4
    gap = far.positions[3:].mean(axis=0) - near.positions[3:].mean(axis=0)
    assert np.linalg.norm(gap) == pytest.approx(6.0)


def test_reactions_break_or_form_bonds():
    structures, _ = make("reactions", 8, reactions=2)
    assert len({s.class_key for s in structures}) == 2
    for key in {s.class_key for s in structures}:
        smiles, _, rest = key.partition("#")
        assert "-" in rest or "+" in rest
        frames = [s for s in structures if s.class_key == key]
        assert len(frames) == 4
        assert len({s.formula for s in frames}) == 1
        assert embed(smiles, np.random.default_rng(0)).atomic_numbers.tolist() == list(
            frames[0].atomic_numbers
        )


def test_dynamics_stays_at_its_temperature():
    options = dynamics.Options(molecule="ethanol", temperatures=(400.0,))
    rng = np.random.default_rng(0)
    ethanol = embed("CCO", rng)
    labeler = XtbLabeler("GFN2-xTB", ethanol.atomic_numbers)
    walker = dynamics.Walker(ethanol, labeler, 400.0, options, rng)
    kinetic = []
    for _ in range(40):
        walker.advance(10)
        kinetic.append(0.5 * np.sum(walker._masses * walker.velocities**2))
    expected = 0.5 * BOLTZMANN * 400.0 * ethanol.positions.size
    assert np.mean(kinetic) == pytest.approx(expected, rel=0.2)
    assert bonds(ethanol.atomic_numbers, walker.positions) == bonds(
        ethanol.atomic_numbers, ethanol.positions
    )


def test_dynamics_takes_its_temperatures_in_turn():
    options = dynamics.Options(temperatures=(300.0, 800.0), frames_per_walker=10)
    plan = dynamics.plan(options, 35, 0)
    assert [subject for subject, _ in plan] == ["aspirin@300.0", "aspirin@800.0"] * 2
    assert sum(n for _, n in plan) == 35


def test_properties():
    structures, _ = make("properties", 6)
    assert len({s.class_key for s in structures}) == 6
    for structure in structures:
        targets = {name: float(value) for name, value in structure.targets.items()}
        assert set(targets) == {"dipole", "homo", "lumo", "gap", "energy", "atomization_energy"}
        assert targets["gap"] == pytest.approx(targets["lumo"] - targets["homo"])
        # Some 3 to 6 eV of binding for each atom of an organic molecule.
        assert 3.0 < targets["atomization_energy"] / len(structure) < 7.0
        assert structure.forces is not None
        assert np.linalg.norm(structure.forces, axis=1).max() < 0.031


@pytest.mark.parametrize("periodic_normal", [True, False])
def test_slabs_have_tags_fixed_layers_and_periodicity(periodic_normal):
    structures, _ = make("slabs", 4, periodic_normal=periodic_normal)
    for structure in structures:
        guests = 2 if structure.class_key.endswith("+CO") else 1
        assert np.bincount(structure.tags).tolist() == [8, 4, guests]
        assert structure.pbc.tolist() == [True, True, periodic_normal]
        # Two of three layers are fixed, and lie where the crystal has them.
        assert structure.fixed.sum() == 8
        heights = structure.positions[structure.fixed, 2]
        assert len(np.unique(heights.round(6))) == 2
        below = structure.positions[structure.tags == 0, 2].max()
        assert structure.positions[structure.tags == 1, 2].min() > below
    assert len({s.class_key for s in structures}) == 2


def test_alloys_have_a_quarter_of_the_second_metal():
    options = slabs.Options(size=(2, 2, 4))
    alloy = slabs.make_slab("Pt", "Ni", "111", options, np.random.default_rng(0))
    assert np.bincount(alloy.numbers)[[28, 78]].tolist() == [4, 12]
    assert slabs.LATTICE_CONSTANTS["Ni"] < alloy.cell.array[0, 0] / 2 * 2**0.5 < 3.92


def test_oxide_clusters_are_neutral_pieces():
    structures, _ = make("oxides", 6, oxides=("MgO", "TiO2"), adsorbates=("none",))
    for structure in structures:
        counts = np.bincount(structure.atomic_numbers, minlength=23)
        assert counts[8] == counts[12] + 2 * counts[22]
        assert (structure.tags == 2).all()
        assert not structure.is_periodic


def test_oxide_slabs_are_periodic():
    structures, _ = make(
        "oxides", 1, geometry="slabs", oxides=("ZnO",), adsorbates=("O",), layers=2,
        relaxation_steps=0,
    )  # fmt: skip
    assert structures[0].class_key == "ZnO(100)+O"
    assert structures[0].pbc.all()
    assert set(structures[0].tags) == {0, 1, 2}
    assert np.array_equal(structures[0].fixed, structures[0].tags == 0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("conformers", {"molecule": 3}, "unknown key 'molecule'. Did you mean 'molecules'"),
        ("conformers", {"turned": "half"}, "turned must be a number"),
        ("conformers", {"heavy_atoms": (5, 2)}, "heavy_atoms must be"),
        ("slabs", {"metals": ("Fe",)}, r"metals \['Fe'\] not among Al, Ni"),
        ("slabs", {"fixed_layers": 4}, "above fixed_layers=4"),
        ("oxides", {"geometry": "rods"}, "write 'clusters' or 'slabs'"),
        ("dimers", {"contacts": (0.1, 1.0)}, "contacts must be"),
        ("reactions", {"interpolations": ("spline",)}, "write 'linear', 'pairs' or both"),
        ("dynamics", {"temperatures": (0.0,)}, "temperatures must be positive"),
        ("dynamics", {"stride": 0}, "stride must be positive"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(GenerateError, match=message):
        options_from(find_kind(name).Options, options, name)


def test_unknown_kind():
    with pytest.raises(GenerateError, match="unknown kind 'conformer'; did you mean 'conformers'"):
        find_kind("conformer")


def test_spread_is_even_and_complete():
    plan = spread(["a", "b", "c"], 31, 4)
    assert sum(n for _, n in plan) == 31
    assert max(n for _, n in plan) <= 4
    totals = {k: sum(n for s, n in plan if s == k) for k in "abc"}
    assert max(totals.values()) - min(totals.values()) <= 1
    tasks = make_tasks(spread(["a", "b"], 1, 4))
    assert tasks == [Task(0, 0, 1, "a")]
