"""A full, read-only or vanished disk: one error that names the file, nothing half-written."""

import argparse
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from atomjax.launch import EXIT_FAILED, explain
from atomjax.runtime.files import read_json, replacing, replacing_folder, write_json, write_npz
from atomjax.runtime.run import Run
from atomjax.structures.convert import main as convert
from tests.training.workflow import write_structures

FULL = r"No space left on device: '.*{name}'"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no file systems can be mounted here: {error}")
    if done.returncode:
        pytest.skip(f"no file systems can be mounted here: {done.stderr.strip()}")
    yield folder
    # Lazily: a test that failed may have left a file open.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_named_and_keeps_what_was_there(disk: Path) -> None:
    write_json(disk / "a.json", {"value": 1})
    with pytest.raises(OSError, match=FULL.format(name="a.json")):
        write_json(disk / "a.json", {"value": "x" * 100_000})
    with pytest.raises(OSError, match=FULL.format(name="b.npz")):
        write_npz(disk / "b.npz", {"x": np.arange(100_000)})
    with (
        pytest.raises(OSError, match=FULL.format(name=r"x\.npy")),
        replacing_folder(disk / "c") as new,
        replacing(new / "x.npy") as file,
    ):
        file.write(bytes(100_000))
    assert [path.name for path in disk.iterdir()] == ["a.json"]
    assert read_json(disk / "a.json", "") == {"value": 1}


def test_metrics_on_a_full_disk(disk: Path) -> None:
    run = Run(disk / "run")
    run.log(1, {"loss": 1.0})
    fill(disk, left=0)

    def log_many() -> None:
        for step in range(2, 400):
            run.log(step, {"loss": 1.0})

    # Neither hangs nor loses what was logged before.
    with pytest.raises(OSError, match=FULL.format(name=r"(metrics\.jsonl|tensorboard)")):
        log_many()
    whole = run.metrics()
    assert [record["step"] for record in whole] == list(range(1, len(whole) + 1))
    (disk / "filled").unlink()
    again = Run(disk / "run")
    again.log(1000, {"loss": 1.0})
    assert again.metrics() == [*whole, {"step": 1000, "loss": 1.0}]
    again.close()


def fill(folder: Path, left: int) -> None:
    """Fills a file system but for so many blocks."""
    (folder / "filled").write_bytes(bytes(4096 * (os.statvfs(folder).f_bavail - left)))


def test_conversion_on_a_full_disk_goes_on_when_there_is_room(
    disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chains = write_structures(tmp_path / "chains.xyz", count=12)
    units = ["--option", "energy_unit=eV", "--option", "length_unit=Å", "--energy-kind", "total"]
    command = ["--source", "extxyz", "--path", str(chains), *units, "--out", str(disk / "store")]
    fill(disk, left=1)
    with pytest.raises(SystemExit) as ended:
        convert(command)
    assert ended.value.code not in (0, None)
    said = str(ended.value.code) + capsys.readouterr().err
    assert "No space left on device" in said
    assert str(disk / "store") in said
    assert "Traceback" not in said
    (disk / "filled").unlink()
    convert(command)
    convert(["--verify", "--out", str(disk / "store")])


def test_an_error_is_said_where_its_traceback_cannot_be_kept(
    disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    options = argparse.Namespace(debug=False, workdir=disk)
    with pytest.raises(OSError, match=r"Read-only file system: '.*a\.json") as caught:
        write_json(disk / "a.json", {})
    assert explain(caught.value, EXIT_FAILED, options) == EXIT_FAILED
    said = capsys.readouterr().err
    assert said.startswith("error: [Errno 30] Read-only file system")
    assert "--debug shows the traceback" in said


def test_a_vanished_folder_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")

    def write() -> None:
        with replacing(run.path("results.json")) as file:
            file.write(b"{}")
            for path in run.workdir.iterdir():
                path.unlink()
            run.workdir.rmdir()

    with pytest.raises(FileNotFoundError, match=r"results\.json"):
        write()
