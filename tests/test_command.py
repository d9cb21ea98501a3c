"""The console command: every word has help with an example and does what it says."""

import csv
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import atomjax
from atomjax.command import functions
from atomjax.command.__main__ import COMMANDS, main
from atomjax.command.doctor import missing_extras
from atomjax.command.labels import LABELS
from atomjax.data.given import LABEL_OPTIONS
from atomjax.runtime.files import read_npz
from atomjax.structures.readers import read
from tests.own_files import SMALL, write_files

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    write_files(folder)
    return folder


@pytest.fixture
def inside(folder, monkeypatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def changes(settings: dict) -> list[str]:
    return [f"--config.{key}={value}" for key, value in settings.items()]


@pytest.mark.parametrize("word", COMMANDS)
def test_help_gives_an_example(word: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main([word, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert COMMANDS[word].example.splitlines()[0] in text
    assert "--help" in text


def test_the_command_is_installed_and_lists_its_words() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"atomjax": "atomjax.command.__main__:main"}
    program = [sys.executable, "-X", "importtime", "-m", "atomjax.command", "--help"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(word in done.stdout for word in COMMANDS)
    assert " jax\n" not in done.stderr
    wrong = subprocess.run(
        [sys.executable, "-m", "atomjax.command", "fintune"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 2
    assert "invalid choice: 'fintune'" in wrong.stderr


def test_train_predict_and_features(inside, capsys) -> None:
    parts = ["--validation", "validation.xyz", "--test", "test.xyz"]
    assert main(["train", "train.xyz", *parts, "--workdir=mine", *changes(SMALL)]) == 0
    assert "conservative forces" in capsys.readouterr().out
    page = Path("mine/report.html").read_text()
    assert "Finetuning on own" in page
    assert "<title>training\nstep " in page
    assert "predicted force (eV/Å)" in page
    model = atomjax.load("mine")

    assert main(["predict", "mine", "test.xyz", "--output=out/predicted.xyz"]) == 0
    assert "force_mae_mev_per_angstrom" in capsys.readouterr().out
    expected = model.predict("test.xyz")
    written = read("out/predicted.xyz")
    energies = np.array([one.energy for one in written])
    np.testing.assert_allclose(energies, np.array(expected.energies), atol=1e-5)
    found = np.concatenate([np.asarray(one.forces) for one in written])
    np.testing.assert_allclose(found, np.concatenate(list(expected.forces)), atol=1e-5)
    csv_file = ["--output=out/predicted.csv", "--ensemble", "mine"]
    assert main(["predict", "mine", "test.xyz", *csv_file]) == 0
    with Path("out/predicted.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["energy"]) for row in rows] == pytest.approx(expected.energies, rel=1e-6)
    assert {float(row["energy_deviation"]) for row in rows} == {0.0}
    assert main(["predict", "mine", "test.xyz", "--output=out/predicted.npz"]) == 0
    arrays = read_npz(Path("out/predicted.npz"), "")
    # The same file as a run writes of its test structures.
    own = read_npz(Path("mine/predictions/own.npz"), "")
    assert arrays.keys() == own.keys()
    np.testing.assert_allclose(arrays["forces_predicted"], own["forces_predicted"], atol=1e-5)
    capsys.readouterr()
    assert main(["predict", "mine", "frames.xyz"]) == 0
    assert "C2H6O" in capsys.readouterr().out
    assert main(["predict", "mine", "frames.xyz", "--output=a.pdf"]) == 2
    assert "ends in one of" in capsys.readouterr().err
    assert main(["predict", "nowhere", "frames.xyz"]) == 1
    assert "no checkpoint in" in capsys.readouterr().err

    assert main(["features", "frames.xyz", "--checkpoint=mine", "--output=out/f.npz"]) == 0
    arrays = read_npz(Path("out/f.npz"), "")
    assert arrays["n_atoms"].tolist() == [9, 9, 9]
    np.testing.assert_allclose(arrays["structures"][0], arrays["atoms"][:9].mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("words", [["predict", "nowhere"], ["features"]])
def test_what_is_read_is_not_written_over(inside, capsys, words: list[str]) -> None:
    before, alias = Path("frames.xyz").read_bytes(), Path(f"alias_{words[0]}.xyz")
    alias.symlink_to("frames.xyz")
    assert main([*words, "frames.xyz", f"--output={alias}"]) == 2
    assert f"{alias} is one of the files to read" in capsys.readouterr().err
    assert Path("frames.xyz").read_bytes() == before


def test_options_of_labels_are_those_of_configs() -> None:
    # Written twice, so that --help need not import what reads data.
    assert set(LABELS) == set(LABEL_OPTIONS)


def test_finetune_is_what_the_launcher_runs(monkeypatch) -> None:
    calls = []
    monkeypatch.setattr("atomjax.command.training.launch", lambda given: calls.append(given) or 0)
    words = ["finetune", "first", "--train=a.xyz", "--validation=b.xyz", "--energy-key=E"]
    assert main([*words, "--workdir=mine", "--config.train.epochs=3"]) == 0
    own = "--config=finetune/own:a.xyz,checkpoint=first,validation=b.xyz,energy_key=E"
    assert calls == [[own, "--workdir=mine", "--config.train.epochs=3"]]
    assert main(["train", "--config=configs/quickstart.py", "--validate"]) == 0
    assert calls[1] == ["--config=configs/quickstart.py", "--validate"]
    # Values of the launcher's options are no files, wherever they stand.
    words = ["finetune", "--workdir", "mine", "--config.train.epochs", "3", "--debug", "first"]
    assert main([*words, "--train", "a.xyz"]) == 0
    own = "--config=finetune/own:a.xyz,checkpoint=first"
    assert calls[2] == [own, "--workdir=mine", "--config.train.epochs=3", "--debug"]


def test_trainings_say_what_is_missing(inside, capsys) -> None:
    for arguments, message in (
        (["train"], "nothing to train on"),
        (["finetune", "--train=train.xyz"], "the checkpoint is missing"),
        (["train", "train.xyz", "--config=a.py"], "leave train out"),
        (["train", "a,b.xyz"], "has a comma"),
        (["train", "train.xyz"], "--workdir is missing"),
        (["train", "train.xyz", "--workdir=x", "--workdri=y"], "unknown argument '--workdri'"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


def test_the_data_card_is_shown_without_training(inside, capsys) -> None:
    before = sorted(inside.rglob("*"))
    assert main(["data-card", "train.xyz", "--validation=validation.xyz"]) == 0
    shown = capsys.readouterr().out
    assert "structures  20 train, 6 validation" in shown
    assert "conservative forces" in shown
    assert sorted(inside.rglob("*")) == before
    assert main(["data-card", "--config", str(ROOT / "configs" / "quickstart.py")]) == 2
    assert "'study' has no data card" in capsys.readouterr().err


def test_csi_prints_the_table(inside, capsys, monkeypatch) -> None:
    kept = []
    monkeypatch.setattr(functions, "keep_compiled_programs", lambda: kept.append(True))
    arguments = ["csi", "a=train.xyz", "b=test.xyz", "--task=frames16.xyz", "--size=8"]
    assert main(arguments) == 0
    assert kept
    shown = capsys.readouterr().out
    assert "| a |" in shown
    assert "to frames16" in shown
    assert main(["csi", "a/train.xyz", "b/train.xyz", "--task=frames16.xyz"]) == 2
    error = capsys.readouterr().err
    assert "a/train.xyz and b/train.xyz are both named 'train'" in error


def test_generated_structures_are_written(inside, capsys) -> None:
    arguments = ["generate", "slabs", "--count=2", "--seed=1", "--workers=1"]
    given = ["size=(1, 1, 3)", "metals=Pd,Pt"]
    assert main([*arguments[:2], *given, *arguments[2:], "--output=slabs.xyz"]) == 0
    # Values may follow the options, too.
    assert main([*arguments, "--output=slabs.archive.npz", *given]) == 0
    written, kept = read("slabs.xyz"), read("slabs.archive.npz")
    assert len(written) == len(kept) == 2
    for one, exact in zip(written, kept, strict=True):
        assert one.energy == pytest.approx(exact.energy, abs=1e-6)
        np.testing.assert_allclose(np.array(one.forces), np.array(exact.forces), atol=1e-6)
        np.testing.assert_array_equal(one.tags, exact.tags)
        np.testing.assert_array_equal(one.fixed, exact.fixed)
        assert {46, 78} & set(exact.atomic_numbers.tolist())
    capsys.readouterr()
    assert main([*arguments[:2], "size", "--count=2", "--output=a.xyz"]) == 2
    assert main([*arguments[:2], "sise=1", "--count=2", "--output=a.xyz"]) == 1
    assert "size" in capsys.readouterr().err


def test_conversion_is_that_of_the_package(capsys) -> None:
    assert main(["convert", "nowhere.pt", "--to", "there"]) == 2
    assert "nowhere.pt" in capsys.readouterr().err


def test_doctor_describes_the_installation(capsys, monkeypatch) -> None:
    monkeypatch.setattr("atomjax.command.doctor.SMALL", 32)
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for title in ("Versions", "Devices", "GFLOP/s (32 x 32)", "Compilation cache", "Extras"):
        assert title in shown
    assert atomjax.__version__ in shown
    needed = ["numpy>=2", "numpy>=2; extra == 'a'", 'no-such[x]>=1; sys_platform and extra == "b"']
    monkeypatch.setattr("importlib.metadata.requires", lambda _: needed)
    assert missing_extras() == {
        "a": "installed",
        "b": 'without no-such: pip install "atomjax[b]"',
    }


def test_a_folder_may_have_an_equals_sign() -> None:
    assert functions._named("runs/lr=0.1/data.xyz") == ("data", "runs/lr=0.1/data.xyz")
    assert functions._named("mine=runs/lr=0.1/data.xyz") == ("mine", "runs/lr=0.1/data.xyz")
