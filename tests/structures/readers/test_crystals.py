"""MatBench and QMOF."""

import copy
import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from atomjax.structures.readers import ReadError, SkippedRecordsWarning, open_file, read
from atomjax.structures.readers.matbench import fold_indices, stratified_fold_indices

CELL = np.array([[4.0, 0.0, 0.0], [1.0, 4.0, 0.0], [0.0, 0.0, 5.0]])


def pymatgen_structure(scale: float = 1.0) -> dict[str, Any]:
    sites = [
        {"species": [{"element": "Na", "occu": 1}], "abc": [0.0, 0.0, 0.0], "label": "Na"},
        {"species": [{"element": "Cl", "occu": 1.0}], "abc": [0.5, 0.5, 0.25], "label": "Cl"},
    ]
    lattice = {"matrix": (CELL * scale).tolist(), "a": 4.0}
    return {"@class": "Structure", "charge": None, "lattice": lattice, "sites": sites}


def write_task(path: Path, rows: list[list[Any]], columns: list[str]) -> Path:
    table = {"index": list(range(len(rows))), "columns": columns, "data": rows}
    path.write_bytes(gzip.compress(json.dumps(table).encode()))
    return path


@pytest.fixture
def phonons(tmp_path: Path) -> Path:
    rows = [[pymatgen_structure(1 + i / 100), 100.5 + i] for i in range(103)]
    path = tmp_path / "matbench_phonons.json.gz"
    return write_task(path, rows, ["structure", "last phdos peak"])


def test_matbench_crystals(phonons: Path) -> None:
    file = open_file(phonons)
    assert len(file) == 103
    structure = file[2]
    assert structure.targets == {"last phdos peak": 102.5}
    np.testing.assert_allclose(structure.cell, CELL * 1.02)
    np.testing.assert_allclose(structure.positions[1], np.array([2.5, 2.0, 1.25]) * 1.02)
    assert structure.atomic_numbers.tolist() == [11, 17]
    assert structure.pbc.all()
    assert structure.energy is None
    assert structure.identifier == "matbench_phonons.json.gz:2"
    assert structure.source == "matbench_phonons"
    assert copy.deepcopy(file)[2].targets == structure.targets


def test_folds_are_those_of_the_benchmark() -> None:
    # The first test records of each fold in results that the benchmark publishes, counted from 1
    # there: mb-dielectric-0008, mb-dielectric-0010, and so on.
    first = {0: [8, 10], 1: [3, 14], 2: [6, 7], 3: [1, 2], 4: [5, 13]}
    for fold, numbers in first.items():
        assert (fold_indices(4764, fold)[:2] + 1).tolist() == numbers
    steels = {0: [3, 5], 1: [4, 9], 2: [17, 19], 3: [2, 7], 4: [1, 6]}
    for fold, numbers in steels.items():
        assert (fold_indices(312, fold)[:2] + 1).tolist() == numbers
    assert [len(fold_indices(4764, fold)) for fold in range(5)] == [953, 953, 953, 953, 952]


def test_folds_of_classes_have_the_same_share_of_each(tmp_path: Path) -> None:
    metals = [i * i % 7 < 3 for i in range(40)]
    # Of scikit-learn 1.9.1: StratifiedKFold(5, shuffle=True, random_state=18012019).
    expected = {0: [2, 5, 13, 15, 17, 18, 20, 36], 4: [0, 3, 7, 12, 22, 25, 26, 30]}
    path = tmp_path / "matbench_mp_is_metal.json.gz"
    rows = [[pymatgen_structure(1 + i / 100), metal] for i, metal in enumerate(metals)]
    write_task(path, rows, ["structure", "is_metal"])
    for fold, records in expected.items():
        assert stratified_fold_indices(metals, fold).tolist() == records
        test = open_file(path, "matbench", split="test", fold=fold, classes=["is_metal"])
        assert [test.identifier(i) for i in range(8)] == [f"{path.name}:{i}" for i in records]
        assert [one.targets["is_metal"] for one in test] == [float(metals[i]) for i in records]


@pytest.mark.parametrize("fold", [0, 4])
def test_matbench_splits(phonons: Path, fold: int) -> None:
    parts = [
        open_file(phonons, "matbench", split=name, fold=fold)
        for name in ("train", "validation", "test")
    ]
    names = [{part.identifier(i) for i in range(len(part))} for part in parts]
    assert len(set.union(*names)) == sum(map(len, names)) == 103
    assert names[2] == {f"matbench_phonons.json.gz:{i}" for i in fold_indices(103, fold)}
    assert len(parts[0]) == int(0.9 * (103 - len(parts[2])))
    with pytest.raises(ReadError, match="fold=5: MatBench has the folds 0 to 4"):
        open_file(phonons, fold=5)


