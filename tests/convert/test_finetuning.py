"""A converted checkpoint is a checkpoint: finetuning starts from it."""

from pathlib import Path

import flax.traverse_util
import numpy as np
import pytest

from atomjax.convert.conversion import convert
from atomjax.convert.export import export
from atomjax.convert.family import Choices
from atomjax.training.finetune import finetune
from atomjax.training.pretrain import pretrain
from atomjax.training.running.checkpoint import load_checkpoint
from tests.training.test_workflows import finetune_config, start_run
from tests.training.workflow import make_config, write_structures


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run of ours, with the structures it was trained on."""
    folder = tmp_path_factory.mktemp("finetuning")
    structures = write_structures(folder / "chains.xyz")
    start_run(pretrain, make_config(structures, epochs=1), folder / "pretrained")
    return folder


def finetune_from(folder: Path, tmp_path: Path, metadata: dict) -> tuple[dict, str]:
    """Finetunes tmp_path/converted with the model config that the conversion printed."""
    config = finetune_config(folder / "chains.xyz", tmp_path / "converted", {}, epochs=1)
    overrides = dict(metadata["model"])
    config["model"] = {"name": overrides.pop("name"), "overrides": overrides}
    return start_run(finetune, config, tmp_path / "finetuned")


@pytest.mark.slow
def test_trained_exported_converted_finetuned(folder, tmp_path):
    """A run of ours goes through the original's format and is finetuned from there."""
    export(folder / "pretrained", tmp_path / "weights.pt", say=quiet)
    metadata = convert(tmp_path / "weights.pt", tmp_path / "converted", say=quiet)
    trained, _ = load_checkpoint(folder / "pretrained")
    converted, _ = load_checkpoint(tmp_path / "converted")
    flat = [flax.traverse_util.flatten_dict(v["params"]["backbone"], sep="/")
            for v in (trained, converted)]  # fmt: skip
    assert flat[0].keys() == flat[1].keys()
    for name, value in flat[0].items():
        np.testing.assert_array_equal(value, flat[1][name], err_msg=name)
    results, text = finetune_from(folder, tmp_path, metadata)
    assert "(step 0, averaged weights)" in text
    assert "heads discarded: task0" in text
    assert np.isfinite(results["test"]["task"]["force_mae_mev_per_angstrom"])


def test_backbone_alone_is_enough(folder, tmp_path):
    export(folder / "pretrained", tmp_path / "weights.pt", backbone_only=True, say=quiet)
    choices = Choices(backbone_only=True)
    metadata = convert(tmp_path / "weights.pt", tmp_path / "converted", choices=choices, say=quiet)
    results, text = finetune_from(folder, tmp_path, metadata)
    assert "backbone of" in text
    assert np.isfinite(results["test"]["task"]["energy_mae_mev"])
