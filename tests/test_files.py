"""Files of this project's own formats: one flipped bit is found when they are read."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from atomjax.runtime.files import (
    CHECKSUMS,
    DamagedFile,
    append_checksum,
    compare_checksums,
    map_npy,
    read_json,
    read_npz,
    replacing,
    replacing_folder,
    temporary_folder,
    write_checksums,
    write_json,
    write_npz,
)
from atomjax.runtime.lock import process_name

ROOT = Path(__file__).resolve().parents[1]
DATA = {"name": "é", "values": [1.5, None, True], "deep": {"a": {}}}
ARRAYS = {"x": np.arange(7.0), "text": np.array("ü"), "empty": np.zeros((0, 3), np.float32)}


def write_npy(path: Path, array: np.ndarray) -> None:
    with replacing(path) as file:
        np.save(file, array, allow_pickle=False)
        append_checksum(file)


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and np.array_equal(first[name], second[name])
        for name in first
    )


FORMATS = {
    "a.json": (lambda path: write_json(path, DATA), read_json, lambda x: x == DATA),
    "a.npz": (lambda path: write_npz(path, ARRAYS), read_npz, lambda x: same(x, ARRAYS)),
    "b.npz": (
        lambda path: write_npz(path, ARRAYS, compressed=True),
        read_npz,
        lambda x: same(x, ARRAYS),
    ),
    "a.npy": (
        lambda path: write_npy(path, ARRAYS["x"]),
        map_npy,
        lambda x: np.array_equal(x, ARRAYS["x"]),
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_any_flipped_bit_is_found_or_harmless(name: str, tmp_path: Path) -> None:
    write, read, right = FORMATS[name]
    path = tmp_path / name
    write(path)
    assert right(read(path, "make it again"))
    whole = path.read_bytes()
    found = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        message = ""
        try:
            assert right(read(path, "make it again")), place
        except DamagedFile as error:
            message = str(error)
        if message:
            assert str(path) in message
            assert message.endswith("; make it again")
            found += 1
    assert found > 0.95 * len(whole)


@pytest.mark.parametrize("name", FORMATS)
def test_a_cut_or_overwritten_end_is_found(name: str, tmp_path: Path) -> None:
    write, read, right = FORMATS[name]
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()
    for length in (*range(0, len(whole), 29), *range(len(whole) - 25, len(whole))):
        for end in (b"", bytes(len(whole) - length)):
            path.write_bytes(whole[:length] + end)
            # Without its checksum alone, it is as a file of before, whole.
            context = pytest.raises(DamagedFile, match="make it again")
            if length > len(whole) - 20:
                context = contextlib.suppress(DamagedFile)
            with context:
                assert right(read(path, "make it again"))


def test_files_of_before_have_no_checksum_and_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(DATA))
    (tmp_path / "list.json").write_text("[1, 2]")
    np.savez(tmp_path / "a.npz", **ARRAYS)
    np.save(tmp_path / "a.npy", ARRAYS["x"])
    assert read_json(tmp_path / "a.json", "") == DATA
    assert read_json(tmp_path / "list.json", "") == [1, 2]
    assert same(read_npz(tmp_path / "a.npz", ""), ARRAYS)
    np.testing.assert_array_equal(map_npy(tmp_path / "a.npy", ""), ARRAYS["x"])


def test_other_software_reads_the_files(tmp_path: Path) -> None:
    for name, (write, _, _) in FORMATS.items():
        write(tmp_path / name)
    content = json.loads((tmp_path / "a.json").read_text())
    assert content.pop("checksum").startswith("crc32:")
    assert content == DATA
    with np.load(tmp_path / "b.npz") as arrays:
        assert same(dict(arrays), ARRAYS)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), ARRAYS["x"])


def test_the_files_of_a_folder_are_compared(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"one")
    (tmp_path / "b" / "two").write_bytes(b"two")
    compare_checksums(tmp_path, "of before")
    write_checksums(tmp_path)
    compare_checksums(tmp_path, "")
    (tmp_path / "b" / "two").write_bytes(b"tvo")
    compare_checksums(tmp_path, "", within="a")
    with pytest.raises(DamagedFile, match=r"two is damaged: .*checksum; copy it again"):
        compare_checksums(tmp_path, "copy it again")
    (tmp_path / "a" / "one").unlink()
    with pytest.raises(DamagedFile, match=r"a/one is missing; copy it again"):
        compare_checksums(tmp_path, "copy it again", within="a")
    (tmp_path / CHECKSUMS).write_text('{"files": {}, "checksum": "crc32:00000000"\n}\n')
    with pytest.raises(DamagedFile, match=r"checksums.json is damaged"):
        compare_checksums(tmp_path, "copy it again")


def test_temporary_folders_of_killed_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import os; from atomjax.runtime.files import temporary_folder as t\nwith t(): os._exit(9)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=False)
    (left,) = tmp_path.iterdir()
    with temporary_folder() as mine, temporary_folder() as other:
        assert {mine, other} == set(tmp_path.iterdir())
        assert left not in (mine, other)
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "from atomjax.runtime.lock import process_name as n; print(n())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    kept = [f".a.json.{process_name()}x.part", ".a.json.elsewhere-1.part", f".b.json.{ended}.part"]
    for name in (*kept, f".a.json.{ended}.part"):
        (tmp_path / name).write_text("half")
    for word in ("new", "old"):
        (tmp_path / f".folder.{ended}.{word}").mkdir()
        (tmp_path / f".folder.{ended}.{word}" / "half").touch()
    write_json(tmp_path / "a.json", DATA)
    with replacing_folder(tmp_path / "folder") as new:
        new.mkdir()
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "a.json", "folder"}
