"""A full, read-only or vanished disk: one error that names the file, nothing half-written."""

import argparse
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from atomjax.command.launch import EXIT_FAILED, explain
from atomjax.runtime.files import read_json, replacing, replacing_folder, write_json, write_npz
from atomjax.runtime.run import Run
from atomjax.structures.convert import main as convert
from atomjax.training.running.checkpoint import CheckpointError, Checkpoints, read_metadata
from tests.training.test_checkpoint import METADATA, make_state, shifted
from tests.training.test_resume import leaves
from tests.training.workflow import run_here, write_structures

FULL = r"No space left on device: '.*{name}'"


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 64 KiB, or of the size that a test asks for."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = f"size={getattr(request, 'param', '64k')}"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
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


@pytest.mark.parametrize("disk", ["2m"], indirect=True)
@pytest.mark.parametrize("foreseen", [True, False])
def test_a_checkpoint_is_whole_or_the_one_before_stays(
    disk: Path, foreseen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not foreseen:
        monkeypatch.setattr("atomjax.training.running.checkpoint._check_space", lambda *_: None)
    checkpoints, state = Checkpoints(disk / "checkpoints"), make_state()
    checkpoints.save_latest(state, {**METADATA, "step": 1})
    step, said = 1, []
    for left in range(0, 60, 12):
        fill(disk, left)
        try:
            checkpoints.save_latest(shifted(state), {**METADATA, "step": left + 2})
            step = left + 2
        except CheckpointError as error:
            said.append(str(error))
        (disk / "filled").unlink()
        assert checkpoints.latest_step == step
        restored, metadata = checkpoints.restore(state)
        assert metadata["step"] == step
        wanted = state if step == 1 else shifted(state)
        jax.tree.map(np.testing.assert_array_equal, restored, wanted)
        held = [path.name for path in (disk / "checkpoints/latest").iterdir()]
        assert held == [str(step)] or not foreseen
    assert len(said) >= 2
    assert step > 2
    for text in said:
        assert re.search(r"latest/\d+ cannot be written \(.*No space left on device.*\); ", text)
        assert "the checkpoint before it stays, and the same command goes on" in text
    checkpoints.close()
    reopened = Checkpoints(disk / "checkpoints")
    assert reopened.restore(state)[1]["step"] == step
    assert [path.name for path in (disk / "checkpoints/latest").iterdir()] == [str(step)]
    reopened.close()


@pytest.mark.slow
@pytest.mark.parametrize("disk", ["3m"], indirect=True)
def test_a_training_on_a_full_disk_goes_on_when_there_is_room(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    structures = write_structures(tmp_path / "chains.xyz", count=24)
    changes = {"epochs": 2, "checkpoint_every": 1, "eval_every": 10, "scale_factor_batches": 1}
    unbroken = run_here(tmp_path / "unbroken", structures, **changes)
    save = Checkpoints.save_latest

    def save_on_a_full_disk(self: Checkpoints, state: Any, metadata: Any) -> None:
        if metadata["step"] == 2:
            fill(disk, left=8)
        save(self, state, metadata)

    monkeypatch.setattr(Checkpoints, "save_latest", save_on_a_full_disk)
    with pytest.raises(CheckpointError, match=r"latest/2 cannot be written .*No space left on dev"):
        run_here(disk / "run", structures, **changes)
    monkeypatch.setattr(Checkpoints, "save_latest", save)
    (disk / "filled").unlink()
    assert read_metadata(disk / "run", "latest")["step"] == 1
    resumed = run_here(disk / "run", structures, **changes)
    assert resumed["steps"] == unbroken["steps"] > 2
    for which in ("latest", "best"):
        for a, b in zip(
            leaves(tmp_path / "unbroken", which), leaves(disk / "run", which), strict=True
        ):
            np.testing.assert_array_equal(a, b)


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
