"""Features for one's own use, from Python and as files."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import atomjax
from atomjax.inference.embeddings import Embedder, load_embedder
from atomjax.launch import main
from atomjax.runtime.config import ConfigError
from atomjax.runtime.progress import Display
from atomjax.structures import Structure
from atomjax.structures.readers import read
from tests.training.workflow import write_structures


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_structures(tmp_path_factory.mktemp("data") / "chains.xyz", count=12)


@pytest.fixture(scope="module")
def structures(path):
    return read(path, "extxyz", energy_unit="eV")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return load_embedder(batch_size=5)


def turned(structure: Structure) -> Structure:
    """Rotated by a quarter about z."""
    rotation = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    return Structure(
        atomic_numbers=structure.atomic_numbers, positions=structure.positions @ rotation.T
    )


def test_features_are_rows_of_atoms_in_order(structures, embedder):
    found = embedder(structures)
    assert [len(atoms) for atoms in found.atoms] == [len(s) for s in structures]
    assert found.structures.shape == (len(structures), found.atoms[0].shape[1])
    (alone,) = embedder([structures[7]]).atoms
    np.testing.assert_allclose(found.atoms[7], alone, atol=1e-5)
    assert np.abs(found.structures[7] - found.structures[8]).max() > 1e-3
    assert embedder.num_compilations == 1


def test_invariant_features_do_not_turn(structures):
    first = structures[:2]
    both = [*first, *map(turned, first)]
    plain, still = atomjax.features(both), atomjax.features(both, invariant_only=True)
    assert np.abs(plain.atoms[0] - plain.atoms[2]).max() > 1e-2
    # Rotation by a quarter about an axis of the grid leaves rounding alone.
    np.testing.assert_allclose(still.atoms[0], still.atoms[2], atol=1e-4)
    assert still.atoms[0].shape[1] < plain.atoms[0].shape[1]


def test_unknown_elements_are_named(embedder, structures):
    heavy = Structure(atomic_numbers=[110, 1], positions=[[0, 0, 0], [0, 0, 1.5]], identifier="Ds")
    with pytest.raises(ConfigError, match=r"structure 1 \(Ds\) .*110.* end at 99"):
        embedder([structures[0], heavy])


def test_importing_atomjax_imports_no_jax():
    code = "import atomjax, sys; assert 'jax' not in sys.modules; atomjax.nothing"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "has no attribute 'nothing'" in result.stderr


def test_files_hold_the_same_and_continue(path, structures, embedder, tmp_path, monkeypatch):
    config = tmp_path / "config.py"
    config.write_text(
        "import ml_collections\n"
        "def get_config():\n"
        "    return ml_collections.ConfigDict(dict(workflow='features', datasets=[dict(\n"
        f"        name='chains', kind='read', path={str(path)!r}, length_unit='Å')],\n"
        "        extractor={'batch_size': 5}))\n"
    )
    arguments = ["--config", str(config), "--workdir", str(tmp_path / "run")]
    monkeypatch.setattr("atomjax.inference.feature_files.CHUNK_BATCHES", 1)
    calls = []
    compute = Embedder.__call__

    def stop_at_the_second(self, chunk):
        calls.append(len(chunk))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compute(self, chunk)

    begun, track = [], Display.track

    def noted(self, total, description, start=0):
        if description == "features of chains":
            begun.append((total, start))
        return track(self, total, description, start)

    monkeypatch.setattr(Embedder, "__call__", stop_at_the_second)
    monkeypatch.setattr(Display, "track", noted)
    assert main(arguments) != 0
    assert main(arguments) == 0
    assert calls == [5, 5, 5, 2], "what was written is not computed again"
    assert begun == [(12, 0), (12, 5)], "and is not in the rate by which the rest is forecast"
    folder = tmp_path / "run" / "chains"
    expected = compute(embedder, structures)
    np.testing.assert_allclose(
        np.load(folder / "atoms.npy"), np.concatenate(expected.atoms), atol=1e-5
    )
    np.testing.assert_allclose(np.load(folder / "structures.npy"), expected.structures, atol=1e-5)
    with np.load(folder / "index.npz") as index:
        assert index["n_node"].tolist() == [len(s) for s in structures]
    assert f"| chains | {len(structures)} |" in (tmp_path / "run" / "report.md").read_text()
    assert "Mean features of structures" in (tmp_path / "run" / "report.html").read_text()
    whole = (folder / "atoms.npy").read_bytes()
    for name in ("atoms.npy", "index.npz", "done.json"):
        damaged = bytearray((folder / name).read_bytes())
        damaged[len(damaged) // 2] ^= 1
        (folder / name).write_bytes(damaged)
        assert main(arguments) == 0
        assert (folder / "atoms.npy").read_bytes() == whole
        with np.load(folder / "index.npz") as index:
            assert index["n_node"].tolist() == [len(s) for s in structures]


def test_sets_without_names_of_their_own_are_refused():
    from atomjax.inference.feature_files import FeatureSettings

    one = {"name": "a", "kind": "generate", "generator": "slabs"}
    with pytest.raises(ConfigError, match="name of its own"):
        FeatureSettings.from_config({"workflow": "features", "datasets": [one, one]})


def test_labels_that_features_do_not_need_may_be_damaged(tmp_path):
    from ase.io import read as read_frames
    from ase.io import write

    path = write_structures(tmp_path / "chains.xyz", count=3)
    frames: Any = read_frames(path, ":")
    frames[1].calc.results.update(energy=np.nan, forces=np.full((len(frames[1]), 3), np.nan))
    write(path, frames)
    units = {"energy_unit": "eV", "length_unit": "Å", "energy_kind": "total"}
    # Nor need they be there at all.
    for name, arguments in (("damaged", {}), ("missing", {"energy_key": "REF_energy"})):
        one = {"name": name, "kind": "read", "path": str(path), "arguments": arguments, **units}
        config = tmp_path / "config.py"
        whole = {"workflow": "features", "datasets": [one]}
        config.write_text(f"def get_config():\n    return {whole!r}\n")
        assert main(["--config", str(config), "--workdir", str(tmp_path / name)]) == 0
        assert len(np.load(tmp_path / name / name / "structures.npy")) == 3


def test_features_of_changed_data_are_not_continued(tmp_path, capfd):
    path = write_structures(tmp_path / "chains.xyz", count=3)
    units = {"energy_unit": "eV", "length_unit": "Å", "energy_kind": "none"}
    whole = {
        "workflow": "features",
        "datasets": [{"name": "chains", "kind": "read", "path": str(path), **units}],
    }
    config = tmp_path / "config.py"
    config.write_text(f"def get_config():\n    return {whole!r}\n")
    arguments = ["--config", str(config), "--workdir", str(tmp_path / "run")]
    assert main(arguments) == 0
    # As many atoms, elsewhere.
    write_structures(path, count=3, seed=1)
    assert main(arguments) != 0
    assert "features of before the data changed" in " ".join(capfd.readouterr().err.split())
