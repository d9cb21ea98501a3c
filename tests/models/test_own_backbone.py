"""The backbone of CONTRIBUTING.md, used as somebody would who wrote it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flax.traverse_util
import numpy as np
import pytest

import atomjax
from atomjax.convert.conversion import find_model_family
from atomjax.convert.errors import ConvertError
from atomjax.graphs import GraphConfig
from atomjax.inference.predict import load_predictor
from atomjax.launch import main
from atomjax.models import BACKBONES, find_backbone, register, registry
from atomjax.models.gemnet_oc import GEMNET_OC
from atomjax.similarity.features.extractor import load_extractor
from atomjax.similarity.settings import ExtractorSettings
from atomjax.structures.readers import read
from atomjax.training.running.checkpoint import load_checkpoint, read_metadata
from atomjax.training.session import Session
from tests.training.workflow import write_structures

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """The current directory, with the file of CONTRIBUTING.md and its data."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"^## Adding a backbone\n.*?^```python\n(.*?)^```", text, re.DOTALL | re.M)
    (tmp_path / "pairs.py").write_text(code)
    write_structures(tmp_path / "chains.extxyz")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    BACKBONES.pop("pairs", None)


def backbone_of(workdir: str, *, averaged: bool = True) -> dict[str, Any]:
    """Parameters of the last step."""
    variables, _ = load_checkpoint(workdir, "latest", averaged=averaged)
    return flax.traverse_util.flatten_dict(variables["params"]["backbone"], sep="/")


def test_a_backbone_in_one_file_trains_predicts_and_gives_features(folder, capfd):
    assert main(["--config=pairs.py", "--workdir=first"]) == 0
    metadata = read_metadata("first")
    assert metadata["model"] == {"name": "pairs_tiny", "cutoff": 4.0}
    assert metadata["graphs"]["chains"]["kind"] == "nearest"

    chains = read("chains.extxyz", energy_unit="eV", length_unit="Å")[:3]
    forces = [np.asarray(result.forces) for result in load_predictor("first")(chains)]
    assert [own.shape for own in forces] == [(len(s), 3) for s in chains]
    for own in forces:
        np.testing.assert_allclose(own.sum(axis=0), 0, atol=1e-4)
    found = atomjax.features(chains, "first", invariant_only=True)
    assert [atoms.shape for atoms in found.atoms] == [(len(s), 16) for s in chains]
    extractor = load_extractor(ExtractorSettings(checkpoint="first", which="latest"))
    table = backbone_of("first")["embedding"]
    np.testing.assert_array_equal(extractor.element_embeddings["O"], table[8])

    start = ["--config=pairs.py", "--config.finetune.checkpoint=first"]
    tuned = [*start, "--workdir=tuned", "--config.train.optimizer.freeze=['embedding','block_0']"]
    tuned += ["--config.finetune.which=latest", "--config.model.overrides.precision=float32"]
    assert main(tuned) == 0
    before, after = backbone_of("first"), backbone_of("tuned", averaged=False)
    kept = {path for path in before if np.array_equal(before[path], after[path])}
    assert kept & {"embedding", "block_0/filters/kernel", "block_1/filters/kernel"} == {
        "embedding",
        "block_0/filters/kernel",
    }
    assert main([*start, "--workdir=other", "--config.model.overrides.width=8"]) == 2
    assert (
        main([*start[:1], "--workdir=other", "--config.train.optimizer.layer_rates=jmp_small"]) == 2
    )
    shown = capfd.readouterr().err
    assert "model.width: 16 -> 8" in shown
    assert "pairs has none" in shown
    with pytest.raises(ConvertError, match="no original of pairs_tiny"):
        find_model_family(metadata["model"])


@pytest.mark.slow
def test_a_backbone_in_one_file_passes_the_conformance_suite(folder):
    files = ("tests/models/test_conformance.py", "tests/training/test_resume.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "pairs", "-p", "no:cacheprovider",
         "-m", "slow or not slow", "-k", "pairs", *files],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 30


def test_a_backbone_that_is_registered_anew_is_compiled_anew(monkeypatch):
    """A file that is edited and read again, in a notebook: the same names, other formulas."""
    monkeypatch.setattr(registry, "BACKBONES", dict(registry.BACKBONES))
    session: Any = SimpleNamespace(
        model_config={"name": "mine_small"},
        heads=[],
        tasks=(),
        mesh=None,
        settings=SimpleNamespace(),
    )
    session.settings.train = None
    meanings = []
    for _ in range(2):
        sizes = {"mine_small": GEMNET_OC.sizes["gemnet_oc_tiny"]}
        fields: Any = {
            "sizes": sizes,
            "graph": GraphConfig(),
            "cutoff_fields": {"main": "rbf_cutoff"},
        }
        register(type(GEMNET_OC)(name="mine", network=lambda config: config, **fields))
        meanings.append(Session._meaning(session))
    assert meanings[0] != meanings[1]
    assert meanings[1] == Session._meaning(session)


def test_names_are_not_taken_twice_and_fields_exist():
    sizes = {"mine_small": GEMNET_OC.sizes["gemnet_oc_tiny"]}
    fields: dict = {"network": GEMNET_OC.network, "graph": GraphConfig()}
    fields["cutoff_fields"] = {"main": "rbf_cutoff"}
    make = type(GEMNET_OC)
    with pytest.raises(ValueError, match='"gemnet_oc" comes with atomjax'):
        register(make(name="gemnet_oc", sizes=sizes, **fields))
    with pytest.raises(ValueError, match="'gemnet_oc_large' is a size of \"gemnet_oc\""):
        register(make(name="mine", sizes=GEMNET_OC.sizes, **fields))
    with pytest.raises(ValueError, match="'depth' is not a field of GemNetOCConfig"):
        make(name="mine", sizes=sizes, free_fields=("depth",), **fields)
    with pytest.raises(ValueError, match="give sizes, all of one config class"):
        make(name="mine", sizes={}, **fields)
    with pytest.raises(ValueError, match=r"did you mean 'gemnet_oc_tiny'.*once the file"):
        find_backbone({"name": "gemnet_oc_tyni"})
