"""rMD17 and MD22, in files written in their native layouts."""

from pathlib import Path

import numpy as np
import pytest

from atomjax.structures.readers import ReadError, open_file, read
from tests.structures.readers.checks import forces_of

WATER = np.array([8, 1, 1])
KCAL = 0.0433641042  # eV, thermochemical
BASE = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])


def frames(count: int) -> np.ndarray:
    return BASE + np.arange(count)[:, None, None] / 1000


@pytest.fixture
def rmd17(tmp_path: Path) -> Path:
    folder = tmp_path / "rmd17" / "npz_data"
    folder.mkdir(parents=True)
    path = folder / "rmd17_ethanol.npz"
    count = 3000
    np.savez(
        path,
        nuclear_charges=WATER,
        coords=frames(count),
        energies=-1000.0 - np.arange(count),
        forces=np.full((count, 3, 3), 2.0),
        old_indices=np.arange(count),
        old_energies=np.zeros(count),
    )
    splits = tmp_path / "rmd17" / "splits"
    splits.mkdir()
    for fold in range(1, 6):
        order = np.random.default_rng(fold).permutation(count)
        np.savetxt(splits / f"index_train_0{fold}.csv", order[:1000], fmt="%d")
        np.savetxt(splits / f"index_test_0{fold}.csv", order[1000:2000], fmt="%d")
    return path


def test_rmd17_in_ev(rmd17: Path) -> None:
    file = open_file(rmd17, "rmd17")
    assert len(file) == 3000
    structure = file[7]
    assert structure.energy == pytest.approx(-1007 * KCAL, rel=1e-9)
    np.testing.assert_allclose(forces_of(structure), 2 * KCAL, rtol=1e-9)
    np.testing.assert_allclose(structure.positions, frames(8)[7])
    assert structure.class_key == "ethanol"
    assert structure.identifier == "rmd17_ethanol.npz:7"


@pytest.mark.parametrize("fold", [1, 5])
def test_rmd17_official_divisions(rmd17: Path, fold: int) -> None:
    order = np.random.default_rng(fold).permutation(3000)
    parts = {
        name: open_file(rmd17, "rmd17", split=name, fold=fold)
        for name in ("train", "validation", "test")
    }
    assert [len(part) for part in parts.values()] == [950, 50, 1000]
    assert parts["train"].identifier(0) == f"rmd17_ethanol.npz:{order[0]}"
    assert parts["validation"].identifier(0) == f"rmd17_ethanol.npz:{order[950]}"
    assert parts["test"].identifier(999) == f"rmd17_ethanol.npz:{order[1999]}"
    few = open_file(rmd17, "rmd17", split="train", fold=fold, train_size=50)
    assert [few.identifier(i) for i in range(50)] == [f"rmd17_ethanol.npz:{i}" for i in order[:50]]


def test_rmd17_division_of_jmp(rmd17: Path) -> None:
    order = np.arange(3000)
    np.random.RandomState(42).shuffle(order)
    parts = [
        open_file(rmd17, "rmd17", split=name, division="jmp") for name in ("train", "val", "test")
    ]
    assert [len(part) for part in parts] == [950, 50, 2000]
    assert [part.identifier(0).rpartition(":")[2] for part in parts] == [
        str(order[i]) for i in (0, 950, 1000)
    ]


