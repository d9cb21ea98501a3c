"""The command line: exit codes, messages, and nothing left behind."""

import numpy as np
import pytest

from atomjax.convert.__main__ import main
from tests.convert.checkpoints import lightning, tiny_state, write


@pytest.fixture
def source(shared, tmp_path):
    return write(tmp_path / "jmp-s.pt", lightning(tiny_state(shared / "oracle")))


def test_there_and_back(source, tmp_path, capsys):
    assert main([str(source), "--to", str(tmp_path / "converted")]) == 0
    printed = capsys.readouterr().out
    for line in (
        "model     name=gemnet_oc_tiny",
        "head      task0: energy_forces (direct), sum",
        "ignored   16 tensors: buffer, computed anew",
        "unused    loops: state of the training",
        "note      energies of elements are not in the file",
        "licence   CC BY-NC 4.0",
    ):
        assert line in printed
    assert main([str(tmp_path / "converted"), "--to-torch", str(tmp_path / "back.pt")]) == 0
    assert "licence of the weights" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back.pt", "converted", "jmp-s.pt"]


def test_sources_that_cannot_be_converted(shared, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hostile = shared / "data" / "hostile.pt"
    assert main([str(hostile), "--to", "converted"]) == 1
    error = capsys.readouterr().err
    assert "posix.system" in error
    assert "Traceback" not in error
    other = write(tmp_path / "other.pt", {"weight": np.ones(2)})
    assert main([str(other), "--to", "converted"]) == 1
    assert "of no known model" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["empty", "--to-torch", "back.pt"]) == 1
    assert "no checkpoint in" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "other.pt"]


def test_wrong_commands(source, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("precious")
    for arguments, message in (
        (["nothing.pt", "--to", "converted"], "nothing.pt is not a file"),
        ([str(source), "--to", "full"], "full exists and is not empty"),
        ([str(source), "--to", "converted", "--raw"], "--raw and --which go with --to-torch"),
        ([str(source), "--to", "converted", "--head-names", "a,b,a"], "gives a name twice: a,b,a"),
        (
            [str(source), "--to", "converted", "--head-names", "a", "--backbone-only"],
            "--head-names names the heads that --backbone-only leaves out",
        ),
        ([str(source), "--to-torch", "back.pt"], "is not a directory"),
        (["full", "--to-torch", str(source)], "exists; give a new file"),
        (["full", "--to-torch", "back.pt", "--averages", "none"], "--averages and"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main([str(source)])
    assert stopped.value.code == 2
