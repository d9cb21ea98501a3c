"""ANI-1x, Transition-1x and SPICE, in files written in their native layouts."""

import copy
from pathlib import Path

import h5py
import numpy as np
import pytest

from atomjax.structures import units
from atomjax.structures.readers import (
    ReadError,
    SkippedRecordsWarning,
    StructureFile,
    open_file,
    read,
)
from atomjax.structures.readers.spice import formal_charge
from tests.structures.readers.checks import forces_of

MOLECULES = {"CH4": [6, 1, 1, 1, 1], "H2O": [8, 1, 1], "C2H6": [6, 6, 1, 1, 1, 1, 1, 1]}


def conformations(atoms: int, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(-1, 3)[:atoms] * 1.2
    return grid + rng.normal(scale=0.05, size=(count, atoms, 3))


@pytest.fixture
def ani(tmp_path: Path) -> Path:
    path = tmp_path / "ani1x-release.h5"
    with h5py.File(path, "w") as file:
        for seed, (formula, numbers) in enumerate(MOLECULES.items()):
            group = file.create_group(formula)
            count = 4 + seed
            positions = conformations(len(numbers), count, seed)
            group["atomic_numbers"] = np.array(numbers, np.uint8)
            group["coordinates"] = positions.astype(np.float32)
            group["wb97x_dz.energy"] = -40.0 - np.arange(count) / 100
            group["wb97x_dz.forces"] = (positions / 10).astype(np.float32)
            group["wb97x_tz.energy"] = np.where(np.arange(count) == 2, -41.0, np.nan)
            group["wb97x_tz.forces"] = positions
    return path


def test_ani1x_in_ev_with_the_formula_as_class(ani: Path) -> None:
    structures = read(ani, "ani1x")
    assert len(structures) == 4 + 5 + 6
    assert structures[6].identifier == "ani1x-release.h5:CH4:0"
    assert structures[6].class_key == "CH4"
    assert structures[6].source == "ani1x-release"
    second = structures[7]
    assert second.energy == pytest.approx(-40.01 * 27.211386245981, abs=1e-9)
    positions = conformations(5, 4, 0)
    np.testing.assert_allclose(second.positions, positions[1], atol=1e-6)
    np.testing.assert_allclose(forces_of(second), positions[1] / 10 * units.HARTREE, atol=1e-5)
    assert not second.pbc.any()


def test_ani1x_leaves_out_what_has_no_label_and_says_so(ani: Path) -> None:
    with pytest.warns(SkippedRecordsWarning, match=r"12: no wb97x_tz\.energy \(NaN\)"):
        structures = read(ani, "ani1x", level="wb97x_tz")
    assert [s.identifier.rpartition(":")[2] for s in structures] == ["2", "2", "2"]
    with pytest.warns(SkippedRecordsWarning, match="5: fewer than min_atoms=4 atoms"):
        assert {s.class_key for s in read(ani, "ani1x", min_atoms=4)} == {"CH4", "C2H6"}


def test_ani1x_splits_share_no_formula(tmp_path: Path) -> None:
    path = tmp_path / "ani.h5"
    with h5py.File(path, "w") as file:
        for carbons in range(1, 41):
            group = file.create_group(f"C{carbons}")
            group["atomic_numbers"] = [6]
            group["coordinates"] = np.zeros((10, 1, 3))
            group["wb97x_dz.energy"] = np.full(10, -1.0)
            group["wb97x_dz.forces"] = np.zeros((10, 1, 3))
    parts = {name: open_file(path, "ani1x", split=name) for name in ("train", "val", "test")}
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 320,
        "val": 40,
        "test": 40,
    }
    formulas = {name: {s.class_key for s in part} for name, part in parts.items()}
    assert formulas["train"].isdisjoint(formulas["val"] | formulas["test"])
    assert formulas["val"].isdisjoint(formulas["test"])
    again = open_file(path, "ani1x", split="val")
    assert {s.class_key for s in again} == formulas["val"]
    other = open_file(path, "ani1x", split="val", split_seed=1)
    assert {s.class_key for s in other} != formulas["val"]


