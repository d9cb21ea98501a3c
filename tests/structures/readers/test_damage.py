"""Damaged files, and files that ask for very much: named before the memory is gone."""

import gzip
import lzma
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from atomjax.structures import Structure
from atomjax.structures.readers import ReadError, RecordNotes, SkippedRecord, open_file, read
from atomjax.structures.readers.layouts.records import structures_from
from tests.structures.readers.test_cif_csv import cif, write_table
from tests.structures.readers.test_stated_units import molecules, spring
from tests.structures.readers.test_text_frames import write_pair

UNITS = {"energy_unit": "eV", "length_unit": "Å"}


@pytest.mark.parametrize("count", ["9999999999", "-3"])
def test_a_frame_has_no_more_atoms_than_its_file_has_bytes(tmp_path: Path, count: str) -> None:
    path = tmp_path / "a.xyz"
    path.write_text(f"{count}\n\nH 0 0 0\n")
    message = rf"a\.xyz: frame 0 should have {count} atoms, and the file has \d+ bytes"
    for format_name in ("extxyz", "md22"):
        with pytest.raises(ReadError, match=message):
            read(path, format_name)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_cut_file_of_compressed_frames_is_named(tmp_path: Path, on_error: Any) -> None:
    path = tmp_path / "a.xyz.gz"
    packed = gzip.compress(b"1\n\nH 0 0 0\n" * 100)
    path.write_bytes(packed[:-12])
    with pytest.raises(ReadError, match=r"a\.xyz\.gz: cannot be decompressed .*truncated, copy it"):
        read(path, on_error=on_error)


def test_whatever_a_parser_raises_on_a_record_is_its_damage() -> None:
    def parse() -> Structure:
        raise struct.error("unpack requires a buffer of 8 bytes")

    skipped: list[SkippedRecord] = []
    assert not list(structures_from([("a:3", parse)], "skip", skipped, RecordNotes()))
    assert skipped == [SkippedRecord("a:3", "unpack requires a buffer of 8 bytes")]


