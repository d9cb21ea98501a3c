"""A converted checkpoint is a checkpoint: finetuning starts from it."""

import flax.traverse_util
import numpy as np

from atomjax.convert.conversion import convert
from atomjax.convert.export import export
from atomjax.training.checkpoint import load_checkpoint
from atomjax.training.finetune import finetune
from atomjax.training.pretrain import pretrain
from atomjax.training.settings import RunSettings
from tests.training.test_workflows import finetune_config, start_run
from tests.training.workflow import make_config, write_structures


def quiet(_: str) -> None:
    pass


def test_trained_exported_converted_finetuned(tmp_path):
    """A run of ours goes through the original's format and is finetuned from there."""
    structures = write_structures(tmp_path / "chains.xyz")
    start_run(pretrain, make_config(structures, epochs=1), tmp_path / "pretrained")
    export(tmp_path / "pretrained", tmp_path / "weights.pt", say=quiet)
    metadata = convert(tmp_path / "weights.pt", tmp_path / "converted", say=quiet)
    trained, _ = load_checkpoint(tmp_path / "pretrained")
    converted, _ = load_checkpoint(tmp_path / "converted")
    flat = [flax.traverse_util.flatten_dict(v["params"]["backbone"], sep="/")
            for v in (trained, converted)]  # fmt: skip
    assert flat[0].keys() == flat[1].keys()
    for name, value in flat[0].items():
        np.testing.assert_array_equal(value, flat[1][name], err_msg=name)

    config = finetune_config(structures, tmp_path / "converted", {}, epochs=1)
    overrides = dict(metadata["model"])
    config["model"] = {"name": overrides.pop("name"), "overrides": overrides}
    results, text = start_run(finetune, config, tmp_path / "finetuned")
    assert "(step 0, averaged weights)" in text
    assert "heads discarded: task0" in text
    assert np.isfinite(results["test"]["task"]["force_mae_mev_per_angstrom"])
    assert RunSettings.from_config(config).finetune.which == "best"


def test_backbone_alone_is_enough(tmp_path):
    structures = write_structures(tmp_path / "chains.xyz")
    start_run(pretrain, make_config(structures, epochs=1), tmp_path / "pretrained")
    export(tmp_path / "pretrained", tmp_path / "weights.pt", backbone_only=True, say=quiet)
    from atomjax.convert.family import Choices

    choices = Choices(backbone_only=True)
    metadata = convert(tmp_path / "weights.pt", tmp_path / "bare", choices=choices, say=quiet)
    config = finetune_config(structures, tmp_path / "bare", {}, epochs=1)
    overrides = dict(metadata["model"])
    config["model"] = {"name": overrides.pop("name"), "overrides": overrides}
    results, _ = start_run(finetune, config, tmp_path / "finetuned")
    assert np.isfinite(results["test"]["task"]["energy_mae_mev"])
