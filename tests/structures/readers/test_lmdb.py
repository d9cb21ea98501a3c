"""OC20 and OC22 as LMDB files of pickled graphs, and fairchem's databases."""

import json
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from ase.io.jsonio import encode

from atomjax.structures.readers import ReadError, SkippedRecordsWarning, open_file, read
from tests.safe_pickle.torch_pickles import pyg_pickle
from tests.structures.readers.checks import forces_of

SLAB = {"bulk_mpid": "mp-1", "bulk_symbols": "Si2Ti2", "ads_symbols": "*N2", "ads_id": 69}
CUT = {"miller_index": (2, 0, 1), "shift": 0.145, "top": True, "class": 1, "anomaly": 0}


def graph(sid: int, fid: int = 0, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "pos": np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 3.0], [0.0, 0.0, 4.1]]),
        "atomic_numbers": np.array([22.0, 7.0, 7.0]),
        "cell": np.diag([3.0, 3.0, 12.0])[None],
        "tags": np.array([0.0, 2.0, 2.0]),
        "fixed": np.array([1.0, 0.0, 0.0]),
        "force": np.full((3, 3), 0.25),
        "y": -1.5,
        "natoms": 3,
        "sid": sid,
        "fid": fid,
    }
    return {k: v for k, v in {**fields, **changes}.items() if v is not None}


def write_lmdb(path: Path, entries: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    environment = lmdb.open(str(path), subdir=False, map_size=2**24, lock=False)
    with environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key.encode(), value)
    return path


def write_graphs(path: Path, graphs: list[dict[str, Any]], version: int = 2) -> Path:
    entries = {str(i): pyg_pickle(fields, version) for i, fields in enumerate(graphs)}
    return write_lmdb(path, {**entries, "length": pickle.dumps(len(graphs))})


@pytest.mark.parametrize("version", [1, 2])
def test_real_graphs_of_both_layouts(shared: Path, version: int) -> None:
    expected = np.load(shared / "data" / "oc20_lmdb_expected.npz")
    file = open_file(shared / "data" / f"oc20_pyg{version}.lmdb")
    assert len(file) == 21
    for i, structure in enumerate(file):
        assert structure.energy == pytest.approx(float(expected[f"{i}/energy"]), abs=1e-9)
        np.testing.assert_allclose(structure.positions, expected[f"{i}/pos"], atol=2e-6)
        np.testing.assert_allclose(forces_of(structure), expected[f"{i}/forces"], atol=2e-6)
        np.testing.assert_allclose(structure.cell, expected[f"{i}/cell"], atol=2e-6)
        np.testing.assert_array_equal(structure.atomic_numbers, expected[f"{i}/numbers"])
        np.testing.assert_array_equal(structure.tags, expected[f"{i}/tags"])
        assert structure.pbc.all()
        assert structure.fixed.sum() == 18
    assert file[3].identifier == f"oc20_pyg{version}.lmdb:3:sid7:fid15"
    assert file[3].class_key == "sid7"


def test_hostile_records_are_refused_and_leave_nothing(shared, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ReadError, match=r"^hostile\.lmdb:0: refused: .*'posix\.system'"):
        read(shared / "data" / "hostile.lmdb")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", [1, 2])
def test_shards_are_numbered_through(tmp_path: Path, version: int) -> None:
    write_graphs(tmp_path / "train" / "data.0000.lmdb", [graph(5), graph(6)], version)
    write_graphs(tmp_path / "train" / "data.0001.lmdb", [graph(5, 9)], version)
    write_graphs(tmp_path / "val_id" / "data.0000.lmdb", [graph(8)], version)
    structures = read(tmp_path, "oc20", split="train")
    assert [s.identifier for s in structures] == [
        "data.0000.lmdb:0:sid5:fid0",
        "data.0000.lmdb:1:sid6:fid0",
        "data.0001.lmdb:0:sid5:fid9",
    ]
    assert [s.class_key for s in structures] == ["sid5", "sid6", "sid5"]
    first = structures[0]
    assert first.energy == -1.5
    assert first.tags.tolist() == [0, 2, 2]
    assert first.fixed.tolist() == [True, False, False]
    assert first.atomic_numbers.tolist() == [22, 7, 7]
    assert len(open_file(tmp_path, "oc20", split="validation")) == 1
    with pytest.raises(ReadError, match=r"no split 'val_ood'.*there are: train, val_id"):
        open_file(tmp_path, "oc20", split="val_ood")
    with pytest.raises(ReadError, match=r"no file \*\.lmdb; give the folder of one split"):
        open_file(tmp_path, "oc20")