def test_damaged_matbench_files(phonons: Path, tmp_path: Path) -> None:
    data = phonons.read_bytes()
    phonons.write_bytes(data[:-50])
    with pytest.raises(ReadError, match="cannot be decompressed"):
        open_file(phonons)
    text = gzip.decompress(data)
    for end in (len(text) - 1, len(text) - 2, len(text) // 2):
        phonons.write_bytes(gzip.compress(text[:end]))
        with pytest.raises(ReadError, match="not JSON, or cut short"):
            open_file(phonons)
    shared_site = pymatgen_structure()
    shared_site["sites"][0]["species"] = [{"element": "Na", "occu": 0.5}]
    rows = [
        [pymatgen_structure(), 1.0],
        [shared_site, 1.0],
        [{}, 1.0],
        [pymatgen_structure(), None],
    ]
    bad = write_task(tmp_path / "bad.json.gz", rows, ["structure", "n"])
    for index, message in [
        (1, r"^bad\.json\.gz:1: site 0 is partly occupied"),
        (2, r"^bad\.json\.gz:2: no structure of pymatgen: lacks 'lattice'"),
        (3, r"^bad\.json\.gz:3: n is None, expected a number"),
    ]:
        with pytest.raises(ReadError, match=message):
            open_file(bad)[index]
    with pytest.warns(SkippedRecordsWarning, match="3 of 4 records left out"):
        assert len(read(bad, on_error="skip")) == 1
    steels = write_task(tmp_path / "steels.json.gz", [["Fe", 1.0]], ["composition", "yield"])
    with pytest.raises(ReadError, match="tasks on compositions have no structures"):
        open_file(steels)
    mixed = [[pymatgen_structure(), True], [pymatgen_structure(), 1.0]]
    for rows, expected in ((mixed, "m is 1.0, expected a truth"), (mixed[::-1], "m is True, ")):
        metal = write_task(tmp_path / "m.json.gz", rows, ["structure", "m"])
        with pytest.raises(ReadError, match=expected):
            read(metal)
    (tmp_path / "list.json.gz").write_bytes(gzip.compress(b"[1, 2]"))
    with pytest.raises(ReadError, match="is no JSON object with an array 'data'"):
        read(tmp_path / "list.json.gz")


def write_qmof(folder: Path, count: int, as_cif: bool) -> Path:
    folder.mkdir()
    names = [f"qmof-{i:07x}" for i in range(count)]
    with (folder / "qmof.csv").open("w", newline="") as file:
        columns = ["qmof_id", "name", "outputs.pbe.energy_total", "outputs.pbe.bandgap"]
        writer = csv.writer(file)
        writer.writerow(columns)
        for i, name in enumerate(names):
            writer.writerow([name, f"MOF, {i}", -500.25 - i, 0.5 + i])
    if as_cif:
        (folder / "relaxed_structures").mkdir()
        atoms = Atoms("NaCl", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.25]], cell=CELL, pbc=True)
        for name in names:
            write(folder / "relaxed_structures" / f"{name}.cif", atoms)
    else:
        entries = [{"qmof_id": name, "structure": pymatgen_structure()} for name in names[::-1]]
        (folder / "qmof_structure_data.json").write_text(json.dumps(entries))
    return folder


@pytest.mark.parametrize("as_cif", [True, False])
def test_qmof(tmp_path: Path, as_cif: bool) -> None:
    folder = write_qmof(tmp_path / "qmof_database", 4, as_cif)
    file = open_file(folder, "qmof")
    assert len(file) == 4
    structure = file[3]
    assert structure.identifier == "qmof-0000003"
    assert structure.targets == {"band_gap": 3.5, "energy_total": -503.25}
    assert structure.formula == "ClNa"
    distances = np.linalg.norm(structure.positions[1] - structure.positions[0])
    assert distances == pytest.approx(np.linalg.norm([2.5, 2.0, 1.25]), abs=1e-5)
    assert abs(np.linalg.det(structure.cell)) == pytest.approx(80.0, abs=1e-5)
    assert structure.pbc.all()
    assert open_file(folder / "qmof.csv", "qmof")[0].targets["band_gap"] == 0.5


def test_qmof_splits(tmp_path: Path) -> None:
    folder = write_qmof(tmp_path / "qmof_database", 25, as_cif=False)
    order = np.arange(25)
    np.random.RandomState(42).shuffle(order)
    options: dict[str, Any]
    for options, sizes in [({"train_size": 10}, [10, 7, 8]), ({"division": "jmp"}, [20, 3, 2])]:
        parts = [open_file(folder, "qmof", split=s, **options) for s in ("train", "val", "test")]
        assert [len(part) for part in parts] == sizes
        assert parts[0].identifier(0) == f"qmof-{order[0]:07x}"
        assert parts[2].identifier(0) == f"qmof-{order[sum(sizes[:2])]:07x}"
    with pytest.raises(ReadError, match="25 records cannot be divided into train 10000"):
        open_file(folder, "qmof", split="train")


def test_damaged_qmof(tmp_path: Path) -> None:
    folder = write_qmof(tmp_path / "qmof_database", 3, as_cif=True)
    (folder / "relaxed_structures" / "qmof-0000001.cif").write_text("data_image0\n_cell_length_a")
    (folder / "relaxed_structures" / "qmof-0000002.cif").unlink()
    file = open_file(folder, "qmof")
    with pytest.raises(ReadError, match=r"^qmof-0000001: relaxed_structures/qmof-0000001.cif: "):
        file[1]
    with pytest.raises(ReadError, match=r"^qmof-0000002: relaxed_\S+0002.cif: there is no such"):
        file[2]
    with pytest.warns(SkippedRecordsWarning, match="2 of 3 records left out"):
        assert len(read(folder, "qmof", on_error="skip")) == 1
    (folder / "relaxed_structures").rename(tmp_path / "elsewhere")
    with pytest.raises(ReadError, match=r"neither the folder relaxed_structures \(unpack"):
        open_file(folder, "qmof")
    (folder / "qmof.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ReadError, match=r"no column qmof_id, outputs\.pbe\.bandgap; its columns"):
        open_file(folder, "qmof")
    (folder / "qmof.csv").unlink()
    with pytest.raises(ReadError, match="give the folder qmof_database, or its qmof"):
        open_file(folder, "qmof")
