"""Weights that come with the package: small, described, and checkpoints like any other."""

import shutil
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest

from atomjax.models import backbone_config, find_backbone
from atomjax.runtime.config import load_config
from atomjax.structures.elements import SYMBOLS
from atomjax.training.running import packaged
from atomjax.training.running.checkpoint import CheckpointError, load_checkpoint, read_metadata
from atomjax.training.running.packaged import (
    BACKBONES,
    CRYSTALS,
    EXTRACTOR,
    FOLDER,
    MOLECULES,
    PACKAGED,
    main,
)
from tests.test_artefacts import ARCHIVE

ROOT = Path(__file__).resolve().parents[2]
RECIPES = {
    EXTRACTOR: "csi/extractor.py",
    MOLECULES: "pretrain/molecules.py",
    CRYSTALS: "pretrain/crystals.py",
}


@pytest.mark.parametrize("name", PACKAGED)
def test_weights_are_small_and_say_how_they_were_made(name: str) -> None:
    variables, metadata = load_checkpoint(name)
    assert read_metadata(name) == metadata
    leaves = jax.tree.leaves(variables)
    assert sum(leaf.size for leaf in leaves) == metadata["parameters"] > 100_000
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert metadata["seed"] == 0
    assert metadata["licence"].startswith("Apache-2.0")
    for errors in metadata["test"].values():
        assert errors["force_mae_mev_per_angstrom"] > 0
    for one in metadata["datasets"].values():
        assert len(one["trained_on"]["elements"]) > 3
        assert set(one["trained_on"]["elements"]) <= set(SYMBOLS)


@pytest.mark.parametrize(("name", "recipe"), RECIPES.items())
def test_weights_are_of_their_recipe(name: str, recipe: str) -> None:
    metadata = read_metadata(name)
    config = load_config(ROOT / "configs" / recipe)
    model = metadata["model"]
    # The graphs of the training say where the basis ends, the recipe all else.
    basis = {key: model[key] for key in find_backbone(model).basis_fields if key in model}
    recipe_model = {"name": config["model"]["name"], **config["model"]["overrides"]}
    assert backbone_config(model) == backbone_config({**basis, **recipe_model})
    assert f"configs/{recipe}" in metadata["command"]


@pytest.mark.parametrize("name", BACKBONES)
def test_extractors_have_learnt_slabs(name: str) -> None:
    errors = read_metadata(name)["validation"]["slabs"]
    assert 0 < errors["force_mae_mev_per_angstrom"] < 100


def test_all_together_are_at_most_5_mb() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 5 * 10**6


def test_a_finished_run_becomes_weights(tmp_path, capsys) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    run, folder = tmp_path / "gemnet_oc", tmp_path / "weights"
    assert main([str(run), MOLECULES, f"--folder={folder}"]) == 0
    assert "MiB" in capsys.readouterr().out
    expected, stored = load_checkpoint(run)
    found, metadata = packaged.packaged_weights(MOLECULES, folder)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert (metadata["heads"], metadata["model"]) == (stored["heads"], stored["model"])
    assert main([str(run), EXTRACTOR, f"--folder={folder}"]) == 0
    found, metadata = packaged.packaged_weights(EXTRACTOR, folder)
    assert [*found["params"]] == ["backbone"]
    assert metadata["heads"] == []
    (folder / f"{EXTRACTOR}.npz").unlink()
    with pytest.raises(
        CheckpointError, match=rf"{EXTRACTOR}\.npz is missing; install atomjax again"
    ):
        packaged.packaged_weights(EXTRACTOR, folder)
    (run / "results.json").unlink()
    with pytest.raises(CheckpointError, match="not finished"):
        packaged.write_packaged(run, MOLECULES, folder)
    shutil.rmtree(run)
    assert main([str(run), MOLECULES]) == 1
