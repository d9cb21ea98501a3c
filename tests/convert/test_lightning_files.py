"""Files with objects of the original training code in them, as Lightning writes them."""

import sys
import types
from pathlib import Path

import pytest

from atomjax.convert.conversion import convert
from tests.convert.checkpoints import lightning, other_weights, tiny_state

torch = pytest.importorskip("torch", reason="PyTorch is the extra 'convert'")


@pytest.fixture
def config_class(monkeypatch):
    """A class of a module that is gone when the file is read."""
    module = types.ModuleType("jmp.tasks.finetune.base")

    class Config:
        def __init__(self, **fields):
            self.__dict__.update(fields)

    Config.__module__, Config.__qualname__ = module.__name__, "Config"
    vars(module)["Config"] = Config
    for name in ("jmp", "jmp.tasks", "jmp.tasks.finetune"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return Config


def test_configs_of_unknown_classes_are_read_without_them(
    shared, tmp_path, config_class, monkeypatch
):
    state = tiny_state(shared / "oracle")
    tensors = [
        {name: torch.from_numpy(value) for name, value in weights.items()}
        for weights in (state, other_weights(state))
    ]
    content = lightning(*tensors)
    normalization = {
        "y": config_class(mean=0.0, std=24.9),
        "force": config_class(mean=0.0, std=0.5),
    }
    content["hyper_parameters"] = {
        "tasks": [config_class(name="oc20", path=Path("data"), normalization=normalization)],
        "backbone": config_class(sbf={"name": "legendre_outer"}, absolute_rbf_cutoff=12.0),
    }
    content["callbacks"] = {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}}
    torch.save(content, tmp_path / "epoch.ckpt")
    for name in [name for name in sys.modules if name.split(".")[0] == "jmp"]:
        monkeypatch.delitem(sys.modules, name)
    metadata = convert(tmp_path / "epoch.ckpt", tmp_path / "converted", say=lambda _: None)
    assert [head["name"] for head in metadata["heads"]] == ["oc20"]
    assert metadata["converted"]["averages"] == "of all parameters"
    assert metadata["converted"]["normalization"]["oc20"] == {
        "energy": {"mean": 0.0, "std": 24.9},
        "forces": {"mean": 0.0, "std": 0.5},
    }
    assert not any(name.split(".")[0] == "jmp" for name in sys.modules)
