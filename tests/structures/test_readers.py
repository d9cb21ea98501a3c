"""Readers: real files and damaged ones, units, and records that are left out."""

import itertools
import zlib

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from ase.db import connect
from ase.io import write

from atomjax.structures import Structure, units
from atomjax.structures.readers import (
    ReadError,
    ReadOptions,
    RecordNotes,
    SkippedRecord,
    SkippedRecordsWarning,
    UnusedKeysWarning,
    iterate,
    property_units,
    read,
    to_atoms,
)
from atomjax.structures.store import Conversion, convert
from tests.structures.readers.test_lmdb import ase_row, write_lmdb


def labelled(energy: float = -3.5, **info) -> Atoms:
    atoms = Atoms("CuHO", positions=[[0, 0, 0], [0, 0, 1.6], [0, 1.2, 2.2]], cell=[5, 5, 9], pbc=1)
    forces = np.arange(9.0).reshape(3, 3)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    atoms.set_tags([1, 2, 2])
    atoms.info.update(info)
    return atoms


@pytest.fixture
def frames(tmp_path):
    path = tmp_path / "frames.xyz"
    write(path, [labelled(float(-i), step=i) for i in range(4)], format="extxyz")
    return path


def test_extxyz_round_trip(frames):
    structures = read(frames)
    assert [s.energy for s in structures] == [0.0, -1.0, -2.0, -3.0]
    third = structures[2]
    assert third.identifier == "frames.xyz:2"
    assert third.source == "frames"
    assert third.targets == {"step": 2.0}
    assert third.tags.tolist() == [1, 2, 2]
    assert third.pbc.all()
    assert third.forces is not None
    np.testing.assert_array_equal(third.forces, np.arange(9.0).reshape(3, 3))


def test_constraints_become_fixed_and_do_not_zero_forces(tmp_path):
    atoms = labelled()
    atoms.set_constraint([FixAtoms([0]), FixCartesian([1]), FixCartesian([2], mask=(1, 0, 0))])
    connect(tmp_path / "a.db").write(atoms)
    (structure,) = read(tmp_path / "a.db")
    assert structure.fixed.tolist() == [True, True, False]
    assert structure.forces is not None
    np.testing.assert_array_equal(structure.forces[1], [3.0, 4.0, 5.0])


def test_structures_written_as_atoms_keep_targets_and_classes(tmp_path):
    """Those in whose way the format is: a SMILES that is a truth value, and a number."""
    for class_key in ("F", "17", "ethanol"):
        structure = Structure(
            atomic_numbers=[9, 1],
            positions=[[0, 0, 0], [0, 0, 0.9]],
            energy=-1.5,
            targets={"gap": 0.25, "phase": "gas"},
            class_key=class_key,
        )
        write(tmp_path / "a.xyz", to_atoms(structure), format="extxyz")
        (again,) = read(tmp_path / "a.xyz", classes=["phase"])
        assert again.targets == structure.targets
        assert again.class_key == class_key
        assert again.energy == -1.5
        assert "gap" not in to_atoms(structure, energy=2.0).info, "no prediction"


def test_declared_units_are_converted(frames):
    (first, *_) = read(
        frames, energy_unit="kcal/mol", length_unit="bohr", force_unit="Ha/bohr", targets=[]
    )
    second = read(frames, energy_unit="kcal/mol", length_unit="bohr")[1]
    assert second.energy == pytest.approx(-0.0433641042, abs=1e-9)
    assert first.positions[1, 2] == pytest.approx(1.6 * 0.529177210544, abs=1e-9)
    assert first.cell[2, 2] == pytest.approx(9 * 0.529177210544)
    assert first.forces is not None
    assert second.forces is not None
    assert first.forces[0, 1] == pytest.approx(27.211386246 / 0.529177210544)
    assert second.forces[0, 1] == pytest.approx(0.0433641042 / 0.529177210544)
    assert first.targets == {}


def test_other_keys_must_be_there(tmp_path):
    atoms = labelled()
    atoms.calc = None
    atoms.info["dft_energy"] = -8.0
    atoms.arrays["dft_forces"] = np.ones((3, 3))
    write(tmp_path / "a.xyz", atoms, format="extxyz")
    (structure,) = read(tmp_path / "a.xyz", energy_key="dft_energy", forces_key="dft_forces")
    assert structure.energy == -8.0
    assert structure.forces is not None
    assert structure.targets == {}
    with pytest.warns(UnusedKeysWarning, match="'dft_energy'"):
        assert read(tmp_path / "a.xyz")[0].energy is None
    with pytest.raises(ReadError, match=r"a\.xyz:0: no energy under the key 'REF'.*dft_energy"):
        read(tmp_path / "a.xyz", energy_key="REF")
    with pytest.raises(ReadError, match=r"no target gap; this record has: dft_energy"):
        read(tmp_path / "a.xyz", targets=["gap"])


