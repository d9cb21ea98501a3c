"""Files that change while they are read: one error that says what changed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atomjax.structures.readers import ReadError, iterate, open_file, read
from atomjax.structures.readers.checks.file_state import unchanged
from tests.structures.readers.test_lmdb import graph, write_graphs
from tests.structures.readers.test_stated_units import molecules, spring
from tests.training.workflow import write_structures


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\n")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 10)


def rewrite(path: Path) -> None:
    """Other bytes, as many as before, at another time."""
    data = path.read_bytes()
    path.write_bytes(data[:-2] + b"1\n")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(0, path.stat().st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (append, r"had [\d,]+ bytes and has [\d,]+"),
        (cut, r"had [\d,]+ bytes and has [\d,]+"),
        (rewrite, r"was written to at \d{4}-\S+ \S+"),
        (replace, r"is another file of [\d,]+ bytes"),
        (Path.unlink, "is gone"),
    ],
)
def test_text_that_changes_is_told_at_the_end(
    tmp_path: Path, change: Callable[[Path], Any], said: str
) -> None:
    path = write_structures(tmp_path / "a.xyz", count=60)
    frames = iterate(path, energy_unit="eV")
    next(frames)
    change(path)
    with pytest.raises(ReadError, match=rf"a\.xyz changed while it was read: .*{said}; wait until"):
        list(frames)


def test_an_error_that_a_change_led_to_is_not_what_is_told(tmp_path: Path) -> None:
    path = write_structures(tmp_path / "a.xyz", count=60)
    frames = iterate(path, energy_unit="eV")
    next(frames)
    path.write_text("nothing of the kind\n" * 2000)
    with pytest.raises(ReadError, match=r"a\.xyz changed while it was read") as caught:
        list(frames)
    assert "frame" not in str(caught.value)
    # Without a change it is.
    with pytest.raises(ReadError, match="frame 0 should begin with its number of atoms"):
        read(path, energy_unit="eV")


def test_what_does_not_change_is_read_and_left_early(tmp_path: Path) -> None:
    path = write_structures(tmp_path / "a.xyz", count=6)
    assert len(read(path, energy_unit="eV")) == 6
    for _ in iterate(path, energy_unit="eV"):
        append(path)
        break


def make_hdf5(folder: Path) -> Path:
    return molecules(folder / "a.h5", spring(1.0), spring(1.0, np.linspace(0.5, 0.9, 200)))


def make_graphs(folder: Path) -> Path:
    return write_graphs(folder / "a.lmdb", [graph(i) for i in range(20)])


def make_npz(folder: Path) -> Path:
    path, rng = folder / "rmd17_water.npz", np.random.default_rng(0)
    positions = np.diag([1.0, 2.0, 3.0]) + rng.normal(scale=0.05, size=(60, 3, 3))
    arrays = {"coords": positions, "forces": positions, "energies": positions[:, 0, 0]}
    np.savez(path, nuclear_charges=[8, 1, 1], **arrays)
    return path


@pytest.mark.parametrize(
    ("make", "format_name"),
    [(make_hdf5, "comp6"), (make_graphs, "oc20"), (make_npz, "rmd17")],
)
def test_an_open_file_that_changes_is_told_at_the_next_record(
    tmp_path: Path, make: Callable[[Path], Path], format_name: str
) -> None:
    path = make(tmp_path)
    opened = open_file(path, format_name)
    assert opened[0] is not None
    append(path)
    with pytest.raises(ReadError, match=rf"{path.name} changed while it was read: .* bytes and"):
        _ = opened[1]


def test_a_folder_whose_files_change_is_told(tmp_path: Path) -> None:
    first = make_graphs(tmp_path)
    frames = iterate(tmp_path, "oc20")
    next(frames)
    (tmp_path / "b.lmdb").write_bytes(first.read_bytes())
    with pytest.raises(ReadError, match=r"changed while it was read: .*b\.lmdb is new"):
        list(frames)
    # Notes of other programs are no data.
    with unchanged(tmp_path):
        (tmp_path / ".lock").touch()