def test_rmd17_says_where_it_looked_for_divisions(rmd17: Path, tmp_path: Path) -> None:
    moved = rmd17.rename(tmp_path / "rmd17_ethanol.npz")
    with pytest.raises(ReadError, match=r"no folder with rMD17's official divisions at .*/splits"):
        open_file(moved, "rmd17", split="train")
    splits = str(tmp_path / "rmd17" / "splits")
    assert len(open_file(moved, "rmd17", split="test", splits_folder=splits)) == 1000
    (tmp_path / "rmd17" / "splits" / "index_test_01.csv").write_text("1\n99999\n")
    with pytest.raises(ReadError, match="frame 99999 is not among the 3000"):
        open_file(moved, "rmd17", split="test", splits_folder=splits)
    with pytest.raises(ReadError, match="fold=0: rMD17 has the divisions 1 to 5"):
        open_file(moved, "rmd17", split="test", fold=0)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_md22_npz(tmp_path: Path, save) -> None:
    path = tmp_path / "md22_double-walled_nanotube.npz"
    count = 1000
    energies = -(6.2e5 + np.arange(count))[:, None]
    save(path, z=WATER, R=frames(count), E=energies, F=np.ones((count, 3, 3)), E_max=1.0, name="x")
    file = open_file(path, "md22")
    assert file[3].energy == pytest.approx(-620003 * KCAL, rel=1e-9)
    np.testing.assert_allclose(forces_of(file[3]), KCAL, rtol=1e-9)
    assert file[3].class_key == "double-walled_nanotube"
    parts = [open_file(path, "md22", split=name) for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [760, 40, 200]
    order = np.arange(count)
    np.random.RandomState(42).shuffle(order)
    assert parts[1].identifier(0).endswith(f":{order[760]}")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_units_of_an_md22_file_are_compared(tmp_path: Path, save) -> None:
    path, arrays = tmp_path / "AT-AT.npz", {"z": WATER, "R": frames(3), "E": np.zeros(3)}
    arrays["F"] = np.ones((3, 3, 3))
    for unit in ("kcal/mol", b"kcal/mol"):
        save(path, **arrays, r_unit="Ang", e_unit=unit)
        np.testing.assert_allclose(forces_of(open_file(path, "md22")[0]), KCAL)
    save(path, **arrays, r_unit="Ang", e_unit="eV")
    with pytest.raises(ReadError, match=r"AT-AT\.npz: the file states energy_unit='eV', but"):
        open_file(path, "md22")
    save(path, **arrays, r_unit="bohr")
    with pytest.raises(ReadError, match="states length_unit='bohr'"):
        open_file(path, "md22", length_unit="Å")


def test_md22_extended_xyz(tmp_path: Path) -> None:
    path = tmp_path / "md22_AT-AT.xyz"
    text = ""
    for i, positions in enumerate(frames(30)):
        text += f"3\nProperties=species:S:1:pos:R:3:forces:R:3 Energy={-100.0 - i}\n"
        for symbol, place in zip("OHH", positions, strict=True):
            text += f"{symbol} {place[0]:.6f} {place[1]:.6f} {place[2]:.6f} 1.0 2.0 3.0\n"
    path.write_text(text)
    file = open_file(path, "md22")
    assert len(file) == 30
    assert file[29].energy == pytest.approx(-129 * KCAL, rel=1e-9)
    np.testing.assert_allclose(forces_of(file[0])[1], np.array([1.0, 2.0, 3.0]) * KCAL)
    assert file[0].class_key == "AT-AT"
    parts = [
        open_file(path, "md22", split=name, train_size=20) for name in ("train", "val", "test")
    ]
    assert [len(part) for part in parts] == [19, 1, 10]
    with pytest.raises(ReadError, match="30 records cannot be divided into train 2850, validation"):
        open_file(path, "md22", split="train")
    path.write_text(text[: len(text) - 40])
    with pytest.raises(ReadError, match=r"AT-AT\.xyz:29: .*truncated|AT-AT\.xyz:29:"):
        open_file(path, "md22")[29]
    path.write_text(text.replace("Energy", "E"))
    with pytest.raises(ReadError, match="frame 0 has no energy="):
        open_file(path, "md22")


def test_md22_needs_a_known_molecule_for_its_split(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, z=WATER, R=frames(5), E=np.zeros(5), F=np.zeros((5, 3, 3)))
    with pytest.raises(ReadError, match=r"'mine' to train on is not known; .*Ac-Ala3-NHMe"):
        open_file(path, "md22", split="train")


def test_damaged_npz_files(tmp_path: Path) -> None:
    path = tmp_path / "rmd17_a.npz"
    arrays = {"nuclear_charges": WATER, "coords": frames(50), "energies": np.zeros(50)}
    np.savez(path, **arrays, forces=np.zeros((50, 3, 3)))
    data = path.read_bytes()
    for end in (10, len(data) // 2, len(data) - 5):
        path.write_bytes(data[:end])
        with pytest.raises(ReadError, match="damaged or truncated, copy it again"):
            open_file(path, "rmd17")
    np.savez(path, **arrays)
    with pytest.raises(ReadError, match="has no array forces; it has: coords, energies"):
        open_file(path, "rmd17")
    assert open_file(path, "rmd17", forces_key="")[0].forces is None
    np.savez(path, **arrays, forces=np.zeros((50, 2, 3)))
    with pytest.raises(ReadError, match=r"forces has shape \[50, 2, 3\], expected \[50, 3, 3\]"):
        open_file(path, "rmd17")
    np.savez(path, **arrays, forces=np.array([None], dtype=object))
    with pytest.raises(ReadError, match=r"the array forces\.npy holds pickled objects; refused"):
        open_file(path, "rmd17")
    bad = frames(50)
    bad[4, 0, 0] = np.nan
    np.savez(path, **{**arrays, "coords": bad}, forces=np.zeros((50, 3, 3)))
    with pytest.raises(ReadError, match=r"^rmd17_a\.npz:4: positions: 1 entries are not finite"):
        read(path, "rmd17")