def test_labels_can_be_declined(frames):
    structure = read(frames, energy_key="", forces_key="", use_tags=False)[0]
    assert structure.energy is None
    assert structure.forces is None
    assert structure.tags.tolist() == [2, 2, 2]


def test_unknown_unit_or_format_is_refused_before_reading(frames, tmp_path):
    with pytest.raises(units.UnitError, match=r"'ev', did you mean 'eV'\?"):
        read(frames, energy_unit="ev")
    with pytest.raises(ReadError, match="unknown format 'poscar'; known: extxyz"):
        read(frames, "poscar")
    with pytest.raises(ReadError, match="cannot tell the format"):
        read(tmp_path / "a.dat")
    with pytest.raises(FileNotFoundError, match=r"none\.xyz"):
        read(tmp_path / "none.xyz")
    with pytest.raises(ValueError, match="write 'raise' or 'skip'"):
        read(frames, on_error="ignore")  # pyright: ignore[reportArgumentType]


def test_a_truncated_extxyz_names_file_and_frame(frames):
    lines = frames.read_text().splitlines(keepends=True)
    frames.write_text("".join(lines[:-2]))
    with pytest.raises(ReadError, match=r"frames\.xyz:3: the file ends after 1 of 3 atoms"):
        read(frames)
    skipped: list[SkippedRecord] = []
    with pytest.warns(SkippedRecordsWarning, match="1 of 4 records left out"):
        assert len(read(frames, on_error="skip", skipped=skipped)) == 3
    assert skipped == [SkippedRecord("frames.xyz:3", skipped[0].reason)]
    assert "truncated" in skipped[0].reason


def test_bad_records_are_left_out_only_on_request(frames):
    frames.write_text(frames.read_text().replace("energy=-2.0", "energy=nan"))
    with pytest.raises(ReadError, match=r"^frames\.xyz:2: energy: is nan"):
        read(frames)
    with pytest.warns(SkippedRecordsWarning, match=r"frames\.xyz:2: energy: is nan"):
        assert [s.energy for s in read(frames, on_error="skip")] == [0.0, -1.0, -3.0]


def test_a_wrong_atom_count_cannot_be_skipped(frames):
    lines = frames.read_text().splitlines(keepends=True)
    frames.write_text("".join(["2\n", *lines[1:]]))
    with pytest.raises(ReadError, match="frame 1 should begin with its number of atoms"):
        read(frames, on_error="skip")


def test_an_empty_file_is_an_error(tmp_path):
    (tmp_path / "a.xyz").write_text("\n")
    with pytest.raises(ReadError, match="holds no readable structure"):
        read(tmp_path / "a.xyz")


def test_reading_is_lazy(frames):
    frames.write_text(frames.read_text() + "garbage\n")
    reader = iterate(frames)
    assert [next(reader).energy for _ in range(4)] == [0.0, -1.0, -2.0, -3.0]
    with pytest.raises(ReadError, match="frame 4"):
        next(reader)


def test_a_damaged_database_is_refused(tmp_path):
    path = tmp_path / "a.db"
    database = connect(path)
    for i in range(50):
        database.write(labelled(float(i)), data={"noise": np.random.default_rng(i).random(200)})
    assert [s.energy for s in read(path)][:3] == [0.0, 1.0, 2.0]
    path.write_bytes(path.read_bytes()[:30000])
    with pytest.raises(ReadError, match=r"a\.db: the database breaks off at record \d+"):
        read(path)
    path.write_text("not a database at all")
    with pytest.raises(ReadError, match=r"a\.db: not an SQLite database"):
        read(path)


def molecule_file(path, **changes):
    arrays = {
        "species": np.array([b"O", b"H", b"H"]),
        "coordinates": np.arange(18.0).reshape(2, 3, 3),
        "energies": np.array([-76.0, -76.1]),
        "forces": np.ones((2, 3, 3)),
    }
    with h5py.File(path, "w") as file:
        group = file.create_group("set/water")
        for name, values in {**arrays, **changes}.items():
            if values is not None:
                group[name] = values
    return path