def test_classes_come_from_the_official_mapping(tmp_path: Path) -> None:
    path = write_graphs(tmp_path / "a.lmdb", [graph(5), graph(6), graph(7), graph(8)])
    mapping = tmp_path / "oc20_data_mapping.pkl"
    systems = {
        "random5": {**SLAB, **CUT, "adsorption_site": ((4.5, 12.8, 16.1),)},
        "random6": {**SLAB, **CUT, "adsorption_site": ((0.0, 0.0, 16.1),)},
        "random7": {**SLAB, **CUT, "shift": 0.3, "adsorption_site": ()},
    }
    mapping.write_bytes(pickle.dumps(systems))
    structures = open_file(path, mapping=str(mapping))
    assert structures[0].class_key == "Si2Ti2|mp-1|2,0,1|0.145|top|*N2"
    assert structures[1].class_key == structures[0].class_key
    assert structures[2].class_key != structures[0].class_key
    assert open_file(path, mapping=str(mapping), class_by="bulk")[2].class_key == "Si2Ti2"
    with pytest.raises(ReadError, match=r"a\.lmdb:3: the system sid=8 is not in the mapping"):
        structures[3]
    with pytest.raises(ReadError, match="class_by='bulk' needs mapping="):
        open_file(path, class_by="bulk")
    with pytest.raises(ReadError, match=r"none\.pkl: no such file"):
        open_file(path, mapping=str(tmp_path / "none.pkl"))
    mapping.write_bytes(b"cposix\nsystem\n.")
    with pytest.raises(ReadError, match=r"refused: the data names 'posix\.system'"):
        open_file(path, mapping=str(mapping))


def test_oc22_has_total_energies_and_its_own_mapping(tmp_path: Path) -> None:
    path = write_graphs(tmp_path / "a.lmdb", [graph(6877, nads=1, oc22=1)], 1)
    entry = {
        "bulk_id": "mp-559112",
        "miller_index": (1, 0, 0),
        "bulk_symbols": "K4O14",
        "ads_symbols": "O2",
    }
    (tmp_path / "oc22_metadata.pkl").write_bytes(pickle.dumps({6877: entry}))
    (structure,) = read(path, "oc22", mapping=str(tmp_path / "oc22_metadata.pkl"))
    assert structure.class_key == "K4O14|mp-559112|1,0,0|O2"
    assert structure.energy == -1.5
    with pytest.raises(ReadError, match="OC22 has total energies only; write 'total'"):
        open_file(path, "oc22", energy_kind="adsorption")


def test_oc20_energies_become_total_with_the_reference_file(tmp_path: Path) -> None:
    path = write_graphs(tmp_path / "a.lmdb", [graph(5), graph(6, y=np.array([-2.0]))])
    reference = tmp_path / "oc20_ref.pkl"
    reference.write_bytes(pickle.dumps({"random5": -100.25, "random6": np.float64(-50.0)}))
    structures = read(path, energy_kind="total", reference_energies=str(reference))
    assert [s.energy for s in structures] == [-101.75, -52.0]
    with pytest.raises(ReadError, match=r"needs reference_energies=, the path of oc20_ref.pkl"):
        read(path, energy_kind="total")


def test_graphs_without_a_cell_are_molecules(tmp_path: Path) -> None:
    fields = graph(3, cell=None, tags=None, pbc=np.zeros(3), fixed=None)
    (structure,) = read(write_graphs(tmp_path / "ani.lmdb", [fields], 1), "oc22")
    assert not structure.pbc.any()
    assert structure.tags.tolist() == [2, 2, 2]
    assert not structure.fixed.any()


def test_new_names_and_records_without_labels(tmp_path: Path) -> None:
    renamed = graph(1, y=None, force=None, energy=-3.0, forces=np.ones((3, 3)))
    path = write_graphs(tmp_path / "a.lmdb", [renamed, graph(2, y=None, force=None)])
    labelled, bare = read(path)
    assert labelled.energy == -3.0
    assert forces_of(labelled)[0, 0] == 1.0
    assert (bare.energy, bare.forces) == (None, None)
    with pytest.raises(ReadError, match=r"no field 'y'; this graph has: atomic_numbers, cell"):
        read(path, energy_key="y")


