"""Work from Python: the examples of the public names, and the same numbers as from commands."""

import doctest
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest

import atomjax
from atomjax.inference.model import Predicting
from atomjax.launch import main
from atomjax.reporting.live import LiveCurves
from atomjax.runtime.config import ConfigError
from atomjax.structures.readers import ReadError
from tests.own_files import SHORT, SMALL, labelled, write_files

ROOT = Path(__file__).resolve().parents[1]
OWN = ROOT / "configs" / "finetune" / "own.py"
CSI = {"sampling.size": 16, "resamples": 20, "invariants": ["none"]}
# What public classes inherit, with the one of them whose examples are run.
SHARED = {"Model": (Predicting,)}
PUBLIC = sorted(set(atomjax.__all__) - {"__version__"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Files, and the runs "runs/pretrained" and "runs/mine" on them."""
    folder = tmp_path_factory.mktemp("mine")
    write_files(folder)
    files = {"train": folder / "train.xyz", "validation": folder / "validation.xyz"}
    workdir, shown = folder / "runs" / "pretrained", []
    live = LiveCurves(workdir, show=shown.append)
    atomjax.finetune(None, **files, workdir=workdir, settings=SMALL, progress=live)
    (line,) = (line for line in shown[-1].axes[0].lines if "validation" in str(line.get_label()))
    assert line.get_xdata()[-1] == shown[-1].axes[0].lines[0].get_xdata()[-1], "at the last step"
    shutil.copytree(folder / "runs" / "pretrained", folder / "runs" / "mine")
    return folder


@pytest.fixture
def inside(folder, monkeypatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_of_public_names_run(name: str, inside) -> None:
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    before = sorted(inside.rglob("*"))
    examples = [
        test
        for one in (getattr(atomjax, name), *SHARED.get(name, ()))
        for test in finder.find(one, one.__name__, globs={"atomjax": atomjax})
    ]
    assert any(test.examples for test in examples)
    for test in examples:
        runner.run(test)
    assert runner.failures == 0
    assert sorted(inside.rglob("*")) == before, "nothing is written without a workdir"


@pytest.mark.slow
def test_finetuning_gives_the_numbers_of_the_command_line(inside, tmp_path, capsys) -> None:
    words = "train.xyz,validation.xyz,test.xyz,checkpoint=runs/pretrained"
    arguments = [f"--config={OWN}:{words}", f"--workdir={tmp_path / 'command'}"]
    changes = [f"--config.{key}={value}" for key, value in SHORT.items()]
    assert main([*arguments, *changes]) == 0, capsys.readouterr().out
    files = {part: f"{part}.xyz" for part in ("train", "validation", "test")}
    given = {"settings": SHORT, "progress": False}
    model = atomjax.finetune("runs/pretrained", **files, workdir=tmp_path / "python", **given)
    results = [
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("command", "python")
    ]
    assert results[0]["test"] == results[1]["test"]
    assert results[0]["validation"] == results[1]["validation"]
    # Atoms in hand are the same data as the file.
    frames = {part: ase.io.read(path, ":") for part, path in files.items()}
    again = atomjax.finetune("runs/pretrained", **frames, **given)
    assert again.metadata["validation"] == model.metadata["validation"]
    expected, found = (one.predict("frames.xyz").energies for one in (model, again))
    np.testing.assert_array_equal(expected, found)
    # A run that is there is returned as it is.
    same = atomjax.finetune("runs/pretrained", **files, workdir=tmp_path / "python", **given)
    assert same.metadata == model.metadata
    with pytest.raises(ConfigError, match="another configuration"):
        atomjax.finetune(None, **files, workdir=tmp_path / "python", **given)


@pytest.mark.slow
def test_csi_gives_the_numbers_of_the_command_line(inside, tmp_path, capsys) -> None:
    sets = {"near": "train.xyz", "far": labelled(16, 9, "H2O")}
    given = {"settings": CSI, "progress": False}
    table = atomjax.csi(sets, "frames16.xyz", workdir=tmp_path / "python", **given)
    assert table.candidates == ("near", "far")
    assert table.nearest == {"frames16": "near"}
    assert table.values[0, 0] < table.values[1, 0]
    assert "near" in table.advice["frames16"]
    config = tmp_path / "config.py"
    kept = json.loads((tmp_path / "python" / "config.json").read_text())
    config.write_text(f"def get_config():\n    return {kept!r}\n")
    assert main([f"--config={config}", f"--workdir={tmp_path / 'command'}"]) == 0
    capsys.readouterr()
    found = json.loads((tmp_path / "command" / "csi.json").read_text())
    assert [dict(pair) for pair in table.pairs] == found["pairs"]
    assert (tmp_path / "python" / "plots" / "heat_map.png").exists()
    table.plot(tmp_path / "table.png")
    assert (tmp_path / "table.png").stat().st_size > 1000
    assert "| near |" in str(table)


@pytest.mark.slow
def test_the_ten_lines_run_as_they_stand(inside, monkeypatch) -> None:
    text = (ROOT / "docs" / "python.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for name, source in (("mine", "train"), ("oxides", "test"), ("aspirin", "frames16")):
        shutil.copy(f"{source}.xyz", f"{name}.xyz")
    monkeypatch.setattr("atomjax.recipes.small_data.FINETUNING_STEPS", 120)
    names: dict = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert names["results"].energies.shape == (3,)
    assert names["features"].structures.shape[0] == 3
    assert names["atoms"].get_forces().shape == (9, 3)
    assert names["table"].candidates == ("mine", "oxides")
    assert names["model"].name == str(Path("runs/new"))
    assert Path("runs/new/results.json").exists()
    energies = [atoms.get_potential_energy() for atoms in names["relaxed"]]
    assert (
        np.array(energies) < names["model"].predict("frames.xyz", progress=False).energies
    ).all()


def test_mistakes_are_those_of_configs(inside) -> None:
    with pytest.raises(ConfigError, match=r"'nowhere\.xyz' is not a file"):
        atomjax.finetune(None, train="nowhere.xyz")
    with pytest.raises(ReadError, match="no option 'energy_kye'"):
        atomjax.finetune(None, train="train.xyz", energy_kye="E")
    with pytest.raises(ConfigError, match=r"train\.epoch"):
        atomjax.finetune(None, train="train.xyz", settings={"train.epoch": 1})
    with pytest.raises(ConfigError, match="leave network out"):
        atomjax.finetune("runs/mine", train="train.xyz", network="gemnet_oc")
    with pytest.raises(ConfigError, match="write one of gemnet_oc, equiformer_v2"):
        atomjax.finetune(None, train="train.xyz", network="mace")
    with pytest.raises(ConfigError, match="share a name"):
        atomjax.csi({"a": "train.xyz"}, {"a": "test.xyz"}, progress=False)


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, time; start = time.process_time(); import atomjax; "
        "print(time.process_time() - start, {'jax', 'numpy', 'ase'} & set(sys.modules)); "
        "assert set(atomjax.__all__) <= set(dir(atomjax))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True
    )
    seconds, _, modules = done.stdout.partition(" ")
    assert modules.strip() == "set()"
    assert float(seconds) < 0.3
