"""QM9 in its three forms."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atomjax.structures import Structure
from atomjax.structures.readers import ReadError, SkippedRecordsWarning, open_file, read
from atomjax.structures.readers.qm9_properties import TARGETS
from tests.safe_pickle.torch_pickles import Tensor, write_legacy_archive, write_torch_archive

HARTREE = 27.211386245981
# The first molecule, as published but for the tabs.
METHANE = """5
gdb 1 157.7118 157.70997 157.70699 0. 13.21 -0.3877 0.1171 0.5048 35.3641 0.044749 -40.47893 \
-40.476062 -40.475117 -40.498597 6.469
C -0.0126981359 1.0858041578 0.0080009958 -0.535689
H 0.002150416 -0.0060313176 0.0019761204 0.133921
H 1.0117308433 1.4637511618 0.0002765748 0.133922
H -0.540815069 1.4475266138 -0.8766437152 0.133923
H -0.5238136345 1.4379326443 9.063972942*^-1 0.133923
1341.307 1341.3284 1341.365 1562.6731 1562.7453 3038.3205 3151.6034 3151.6788 3151.7078
C C
InChI=1S/CH4/h1H4 InChI=1S/CH4/h1H4
"""
LISTED = "These fell apart\n====\n   2  C  0.5\n  12  CC 0.7\n====\n"


def write_folder(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(1, count + 1):
        text = METHANE.replace("gdb 1 ", f"gdb {number} ")
        (folder / f"dsgdb9nsd_{number:06d}.xyz").write_text(text)
    (folder.parent / "uncharacterized.txt").write_text(LISTED)
    return folder


def check_methane(structure: Structure) -> None:
    assert structure.formula == "CH4"
    assert sorted(structure.targets) == sorted(TARGETS)
    assert structure.targets["U0"] == pytest.approx(-40.47893 * HARTREE, rel=1e-7)
    assert structure.targets["gap"] == pytest.approx(0.5048 * HARTREE, rel=1e-6)
    assert structure.targets["zpve"] == pytest.approx(0.044749 * HARTREE, rel=1e-6)
    # DeepChem's table of QM9 has -395.999595 kcal/mol.
    assert structure.targets["U0_atom"] == pytest.approx(-395.999595 * 0.0433641042, rel=1e-5)
    for name, value in [("mu", 0.0), ("alpha", 13.21), ("r2", 35.3641), ("Cv", 6.469)]:
        assert structure.targets[name] == pytest.approx(value, rel=1e-6)
    assert structure.targets["A"] == pytest.approx(157.7118, rel=1e-6)
    assert structure.energy is None
    np.testing.assert_allclose(
        structure.positions[0], [-0.0126981359, 1.0858041578, 0.0080009958], atol=1e-6
    )


def test_published_files(tmp_path: Path) -> None:
    file = open_file(write_folder(tmp_path / "qm9", 20), "qm9")
    assert len(file) == 18
    assert [file.identifier(i) for i in (0, 1)] == ["dsgdb9nsd_000001.xyz", "dsgdb9nsd_000003.xyz"]
    check_methane(file[0])
    assert file[0].positions[4, 2] == pytest.approx(0.9063972942)
    assert len(open_file(tmp_path / "qm9", "qm9", uncharacterized="")) == 20
    (chosen,) = read(tmp_path / "qm9", "qm9", targets=["gap"])[:1]
    assert list(chosen.targets) == ["gap"]
    with pytest.raises(ReadError, match="no target Gap; this record has: A, B, C, mu"):
        read(tmp_path / "qm9", "qm9", targets=["Gap"])


def test_the_list_of_molecules_to_leave_out_is_needed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "qm9", 3)
    (tmp_path / "uncharacterized.txt").rename(tmp_path / "list.txt")
    with pytest.raises(ReadError, match=r"3,054 molecules to leave out; set uncharacterized="):
        open_file(folder, "qm9")
    assert len(open_file(folder, "qm9", uncharacterized=str(tmp_path / "list.txt"))) == 2
    (tmp_path / "list.txt").write_text("nothing\n")
    with pytest.raises(ReadError, match="lists no molecule"):
        open_file(folder, "qm9", uncharacterized=str(tmp_path / "list.txt"))


def test_splits(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "qm9", 102)
    sizes: dict[str, Any] = {"train_size": 80, "validation_size": 10}
    parts = [open_file(folder, "qm9", split=s, **sizes) for s in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [80, 10, 10]
    order = np.arange(100)
    np.random.RandomState(42).shuffle(order)
    whole = open_file(folder, "qm9")
    assert parts[1].identifier(0) == whole.identifier(int(order[80]))
    for division in ("standard", "jmp"):
        with pytest.raises(ReadError, match=r"100 records cannot be divided into .* 10000"):
            open_file(folder, "qm9", split="train", division=division)


def test_database_of_schnetpack(shared: Path, tmp_path: Path) -> None:
    file = open_file(shared / "data" / "test_qm9.db", "qm9")
    assert len(file) == 20
    check_methane(file[0])
    assert file[0].identifier == "test_qm9.db:1"
    water = file[2]
    assert water.formula == "H2O"
    assert water.targets["U0"] == pytest.approx(-76.404702 * HARTREE)
    with pytest.raises(ReadError, match="does not state the units of homo, energy_U0"):
        open_file(shared / "data" / "oxides.db", "qm9")
    short = tmp_path / "qm9.db"
    short.write_bytes((shared / "data" / "test_qm9.db").read_bytes()[:30000])
    with pytest.raises(ReadError, match=r"qm9\.db: .*damaged or truncated"):
        open_file(short, "qm9")


def geometric_molecule() -> dict[str, Any]:
    lines = [line.replace("*^", "e").split() for line in METHANE.splitlines()]
    raw = dict(
        zip("A B C mu alpha homo lumo gap r2 zpve U0 U H G Cv".split(), lines[1][2:], strict=True)
    )
    values = {name: float(value) for name, value in raw.items()}
    for name in ("homo", "lumo", "gap", "zpve", "U0", "U", "H", "G"):
        values[name] *= 27.211386246
    atomisation = {"U0": -395.999595, "U": -398.64329, "H": -401.014647, "G": -372.471772}
    values |= {f"{name}_atom": value * 0.04336414 for name, value in atomisation.items()}
    return {
        "z": np.array([6, 1, 1, 1, 1]),
        "pos": np.array([[float(word) for word in line[1:4]] for line in lines[2:7]]),
        "y": np.array([[values[name] for name in TARGETS]]),
    }


@pytest.mark.parametrize("save", [write_torch_archive, write_legacy_archive])
def test_list_of_pytorch_geometric(tmp_path: Path, save) -> None:
    one = geometric_molecule()
    entry = {
        "name": "gdb_1",
        "z": Tensor(one["z"], np.int64),
        "pos": Tensor(one["pos"]),
        "y": Tensor(one["y"]),
    }
    save(tmp_path / "qm9_v3.pt", [entry, {**entry}, entry])
    file = open_file(tmp_path / "qm9_v3.pt", "qm9")
    assert len(file) == 3
    check_methane(file[2])
    assert file[2].identifier == "qm9_v3.pt:2"
    data = (tmp_path / "qm9_v3.pt").read_bytes()
    (tmp_path / "short.pt").write_bytes(data[:-40])
    with pytest.raises(ReadError, match=r"short\.pt: (not a readable file|storage \d has)"):
        open_file(tmp_path / "short.pt", "qm9")


def test_concatenated_data_of_pytorch_geometric(tmp_path: Path) -> None:
    one = geometric_molecule()
    data = {
        "z": Tensor(np.tile(one["z"], 2), np.int64),
        "pos": Tensor(np.tile(one["pos"], (2, 1))),
        "y": Tensor(np.tile(one["y"], (2, 1))),
    }
    ends = {
        name: Tensor([0, step, 2 * step], np.int64)
        for name, step in (("z", 5), ("pos", 5), ("y", 1))
    }
    write_torch_archive(tmp_path / "data_v3.pt", (data, ends))
    file = open_file(tmp_path / "data_v3.pt", "qm9")
    assert len(file) == 2
    check_methane(file[1])


def test_damaged_and_foreign_files(tmp_path: Path, shared: Path) -> None:
    folder = write_folder(tmp_path / "qm9", 3)
    path = folder / "dsgdb9nsd_000003.xyz"
    path.write_text("".join(METHANE.splitlines(keepends=True)[:4]))
    with pytest.raises(ReadError, match=r"^dsgdb9nsd_000003\.xyz: not a file of QM9: expected"):
        read(folder, "qm9")
    with pytest.warns(SkippedRecordsWarning, match="1 of 2 records left out"):
        assert len(read(folder, "qm9", on_error="skip")) == 1
    path.write_text(METHANE.replace("C -0.0126", "Si -0.0126"))
    with pytest.raises(ReadError, match=r"atomic numbers \[14\]; QM9 has H, C, N, O and F only"):
        read(folder, "qm9")
    (folder / "other.xyz").write_text(METHANE)
    with pytest.raises(ReadError, match=r"other\.xyz is not named dsgdb9nsd_<number>\.xyz"):
        read(folder, "qm9")
    with pytest.raises(ReadError, match=r"hostile\.pt: refused: the data names"):
        read(shared / "data" / "hostile.pt", "qm9")
    write_torch_archive(tmp_path / "a.pt", {"weight": Tensor([1.0])})
    with pytest.raises(ReadError, match="neither a list of molecules nor"):
        read(tmp_path / "a.pt", "qm9")
    (tmp_path / "b.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:100])
    with pytest.raises(ReadError, match=r"not a readable file of torch\.save"):
        read(tmp_path / "b.pt", "qm9")
    (tmp_path / "qm9.csv").write_text("")
    with pytest.raises(ReadError, match=r"unpack dsgdb9nsd\.xyz\.tar\.bz2"):
        read(tmp_path / "qm9.csv", "qm9")