def test_comp6_units_and_sign(tmp_path):
    structures = read(molecule_file(tmp_path / "a.h5"), gradients_key="forces")
    assert len(structures) == 2
    second = structures[1]
    assert second.energy == pytest.approx(-76.1 * 27.211386246)
    assert second.forces is not None
    np.testing.assert_allclose(second.forces, -27.211386246)
    assert second.class_key == "water"
    assert second.identifier == "a.h5:set/water:1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"energies": None}, "molecule set/water lacks energies"),
        ({"energies": np.zeros(3)}, r"energies has shape \[3\], expected \[2\]"),
        ({"forces": np.zeros((2, 2, 3))}, r"forces has shape \[2, 2, 3\]"),
        (
            {"species": np.array([b"O", b"Q", b"H"])},
            r"a\.h5:set/water:0: 'Q' is not a chemical",
        ),
        ({"coordinates": np.zeros((2, 3, 3))}, r"a\.h5:set/water:0: positions: .*same place"),
    ],
)
def test_comp6_refuses(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read(molecule_file(tmp_path / "a.h5", **changes), gradients_key="forces")


def test_a_truncated_hdf5_is_refused(tmp_path):
    path = molecule_file(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ReadError, match=r"a\.h5: not a readable HDF5 file"):
        read(path)


def test_real_qm9(shared):
    path = shared / "data" / "test_qm9.db"
    targets = ["gap", "energy_U0"]
    structures = read(path, targets=targets, target_units={"gap": "Ha"}, energy_key="")
    assert len(structures) == 20
    assert structures[0].formula == "CH4"
    assert structures[0].targets == {
        "gap": pytest.approx(0.5048 * 27.211386246),
        "energy_U0": pytest.approx(-40.47893),
    }
    assert property_units(path)["gap"] == "Ha"
    assert len(read(path, energy_key="")[0].targets) == 15


def test_real_oxides(shared):
    structures = read(shared / "data" / "oxides.db")
    assert len(structures) == 295
    assert structures[0].energy == pytest.approx(-41.358821)
    assert all(s.pbc.all() for s in structures)


def test_real_slab_with_tags_and_constraints(shared):
    structures = read(shared / "data" / "toy_c3h8_relax.extxyz")
    assert len(structures) == 101
    first = structures[0]
    assert np.bincount(first.tags).tolist() == [18, 9, 11]
    assert first.fixed.sum() == 18
    assert first.energy == pytest.approx(15.804699620277187)
    assert first.forces is not None
    assert first.forces[0, 2] == pytest.approx(0.11356054)


def test_real_cathode(shared):
    counts = {"Li_electrode_finetune.xyz": 300, "Li_electrode_val.xyz": 48}
    for name, count in counts.items():
        structures = read(shared / "data" / name)
        assert len(structures) == count
        assert all(s.forces is not None and s.energy is not None for s in structures)


def test_real_dimers_forces_are_the_negative_gradient(shared):
    """Work along steps that keep the dimer's orientation, by the trapezoid rule."""
    structures = read(shared / "data" / "s66x8_wb97x6-31gd.h5")
    assert len(structures) == 528
    work, change = [], []
    for first, second in itertools.pairwise(structures):
        if first.class_key == second.class_key:
            step = second.positions - first.positions
            assert first.forces is not None
            assert second.forces is not None
            assert first.energy is not None
            assert second.energy is not None
            if np.linalg.norm(step) < 1.5:
                work.append(np.sum((first.forces + second.forces) / 2 * step))
                change.append(second.energy - first.energy)
    assert len(work) > 200
    slope = np.dot(work, change) / np.dot(work, work)
    assert slope == pytest.approx(-1.0, abs=0.1)


def test_declined_labels_are_not_given_in_any_format():
    label = {"energy": np.nan, "forces": np.full((1, 3), np.nan)}
    atom = {"atomic_numbers": [1], "positions": np.zeros((1, 3))}
    structure = ReadOptions(energy_key="", forces_key="").structure(**atom, **label)
    assert (structure.energy, structure.forces) == (None, None)
    with pytest.raises(ValueError, match="energy"):
        ReadOptions(forces_key="").structure(**atom, **label)


def test_records_without_atoms_are_counted_and_left_out(tmp_path):
    from ase.io.trajectory import TrajectoryWriter

    some = [labelled(-1.0), Atoms(cell=[5, 5, 9], pbc=1), labelled(-2.0), Atoms()]
    frames, database, shard, trajectory = (
        tmp_path / name for name in ("a.xyz", "a.db", "a.aselmdb", "a.traj")
    )
    write(frames, some, format="extxyz")
    with connect(database) as rows:  # pyright: ignore[reportGeneralTypeIssues]
        for one in some:
            rows.write(one)
    rows = [ase_row(one, float(-i), newer=True) for i, one in enumerate(some)]
    number = zlib.compress(b"5")
    write_lmdb(shard, {"nextid": number, **{str(i + 1): row for i, row in enumerate(rows)}})
    with TrajectoryWriter(str(trajectory)) as file:
        for one in some:
            file.write(one)
    for path in (frames, database, shard, trajectory):
        notes = RecordNotes()
        with pytest.warns(SkippedRecordsWarning, match=rf"{path.name}: 2 records without atoms"):
            assert [len(s) for s in read(path, notes=notes)] == [3, 3]
        assert notes.empty == 2
        assert notes.lines()[0] == "2 records without atoms left out"
    units = {"energy_unit": "eV", "length_unit": "Å"}
    conversion = Conversion(paths=(str(frames),), options=units, energy_kind="total")
    store = convert(conversion, tmp_path / "store")
    assert store is not None
    assert len(store) == 2
    assert store.manifest["notes"]["empty"] == 2