def test_columns_that_are_described_are_there(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_text("1\nProperties=species:S:1:pos:R:99999999999\nH 0 0 0\n")
    with pytest.raises(ReadError, match=r"a\.xyz:0: Properties= describes 100000000000 columns"):
        read(path, "extxyz", **UNITS)


def test_a_cut_cif_is_an_error_not_fewer_structures(tmp_path: Path) -> None:
    path, text = tmp_path / "a.cif", cif()
    second = text.replace("data_image0", "data_image1")
    path.write_text(text + second)
    assert len(read(path, energy_key="")) == 2
    in_atoms = second.rstrip().rpartition("\n")[0] + "\n"
    path.write_text(text + in_atoms)
    with pytest.raises(ReadError, match=r"a\.cif: .*do not add up to the formula .*cut short"):
        read(path, energy_key="")
    before_atoms = second.partition("loop_")[0]
    path.write_text(text + before_atoms)
    with pytest.raises(ReadError, match=r"a\.cif: .*'image1' has a cell and no atoms: .*cut short"):
        read(path, energy_key="")
    for length in range(len("data_"), second.index("_cell_length_a"), 7):
        path.write_text(text + second[:length])
        with pytest.raises(ReadError, match=r"a\.cif: .*(and no atoms|beyond structure)"):
            read(path, energy_key="")
    # Of one element, where any number has the same ratio.
    copper = BytesIO()
    ase.io.write(copper, bulk("Cu", cubic=True), format="cif")
    lines = copper.getvalue().decode().rstrip().split("\n")
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(ReadError, match=r"the atoms Cu3 do not add up to the formula Cu4"):
        read(path, energy_key="")
    table = write_table(tmp_path / "t.csv", [cif(), in_atoms], {"heat": [1.0, 2.0]})
    assert open_file(table)[0].formula == "ClNa"
    with pytest.raises(ReadError, match=r"t\.csv:1: the atoms .* do not add up to the formula"):
        open_file(table)[1]


def test_a_cut_table_is_an_error(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", [cif(), cif()], {"a": [1.0, 2.0], "b": [1.0, 2.0]})
    path.write_text(path.read_text().rstrip().rpartition(",")[0])
    with pytest.raises(ReadError, match=r"t\.csv: row 2 has not the 4 fields of the header"):
        open_file(path)


@pytest.mark.parametrize("missing", ["coordinates", "species", "energies", "forces"])
def test_a_molecule_without_one_of_its_arrays_is_an_error(tmp_path: Path, missing: str) -> None:
    lacking = spring(1.0)
    del lacking[missing]
    path = molecules(tmp_path / "a.h5", spring(1.0), lacking)
    with pytest.raises(ReadError, match=rf"a\.h5: molecule m1 lacks {missing}"):
        open_file(path)
    spice = tmp_path / "b.hdf5"
    with h5py.File(spice, "w") as file:
        file["one/atomic_numbers"] = [1, 1]
        file["one/dft_total_energy"] = [1.0]
    with pytest.raises(ReadError, match=r"b\.hdf5: molecule one lacks conformations, dft_total_gr"):
        open_file(spice, "spice")


def test_arrays_that_nobody_wrote_are_not_made(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["m/species"] = np.array([b"H", b"H"])
        for name, shape in (("coordinates", (10**10, 2, 3)), ("energies", (10**10,))):
            file.create_dataset(f"m/{name}", shape, "f8", chunks=(1000, *shape[1:]))
    with pytest.raises(ReadError, match=r"a\.h5: molecule m: coordinates would be 480,000,000,000"):
        open_file(path, "comp6", forces_key="")


def test_what_is_compressed_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "matbench_phonons.json.gz"
    path.write_bytes(gzip.compress(bytes([32]) * (1 << 25)) * 8)
    message = r"phonons\.json\.gz: its content would be [\d,]+ bytes in memory and is [\d,]+ in"
    with pytest.raises(ReadError, match=message):
        open_file(path)
    write_pair(tmp_path / "oc", "0", 1)
    (tmp_path / "oc" / "0.extxyz.xz").write_bytes(lzma.compress(bytes([32]) * (1 << 25)) * 8)
    with pytest.raises(ReadError, match=r"0\.extxyz\.xz: its content would be [\d,]+ bytes"):
        read(tmp_path / "oc", "oc20_extxyz")
    arrays = {"z": np.array([1, 1]), "R": np.zeros((1 << 23, 2, 3)), "E": np.zeros(1 << 23)}
    np.savez_compressed(tmp_path / "md22_DHA.npz", F=np.zeros(3), **arrays)
    with pytest.raises(ReadError, match=r"DHA\.npz: the array R\.npy would be [\d,]+ bytes"):
        open_file(tmp_path / "md22_DHA.npz", "md22")


def test_headers_of_trajectories_point_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.traj"
    atoms = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.1]])
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((2, 3)))
    ase.io.write(path, [atoms, atoms])
    whole = path.read_bytes()
    assert len(read(path, **UNITS)) == 2
    for place, message in ((32, "a header points"), (40, "a header points")):
        damaged = bytearray(whole)
        damaged[place + 6] = 1
        path.write_bytes(damaged)
        with pytest.raises(ReadError, match=rf"a\.traj: {message} beyond the file"):
            read(path, **UNITS)
    path.write_bytes(whole.replace(b"[[2, 3]", b"[[2,90]", 1))
    with pytest.raises(ReadError, match=r"a\.traj: an array is longer than the file"):
        read(path, **UNITS)


@pytest.mark.parametrize("old_format", [False, True])
def test_a_poscar_has_no_more_atoms_than_lines(tmp_path: Path, old_format: bool) -> None:
    path = tmp_path / "a.vasp"
    ase.io.write(path, bulk("Cu"), format="vasp", vasp5=not old_format)
    assert len(read(path, "ase", energy_key="", forces_key="", **UNITS)) == 1
    path.write_text(path.read_text().replace("\n   1\n", "\n   9999999999 1\n"))
    with pytest.raises(ReadError, match=r"a\.vasp: says that it has 10,000,000,000 atoms in \d+"):
        read(path, "ase", energy_key="", forces_key="", **UNITS)
