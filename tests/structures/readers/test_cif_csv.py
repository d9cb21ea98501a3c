"""Tables of crystals as CIF text."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from atomjax.structures.readers import ReadError, open_file, read

CELL = np.array([[4.0, 0.0, 0.0], [0.5, 4.0, 0.0], [0.0, 0.0, 5.0]])


def cif(occupancy: float = 1.0) -> str:
    atoms = Atoms("NaCl", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.25]], cell=CELL, pbc=True)
    stream = io.BytesIO()
    write(stream, atoms, format="cif")
    return stream.getvalue().decode().replace("1.0000\n", f"{occupancy:.4f}\n")


def write_table(path: Path, crystals: list[str], columns: dict[str, list]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "cif", *columns])
        for i, text in enumerate(crystals):
            writer.writerow([i, text, *(values[i] for values in columns.values())])
    return path


def test_columns_of_numbers_are_targets(tmp_path: Path) -> None:
    columns = {"material_id": ["mp-1", "mp-2"], "formula": ["NaCl", "x"], "heat": [1.5, ""]}
    file = open_file(write_table(tmp_path / "salts.csv", [cif(), cif()], columns))
    assert len(file) == 2
    first, second = file
    assert first.identifier == "salts.csv:mp-1"
    assert (first.targets, second.targets) == ({"heat": 1.5}, {})
    assert first.pbc.all()
    assert first.atomic_numbers.tolist() == [11, 17]
    np.testing.assert_allclose(first.cell @ first.cell.T, CELL @ CELL.T, atol=1e-3)
    distance = np.linalg.norm(first.positions[1] - first.positions[0])
    assert distance == pytest.approx(np.linalg.norm([0.5, 0.5, 0.25] @ CELL), abs=1e-3)
    assert [s.targets for s in read(tmp_path / "salts.csv", targets=["heat"], on_error="skip")] == [
        {"heat": 1.5}
    ]


def test_bad_tables_are_explained(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", [cif(0.5), "nothing"], {"heat": [1.0, 2.0]})
    with pytest.raises(ReadError, match=r"a\.csv:0: sites of its CIF are occupied in part"):
        open_file(path)[0]
    with pytest.raises(
        ReadError, match=r"a\.csv:1: cannot be parsed \(AssertionError\); the record is damaged"
    ):
        open_file(path)[1]
    with pytest.raises(ReadError, match=r"no column 'crystal' .*its columns are: cif, heat"):
        open_file(path, cif_column="crystal")


def test_real_perovskites(shared: Path) -> None:
    file = open_file(shared / "data" / "perov_5_val.csv")
    assert len(file) == 3787
    first = file[0]
    assert first.formula == "CdCuN3"
    assert first.targets["heat_all"] == 2.76
    np.testing.assert_allclose(first.cell, 4.27928426 * np.eye(3), atol=1e-6)
