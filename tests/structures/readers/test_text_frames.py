"""OC20's published text files, and files that ASE reads."""

import copy
import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write

from atomjax.structures.readers import (
    ReadError,
    SkippedRecordsWarning,
    guess_format,
    open_file,
    read,
)
from tests.structures.readers.checks import forces_of


def frame(energy: float) -> Atoms:
    atoms = Atoms("CuHO", positions=[[0, 0, 0], [0, 0, 1.6], [0, 1.2, 2.2]], cell=[5, 5, 9], pbc=1)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.ones((3, 3)))
    atoms.set_tags([0, 2, 2])
    atoms.set_constraint(FixAtoms([0]))
    return atoms


def write_pair(folder: Path, name: str, count: int, compress: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.extxyz"
    atoms = [frame(-100.0 - i) for i in range(count)]
    columns = ["symbols", "positions", "move_mask", "tags", "forces"]
    write(path, atoms, format="extxyz", columns=columns)
    log = "".join(f"random{7 + i // 2},frame{10 * i},-99.5\n" for i in range(count))
    if compress:
        path.with_suffix(".extxyz.xz").write_bytes(lzma.compress(path.read_bytes()))
        path.unlink()
        (folder / f"{name}.txt.xz").write_bytes(lzma.compress(log.encode()))
    else:
        (folder / f"{name}.txt").write_text(log)


def test_oc20_text_files_in_a_folder(tmp_path: Path) -> None:
    write_pair(tmp_path / "s2ef_train_200K", "9", 2)
    write_pair(tmp_path / "s2ef_train_200K", "10", 3, compress=False)
    file = open_file(tmp_path, "oc20_extxyz", split="s2ef_train_200K")
    assert len(file) == 5
    assert [file[i].identifier for i in (4, 0)] == [
        "10.extxyz:2:sid8:fid20",
        "9.extxyz.xz:0:sid7:fid0",
    ]
    assert [s.energy for s in file] == [-0.5, -1.5, -0.5, -1.5, -2.5]
    assert [s.class_key for s in file] == ["sid7", "sid7", "sid7", "sid7", "sid8"]
    first = copy.deepcopy(file)[0]
    assert first.fixed.tolist() == [True, False, False]
    assert first.tags.tolist() == [0, 2, 2]
    np.testing.assert_array_equal(forces_of(first), np.ones((3, 3)))
    total = open_file(tmp_path / "s2ef_train_200K", "oc20_extxyz", energy_kind="total")
    assert total[1].energy == -101.0
    other = open_file(tmp_path / "s2ef_train_200K", "oc20_extxyz", energy_key="mine")
    with pytest.raises(ReadError, match="no result 'mine', of which the reference"):
        other[1]


def test_oc20_text_files_that_were_unpacked_beside_their_archives(tmp_path: Path) -> None:
    for compress in (True, False):
        write_pair(tmp_path, "0", 2, compress)
    with pytest.raises(ReadError, match=r"0\.extxyz\.xz is there unpacked as well; remove one"):
        open_file(tmp_path, "oc20_extxyz")


def test_oc20_text_files_agree_with_the_lmdb(shared: Path, tmp_path: Path) -> None:
    source = (shared / "data" / "toy_c3h8_relax.extxyz").read_bytes()
    (tmp_path / "0.extxyz.xz").write_bytes(lzma.compress(source, preset=0))
    (tmp_path / "0.txt").write_text("".join(f"random7,frame{i},0.0\n" for i in range(101)))
    text = open_file(tmp_path, "oc20_extxyz")
    assert len(text) == 101
    graphs = open_file(shared / "data" / "oc20_pyg2.lmdb")
    for i in (0, 7, 20):
        ours, theirs = text[5 * i], graphs[i]
        assert ours.energy == pytest.approx(theirs.energy, abs=1e-9)
        np.testing.assert_allclose(ours.positions, theirs.positions, atol=2e-6)
        # The graphs have zero forces on fixed atoms.
        free = ~theirs.fixed
        np.testing.assert_allclose(forces_of(ours)[free], forces_of(theirs)[free], atol=2e-6)
        np.testing.assert_array_equal(ours.tags, theirs.tags)
        np.testing.assert_array_equal(ours.fixed, theirs.fixed)
        assert ours.class_key == theirs.class_key


def test_damaged_oc20_text_files(tmp_path: Path) -> None:
    write_pair(tmp_path, "0", 3)
    packed = tmp_path / "0.extxyz.xz"
    data = packed.read_bytes()
    packed.write_bytes(data[:-20])
    with pytest.raises(ReadError, match=r"cannot be decompressed .* copy it again"):
        open_file(tmp_path, "oc20_extxyz")[0]
    packed.write_bytes(data)
    (tmp_path / "0.txt.xz").write_bytes(lzma.compress(b"random7,frame0,-1.0\n"))
    with pytest.raises(ReadError, match=r"3 frames, but 0\.txt\.xz has 1 lines"):
        open_file(tmp_path, "oc20_extxyz")[0]
    log = b"random7,frame0,-1.0\nrandom7,frame1\nfoo\n"
    (tmp_path / "0.txt.xz").write_bytes(lzma.compress(log))
    file = open_file(tmp_path, "oc20_extxyz")
    with pytest.raises(ReadError, match=r"^0\.extxyz\.xz:1: .*has no reference energy"):
        file[1]
    with pytest.raises(ReadError, match=r"^0\.extxyz\.xz:2: its line of the text file is 'foo'"):
        file[2]
    with pytest.warns(SkippedRecordsWarning, match="2 of 3 records left out"):
        assert len(read(tmp_path, "oc20_extxyz", on_error="skip")) == 1
    (tmp_path / "0.txt.xz").unlink()
    with pytest.raises(ReadError, match=r"lacks 0\.txt or 0\.txt\.xz beside it"):
        open_file(tmp_path, "oc20_extxyz")


def test_what_ase_reads(tmp_path: Path) -> None:
    write(tmp_path / "a.traj", [frame(-1.0), frame(-2.0)])
    structures = read(tmp_path / "a.traj")
    assert [s.energy for s in structures] == [-1.0, -2.0]
    assert structures[1].identifier == "a.traj:1"
    assert structures[0].fixed.tolist() == [True, False, False]
    np.testing.assert_array_equal(forces_of(structures[0]), np.ones((3, 3)))
    write(tmp_path / "POSCAR", frame(-1.0), format="vasp")
    (poscar,) = read(tmp_path / "POSCAR", "ase", ase_format="vasp")
    assert poscar.energy is None
    assert poscar.pbc.all()
    data = (tmp_path / "a.traj").read_bytes()
    (tmp_path / "b.traj").write_bytes(data[: len(data) // 2])
    with pytest.raises(ReadError, match=r"b\.traj: ASE cannot read it as 'traj'"):
        read(tmp_path / "b.traj")


def test_files_that_ase_would_execute_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("open('PWNED', 'w')\n")
    with pytest.raises(ReadError, match="refused: files of ASE's format 'py' can execute code"):
        read(tmp_path / "a.py", "ase", ase_format="py")
    with pytest.raises(ReadError):
        read(tmp_path / "a.py", "ase")
    assert not (tmp_path / "PWNED").exists()


def test_voigt_stresses_and_a_byte_order_mark_are_read(tmp_path) -> None:
    path = tmp_path / "voigt.xyz"
    six = "1 2 3 4 5 6"
    frame = f'1\nLattice="4 0 0 0 4 0 0 0 4" stress="{six}" energy=-1.0 pbc="T T T"\nCu 0 0 0\n'
    path.write_text("\ufeff" + frame, encoding="utf-8")
    (structure,) = read(path, energy_unit="eV", length_unit="Å")
    assert structure.stress.tolist() == [[1, 6, 5], [6, 2, 4], [5, 4, 3]]


def test_dumps_of_lammps_have_no_energy(tmp_path) -> None:
    path = tmp_path / "run.dump"
    path.write_text(
        "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n0 4\n0 4\n0 4\n"
        "ITEM: ATOMS id type x y z fx fy fz\n1 1 0 0 0 0.5 0 0\n"
    )
    given = {"ase_format": "lammps-dump-text", "energy_unit": "eV", "length_unit": "Å"}
    (structure,) = read(path, "ase", **given)
    assert structure.energy is None
    assert structure.forces.tolist() == [[0.5, 0, 0]]


def test_packed_files_are_read_with_the_same_checks(tmp_path) -> None:
    path = tmp_path / "packed.xyz.gz"
    frame = "1\nproperties=species:S:1:pos:R:3:forces:R:3 energy=-1.0\nCu 0 0 0 0 0 1\n"
    with gzip.open(path, "wt") as file:
        file.write(frame)
    with pytest.raises(ReadError, match="write Properties="):
        read(path, energy_unit="eV", length_unit="Å")
    with gzip.open(path, "wt") as file:
        file.write(frame.replace("properties", "Properties"))
    (structure,) = read(path, energy_unit="eV", length_unit="Å")
    assert structure.forces.tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("name", ["POSCAR", "a/OUTCAR", "vasprun.xml", "CONTCAR.relaxed", "a.vasp"])
def test_files_of_programs_are_known_by_their_names(name: str) -> None:
    assert guess_format(Path(name)) == "ase"


def test_other_names_and_folders_are_no_files_of_programs(tmp_path) -> None:
    (tmp_path / "OUTCAR").mkdir()
    assert guess_format(tmp_path / "OUTCAR") is None
    assert guess_format(Path("notposcar")) is None


def test_use_tags_is_a_truth_value(tmp_path) -> None:
    write(tmp_path / "a.xyz", Atoms("H"), format="extxyz")
    with pytest.raises(ReadError, match="write true or false"):
        read(tmp_path / "a.xyz", energy_unit="eV", length_unit="Å", use_tags="no")
