"""Extraction as a job does it: killed and resumed, on eight devices, by other conventions."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from atomjax.graphs import GraphConfig
from atomjax.runtime.config import ConfigError
from atomjax.runtime.run import Run
from atomjax.similarity.features import cache
from atomjax.similarity.features.conventions import (
    first_structures,
    original_config,
    upstream_graph,
)
from atomjax.similarity.features.extractor import load_extractor
from atomjax.similarity.settings import ExtractorSettings, SimilaritySettings
from atomjax.structures import Structure
from tests.processes import with_devices
from tests.similarity.test_job import ROOT, gemnet_checkpoint, launch, make_config

SMALL = {"aggregations": ["flat"], "invariants": ["none"], "resamples": 10, "mixtures": []}


@pytest.mark.slow
def test_killed_extraction_goes_on_where_it_was(tmp_path, capfd):
    config = make_config(tmp_path, **SMALL)
    assert launch(tmp_path, config) == 0
    unbroken = json.loads((tmp_path / "run" / "csi.json").read_text())
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "atomjax.launch", f"--config={tmp_path / 'config.py'}",
         f"--workdir={killed / 'run'}"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while not (done := list(killed.glob("run/features/*/set.json"))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert not (killed / "run" / "csi.json").exists()
    written = {path: path.stat().st_mtime_ns for path in done}
    capfd.readouterr()
    assert launch(killed, config) == 0
    assert 1 <= capfd.readouterr().out.count("features of an earlier run") < 3
    assert {path: path.stat().st_mtime_ns for path in done} == written
    assert json.loads((killed / "run" / "csi.json").read_text()) == unbroken


@pytest.mark.slow
def test_eight_devices_extract_what_one_does(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.similarity.eight_devices_extraction", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=with_devices(8),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "extraction on 8 devices agrees with one" in done.stdout


def test_conventions_of_the_original_are_named_and_reverse_the_edges(tmp_path):
    ours = load_extractor(ExtractorSettings())
    theirs = load_extractor(ExtractorSettings(conventions="efficient_atom"))
    assert "with the conventions of efficient-atom" in theirs.name
    assert original_config(ours.config)["edge_direction"] == "target_minus_source"
    assert theirs.config["edge_direction"] == "target_minus_source"
    assert original_config(theirs.config)["edge_direction"] == "source_minus_target"
    assert theirs.digest != ours.digest
    graph = upstream_graph(GraphConfig(kind="nearest", cutoff=6.0, cutoff_molecule=6.0))
    assert (graph.cutoff, graph.cutoff_molecule) == (12.0, 8.0)
    assert (graph.max_neighbors, graph.edge_dropout, graph.shells) == (30, 0.1, "cut")
    checkpoint = str(gemnet_checkpoint(tmp_path / "gemnet"))
    with pytest.raises(ConfigError, match="is for EquiformerV2, not gemnet_oc_tiny"):
        load_extractor(ExtractorSettings(checkpoint=checkpoint, conventions="efficient_atom"))


def test_small_batches_of_a_large_set_are_shown_too(monkeypatch):
    """A batch of a hundred thousand structures is due half a row of the picture."""
    rows = SimpleNamespace(values=np.zeros((9 * 32, 4)))
    monkeypatch.setattr(cache, "rows_of", lambda shares, aggregation: rows)
    monkeypatch.setattr(cache, "_num_structures", lambda shares: 32)
    settings: Any = SimpleNamespace(aggregations=("flat",), keep_features=False, seed=0)
    shown = cache._ShownRows(settings, 32 * 3125)
    for batch in range(3125):
        shown.add([])
        assert batch or len(shown.result()) == 1
    assert len(shown.result()) == pytest.approx(cache.SHOWN_ROWS, abs=1)


def test_candidates_are_as_large_as_they_are_trained_on(tmp_path):
    config = make_config(tmp_path)
    config["candidates"][0]["max_structures"] = 5
    settings = SimilaritySettings.from_config(config)
    extractor: Any = SimpleNamespace(_settings=settings, _run=Run(tmp_path / "run"))
    found = [len(cache.SetExtractor.load(extractor, one)) for one in settings.candidates]
    assert found[0] == 5
    assert min(found[1:]) > 5


def test_first_structures_leave_out_small_molecules_and_heavy_elements():
    def structure(*numbers: int) -> Structure:
        return Structure(
            atomic_numbers=np.array(numbers),
            positions=np.arange(3.0 * len(numbers)).reshape(-1, 3),
        )

    given = [structure(8, 1, 1), structure(6, 1, 1, 1, 1), structure(90, 8, 8, 8)]
    given += [structure(89, 8, 8, 8), structure(1, 1, 1, 1)]
    assert first_structures(given, 10).tolist() == [1, 3, 4]
    # The original does not make up for those.
    assert first_structures(given, 2).tolist() == [1]


@pytest.mark.slow
def test_job_with_the_conventions_of_the_original(tmp_path):
    config = make_config(tmp_path, **SMALL)
    config["extractor"]["conventions"] = "efficient_atom"
    config["sampling"]["size"] = 12
    config["downstream"][0]["graph"] = {"cutoff_molecule": 4.0, "max_neighbors": 5}
    assert launch(tmp_path, config) == 0
    report = (tmp_path / "run" / "report.md").read_text()
    assert "with the conventions of efficient-atom" in report
    summary = json.loads((tmp_path / "run" / "csi.json").read_text())
    assert summary["recommendations"][0]["ranking"] == ["near", "far"]


def test_element_embeddings_are_those_of_the_network(tmp_path):
    equiformer = load_extractor(ExtractorSettings())
    table = equiformer.variables["params"]["backbone"]["sphere_embedding"]
    np.testing.assert_array_equal(equiformer.element_embeddings["C"], table[6])
    gemnet = load_extractor(
        ExtractorSettings(checkpoint=str(gemnet_checkpoint(tmp_path / "gemnet")))
    )
    table = gemnet.variables["params"]["backbone"]["embedding"]
    np.testing.assert_array_equal(gemnet.element_embeddings["C"], table[5])