def test_damaged_records_are_named_and_counted(tmp_path: Path) -> None:
    good = pyg_pickle(graph(1), 2)
    entries = {
        "0": good,
        "1": good[: len(good) // 2],
        "2": pyg_pickle(graph(2, y=float("nan")), 2),
        "3": pickle.dumps({"pos": 1}),
        "4": pyg_pickle(graph(2, pos=None), 1),
        "length": pickle.dumps(6),
    }
    path = write_lmdb(tmp_path / "a.lmdb", entries)
    file = open_file(path)
    for index, message in [
        (1, r"^a\.lmdb:1: damaged pickled data"),
        (2, r"^a\.lmdb:2: energy: is nan"),
        (3, r"^a\.lmdb:3: not a graph of PyTorch Geometric but dict"),
        (4, r"^a\.lmdb:4: no pos; this graph has: atomic_numbers"),
        (5, r"^a\.lmdb:5: no entry under the key '5'; entries are missing"),
    ]:
        with pytest.raises(ReadError, match=message):
            file[index]
    with pytest.warns(SkippedRecordsWarning, match="5 of 6 records left out"):
        assert len(read(path, on_error="skip")) == 1


def test_damaged_files_are_refused_without_touching_missing_pages(tmp_path: Path) -> None:
    path = write_graphs(tmp_path / "a.lmdb", [graph(1)] * 20)
    data = path.read_bytes()
    for size in (0, 100, len(data) // 2, len(data) - 1):
        short = tmp_path / f"short{size}.lmdb"
        short.write_bytes(data[:size])
        with pytest.raises(ReadError, match="damaged or truncated, copy it again"):
            open_file(short)
    wrong = write_lmdb(tmp_path / "wrong.lmdb", {"length": pickle.dumps(7)})
    with pytest.raises(ReadError, match="the entry 'length' is 7, the file has 1 entries"):
        open_file(wrong)


def test_a_file_can_be_opened_twice_and_by_a_forked_child(tmp_path: Path) -> None:
    path = write_graphs(tmp_path / "a.lmdb", [graph(1), graph(2)])
    first, second = open_file(path), open_file(path)
    assert first[1].identifier == second[1].identifier
    child = os.fork()
    if child == 0:
        os._exit(0 if first[0].energy == -1.5 else 1)
    assert os.waitpid(child, 0)[1] == 0


def ase_row(atoms: Atoms, energy: float, newer: bool, forces: np.ndarray | None = None) -> bytes:
    row: dict[str, Any] = {
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "tags": atoms.get_tags(),
        "energy": energy,
        "forces": np.full((len(atoms), 3), 0.5) if forces is None else forces,
        "unique_id": "0" * 32,
        "calculator": "unknown",
        "calculator_parameters": {},
        "ctime": 0.0,
        "mtime": 0.0,
        "user": "someone",
        "constraints": [c.todict() for c in atoms.constraints],
        "key_value_pairs": {"source": "x", "gap": 1.5},
        "data": {},
    }
    if newer:
        return zlib.compress(encode(row).encode())
    return zlib.compress(json.dumps(row, default=lambda value: value.tolist()).encode())


@pytest.mark.parametrize("newer", [False, True])
def test_aselmdb_rows(tmp_path: Path, newer: bool) -> None:
    atoms = Atoms("CuHO", positions=[[0, 0, 0], [0, 0, 1.6], [0, 1.2, 2.2]], cell=[5, 5, 9], pbc=1)
    atoms.set_tags([1, 2, 2])
    atoms.set_constraint(FixAtoms([0]))
    number = lambda value: zlib.compress(json.dumps(value).encode())  # noqa: E731
    rows = {str(i): ase_row(atoms, -float(i), newer) for i in (1, 2, 4)}
    entries = {**rows, "nextid": number(5), "deleted_ids": number([3]), "metadata": number({})}
    write_lmdb(tmp_path / "train" / "data.0000.aselmdb", entries)
    write_lmdb(tmp_path / "train" / "data.0001.aselmdb", {"1": rows["1"], "nextid": number(2)})
    structures = read(tmp_path, "aselmdb", split="train")
    assert [s.energy for s in structures] == [-1.0, -2.0, -4.0, -1.0]
    assert structures[2].identifier == "data.0000.aselmdb:4"
    assert structures[0].fixed.tolist() == [True, False, False]
    assert structures[0].tags.tolist() == [1, 2, 2]
    assert structures[0].targets == {"gap": 1.5}
    assert forces_of(structures[0])[0, 0] == 0.5
    (one,) = read(tmp_path / "train" / "data.0001.aselmdb", energy_unit="Ha")
    assert one.energy == pytest.approx(-27.211386245981)


def test_damaged_aselmdb(tmp_path: Path) -> None:
    number = zlib.compress(b"3")
    path = write_lmdb(tmp_path / "a.aselmdb", {"1": b"junk", "2": number, "nextid": number})
    with pytest.raises(ReadError, match=r"a\.aselmdb:1: .*'1' is not compressed JSON"):
        open_file(path)[0]
    with pytest.raises(ReadError, match=r"a\.aselmdb:2: no row under this id"):
        open_file(path)[1]
    row = zlib.compress(json.dumps({"numbers": [29.5], "positions": [[0, 0, 0]]}).encode())
    half = write_lmdb(tmp_path / "c.aselmdb", {"1": row, "nextid": zlib.compress(b"2")})
    with pytest.raises(ReadError, match=r"c\.aselmdb:1: numbers: \[29\.5\] are no atomic numbers"):
        open_file(half)[0]
    other = write_lmdb(tmp_path / "b.aselmdb", {"1": number, "nextid": zlib.compress(b"9")})
    with pytest.raises(ReadError, match="1 rows, but ids for 8 of them"):
        open_file(other)
