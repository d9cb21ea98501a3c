"""What earlier versions wrote is read with the meaning it had.

``artefacts/b3f99a9.tar.xz`` holds two finished pretrainings with their checkpoints (a GemNet-OC and
an EquiformerV2 of a few thousand parameters), a store, the structures of all three, and what that
version predicted for the first six.
"""

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from atomjax.graphs import GraphConfig
from atomjax.inference.predict import load_predictor
from atomjax.models import backbone_config, find_backbone
from atomjax.runtime.earlier import read_config
from atomjax.runtime.run import Run
from atomjax.similarity.settings import SimilaritySettings
from atomjax.similarity.workflow.job import given_settings
from atomjax.structures import Structure
from atomjax.structures.readers import read
from atomjax.structures.store import Store
from atomjax.training.running.checkpoint import read_metadata
from atomjax.training.session import Session
from atomjax.training.settings import FinetuneSettings, RunSettings

ARCHIVE = Path(__file__).parent / "artefacts" / "b3f99a9.tar.xz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artefacts")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(path, filter="data")
    return path


@pytest.fixture(scope="module")
def chains(folder: Path) -> list[Structure]:
    return read(folder / "chains.xyz", energy_unit="eV", length_unit="Å")


@pytest.mark.parametrize("name", ["gemnet_oc", "equiformer_v2"])
def test_a_finished_run_predicts_what_it_did(
    name: str, folder: Path, chains: list[Structure]
) -> None:
    expected = np.load(folder / f"{name}_expected.npz")
    results = load_predictor(str(folder / name))(chains[:6])
    energies = np.array([result.energy for result in results], float)
    np.testing.assert_allclose(energies, expected["energy"], rtol=0, atol=2e-5)
    forces = np.concatenate([np.asarray(result.forces) for result in results])
    np.testing.assert_allclose(forces, expected["forces"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["gemnet_oc", "equiformer_v2"])
def test_the_graphs_and_the_basis_of_a_run_stay(name: str, folder: Path, tmp_path: Path) -> None:
    config = read_config(folder / name / "config.json")
    config["data"]["train"][0]["path"] = str(folder / "chains.xyz")
    settings = RunSettings.from_config(config)
    stored = read_metadata(folder / name)
    start = FinetuneSettings(checkpoint=str(folder / name))
    tuned = settings.replace(workflow="finetune", finetune=start)
    sessions = [Session(tuned, Run(tmp_path / "tuned"))]
    if (folder / name / "checkpoints" / "latest").is_dir():
        shutil.copytree(folder / name, tmp_path / name)
        resumed = Run(tmp_path / name, settings, accept_changes=True)
        sessions.append(Session(settings, resumed))
    for session in sessions:
        graph = session.train_loader.datasets[0].graph_config
        assert (graph.symmetrization, graph.shells) == ("index", "cut")
        assert graph == GraphConfig.from_dict(next(iter(stored["graphs"].values())))
        assert session.model_config == stored["model"]
        config = session.model_config
        assert find_backbone(config).basis_cutoff(backbone_config(config), "main") == 12.0


def test_a_store_holds_the_structures_that_were_written(
    folder: Path, chains: list[Structure]
) -> None:
    store = Store(folder / "store")
    assert len(store) == len(chains)
    for stored, given in zip(store, chains, strict=True):
        np.testing.assert_array_equal(stored.atomic_numbers, given.atomic_numbers)
        np.testing.assert_allclose(stored.positions, given.positions, atol=1e-6)
        assert stored.energy == pytest.approx(given.energy, abs=1e-9)
        np.testing.assert_allclose(np.asarray(stored.forces), np.asarray(given.forces), atol=1e-6)


def test_scalar_features_are_compared_as_they_are(folder: Path, tmp_path: Path) -> None:
    entry = {"kind": "generate", "generator": "slabs", "arguments": {"count": 20}}
    sides = {"candidates": {"mine": entry}, "downstream": {"task": entry}}

    def settings(checkpoint: Path | None) -> SimilaritySettings:
        return given_settings("csi", sides, tmp_path, {}, checkpoint, None, 3, {"level": 0.9})

    of_scalars = settings(folder / "gemnet_oc")
    assert of_scalars.extractor.checkpoint == str(folder / "gemnet_oc")
    assert of_scalars.invariants == ("none",)
    assert settings(folder / "equiformer_v2").invariants == ("none", "norms")
    assert settings(None).extractor.checkpoint is None
    assert (of_scalars.seed, of_scalars.sampling.seed, of_scalars.level) == (3, 3, 0.9)