def test_missing_forces_are_a_damaged_record(ani: Path) -> None:
    with h5py.File(ani, "a") as file:
        file["CH4/wb97x_dz.forces"][1, 0, 0] = np.nan  # pyright: ignore[reportIndexIssue]
    with pytest.raises(ReadError, match=r"^ani1x-release\.h5:CH4:1: forces: 1 entries are not"):
        read(ani, "ani1x")
    with pytest.warns(SkippedRecordsWarning, match="1 of 15 records left out"):
        assert len(read(ani, "ani1x", on_error="skip")) == 14
    assert len(read(ani, "ani1x", forces_key="")) == 15


def test_files_are_read_when_asked_in_any_order_and_process(ani: Path) -> None:
    file = open_file(ani, "ani1x")
    assert isinstance(file, StructureFile)
    assert [file[i].energy for i in (14, 0, -1)] == [
        read(ani, "ani1x")[i].energy for i in (14, 0, 14)
    ]
    assert [s.identifier for s in file[2:4]] == [file.identifier(2), file.identifier(3)]
    other = copy.deepcopy(file)
    assert other[3].identifier == file[3].identifier
    with pytest.raises(IndexError, match="index 15 of 15"):
        file[15]


@pytest.mark.parametrize("format_name", ["ani1x", "transition1x", "spice"])
def test_truncated_and_foreign_hdf5_files(ani: Path, format_name: str, tmp_path: Path) -> None:
    data = ani.read_bytes()
    ani.write_bytes(data[: len(data) // 2])
    with pytest.raises(ReadError, match="damaged or truncated, copy it again"):
        read(ani, format_name)
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(ReadError, match="not a readable HDF5 file"):
        read(tmp_path / "text.h5", format_name)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = [1.0]
    with pytest.raises(ReadError, match=r"other\.h5: (holds no|has no group)"):
        read(tmp_path / "other.h5", format_name)


def test_arrays_that_do_not_fit_are_refused(ani: Path) -> None:
    with h5py.File(ani, "a") as file:
        del file["H2O/wb97x_dz.forces"]
    with pytest.raises(ReadError, match=r"molecule H2O lacks wb97x_dz\.forces; it has: "):
        read(ani, "ani1x")
    with h5py.File(ani, "a") as file:
        file["H2O/wb97x_dz.forces"] = np.zeros((5, 2, 3))
    with pytest.raises(ReadError, match=r"shape \[5, 2, 3\], expected \[5, 3, 3\] for 3 atoms"):
        read(ani, "ani1x")


def test_units_that_the_format_fixes_cannot_be_contradicted(ani: Path) -> None:
    assert len(read(ani, "ani1x", energy_unit="Ha", length_unit="Å")) == 15
    with pytest.raises(ReadError, match=r"'ani1x' fixes its units \(Ha, Å\); leave energy_unit"):
        read(ani, "ani1x", energy_unit="eV")
    with pytest.raises(ReadError, match="no option 'min_atom'; did you mean 'min_atoms'"):
        read(ani, "ani1x", min_atom=3)
    with pytest.raises(ReadError, match="unknown format 'ani1', did you mean 'ani1x'"):
        read(ani, "ani1")


@pytest.fixture
def transition(tmp_path: Path) -> Path:
    path = tmp_path / "Transition1x.h5"
    level = "wB97x_6-31G(d)"

    def write(group, numbers, count, seed) -> None:
        positions = conformations(len(numbers), count, seed)
        group["atomic_numbers"] = numbers
        group["positions"] = positions
        group[f"{level}.energy"] = -2000.0 - np.arange(count)
        group[f"{level}.forces"] = positions / 10

    with h5py.File(path, "w") as file:
        for split, formula, reaction in [
            ("train", "C2H6", "rxn0001"),
            ("train", "C2H6", "rxn0002"),
            ("val", "CH4", "rxn0003"),
            ("test", "H2O", "rxn0004"),
        ]:
            group = file.create_group(f"data/{formula}/{reaction}")
            write(group, MOLECULES[formula], 5, 0)
            for seed, point in enumerate(("reactant", "transition_state", "product")):
                write(group.create_group(point), MOLECULES[formula], 1, seed)
            file.require_group(f"{split}/{formula}")[reaction] = group
    return path


def test_transition1x_with_its_own_splits(transition: Path) -> None:
    assert len(read(transition, "transition1x")) == 20
    sizes = {
        name: len(open_file(transition, "transition1x", split=name))
        for name in ("train", "validation", "test")
    }
    assert sizes == {"train": 10, "validation": 5, "test": 5}
    assert len(open_file(transition, "transition1x", split="valid")) == 5
    first = read(transition, "transition1x", split="validation")[1]
    assert first.energy == -2001.0
    np.testing.assert_allclose(forces_of(first), conformations(5, 5, 0)[1] / 10)
    assert first.class_key == "CH4"
    assert first.identifier == "Transition1x.h5:val/CH4/rxn0003:1"
    with pytest.raises(ReadError, match=r"no split 'tests'; did you mean 'test'\?"):
        read(transition, "transition1x", split="tests")
    with pytest.raises(ReadError, match=r"no split 'all'\. Splits here: train, validation, test"):
        read(transition, "transition1x", split="all")


def test_transition1x_options(transition: Path) -> None:
    structures = read(
        transition, "transition1x", class_by="reaction", energy_kind="referenced", split="train"
    )
    assert {s.class_key for s in structures} == {"C2H6/rxn0001", "C2H6/rxn0002"}
    # Less two atoms of carbon and six of hydrogen.
    free = 2 * -1029.4130839658328 + 6 * -13.62222753701504
    assert structures[0].energy == pytest.approx(-2000.0 - free)
    assert len(read(transition, "transition1x", end_points=True)) == 12
    with pytest.raises(ReadError, match="class_by='rxn'; write one of formula, reaction"):
        read(transition, "transition1x", class_by="rxn")


@pytest.fixture
def spice(tmp_path: Path) -> Path:
    path = tmp_path / "SPICE-1.1.4.hdf5"
    subsets = ["Dipeptides", "Solvated Amino Acids"]
    with h5py.File(path, "w") as file:
        for index in range(4):
            group = file.create_group(f"molecule-{index}")
            name = f"SPICE {subsets[index % 2]} Single Points Dataset v1.{index // 2}"
            group["subset"] = np.array([name.encode()], dtype=object)
            group["atomic_numbers"] = np.array(MOLECULES["H2O"], np.int16)
            positions = conformations(3, 25, index)
            group["conformations"] = positions.astype(np.float32)
            group["dft_total_energy"] = np.full(25, -76.0)
            group["formation_energy"] = np.full(25, -0.3)
            group["dft_total_gradient"] = np.full((25, 3, 3), 0.01)
    return path


def test_spice_gradients_become_forces_in_ev(spice: Path) -> None:
    structures = read(spice, "spice", subset="solvated_amino_acids")
    assert {s.class_key for s in structures} == {"molecule-1", "molecule-3"}
    first = structures[0]
    assert first.energy == pytest.approx(-76 * 27.211386245981)
    bohr = 0.529177210544
    np.testing.assert_allclose(first.positions, conformations(3, 25, 1)[0] * bohr, atol=1e-6)
    np.testing.assert_allclose(forces_of(first), -0.01 * 27.211386245981 / bohr)
    formation = read(spice, "spice", energy_kind="referenced")[0]
    assert formation.energy == pytest.approx(-0.3 * 27.211386245981)


def test_the_charges_of_spice_are_those_of_its_smiles(spice: Path) -> None:
    smiles = {"[O-:1][C:2]([H:3])=[O:4]": -1, "[NH3+:1]C": 1, "[Ca+2]": 2, "[O--]": -2, "CO": 0}
    for text, charge in smiles.items():
        assert formal_charge(text) == charge
    with h5py.File(spice, "a") as file:
        file["molecule-1/smiles"] = np.array([b"[O-:1][H:2]"], dtype=object)
    charges = {s.class_key: s.targets.get("charge") for s in read(spice, "spice")}
    assert charges == {f"molecule-{i}": -1.0 if i == 1 else None for i in range(4)}


def test_spice_subsets_and_splits(spice: Path) -> None:
    parts = [open_file(spice, "spice", split=s) for s in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [80, 10, 10]
    # The split that JMP's script draws: numpy's legacy shuffle of all conformations, seed 42.
    order = np.arange(100)
    np.random.RandomState(42).shuffle(order)
    assert [part._record(0) for part in parts] == [order[0], order[80], order[90]]
    assert len({part.identifier(i) for part in parts for i in range(len(part))}) == 100
    with pytest.raises(ReadError, match=r"no molecule of the subset 'ion_pairs'; the subsets are"):
        read(spice, "spice", subset="ion_pairs")
    with pytest.raises(ReadError, match="cannot be divided into train 99, test 2; set the sizes"):
        read(spice, "spice", split="train", train_size=99, test_size=2)
