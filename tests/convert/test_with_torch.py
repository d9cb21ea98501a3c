"""The reader and the writer against PyTorch itself."""

import argparse
from pathlib import Path

import numpy as np
import pytest

from atomjax.convert.errors import FileFormatError, RefusedError
from atomjax.convert.torch_file import TorchFile
from atomjax.convert.torch_writer import write_torch_file
from atomjax.safe_pickle import Record

torch = pytest.importorskip("torch", reason="PyTorch is the extra 'convert'")


def test_reads_what_torch_saves(tmp_path):
    base = torch.arange(24.0).reshape(2, 3, 4)
    content = {
        "plain": base,
        "transposed": base.permute(2, 0, 1),
        "part": base[1, 1:, ::2],
        "parameter": torch.nn.Parameter(base[0]),
        "expanded": torch.ones(1).expand(5),
        "bfloat16": base.to(torch.bfloat16),
        "half": base.half(),
        "bool": base > 3,
        "long": base.long(),
        "scalar": torch.tensor(2.0),
        "empty": torch.zeros(0, 3),
    }
    torch.save(content, tmp_path / "file.pt")
    loaded = TorchFile(tmp_path / "file.pt").load()
    assert loaded.keys() == content.keys()
    for name, value in content.items():
        np.testing.assert_array_equal(
            loaded[name].astype(np.float64), value.detach().double().numpy(), err_msg=name
        )
    assert np.shares_memory(loaded["plain"], loaded["part"])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_whole_training_states(tmp_path, protocol):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    content = {
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": schedule.state_dict(),
        "val_metrics": {"mae": {"metric": np.float64(0.5), "total": np.arange(3)}},
        "config": {"cmd": {"run": Path("runs"), "names": {"a"}}, "flags": argparse.Namespace(lr=1)},
        "amp": None,
    }
    torch.save(content, tmp_path / "file.pt", pickle_protocol=protocol)
    loaded = TorchFile(tmp_path / "file.pt").load()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(loaded["state_dict"][name], value.numpy())
    assert loaded["val_metrics"]["mae"]["metric"] == 0.5
    np.testing.assert_array_equal(loaded["val_metrics"]["mae"]["total"], [0, 1, 2])
    assert loaded["optimizer"]["state"][0]["exp_avg"].shape == (2, 3)
    assert loaded["config"]["cmd"]["names"] == {"a"}
    assert isinstance(loaded["config"]["flags"], Record)
    assert loaded["config"]["flags"].state == {"lr": 1}


def test_refuses_what_torch_would_build(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(RefusedError, match=r"torch\.nn\.modules\.linear\.Linear"):
        TorchFile(tmp_path / "module.pt").load()
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "sparse.pt")
    with pytest.raises(RefusedError, match="sparse"):
        TorchFile(tmp_path / "sparse.pt").load()
    torch.save({}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(FileFormatError, match=r"before PyTorch 1\.6"):
        TorchFile(tmp_path / "old.pt")


def test_torch_reads_what_is_written(tmp_path):
    weight = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    content = {
        "state_dict": {"w": weight, "alias": weight, "t": weight.T, "s": np.array(2.0, np.float32)},
        "optimizer_states": [{"ema": (weight[0], weight[1]), "decay": 0.99, "step": 2**40}],
        "note": None,
    }
    write_torch_file(tmp_path / "file.pt", content)
    loaded = torch.load(tmp_path / "file.pt", weights_only=True)
    state = loaded["state_dict"]
    assert torch.equal(state["w"], torch.from_numpy(weight))
    assert torch.equal(state["t"], torch.from_numpy(weight.T.copy()))
    assert state["alias"].data_ptr() == state["w"].data_ptr()
    assert state["s"].shape == ()
    assert isinstance(loaded["optimizer_states"][0]["ema"], tuple)
    assert loaded["optimizer_states"][0]["step"] == 2**40
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.zeros(2, 3, 4))
    model.load_state_dict({"w": state["w"]}, strict=True)
