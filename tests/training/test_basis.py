"""Where the bases of a model end: with its graphs, or with the checkpoint it goes on from."""

import dataclasses

import numpy as np
import pytest

from atomjax.batching import GraphDataset
from atomjax.data.graphs import BaseGraphs, graph_config
from atomjax.data.settings import GraphSettings
from atomjax.graphs import GraphConfig
from atomjax.models import backbone_config
from atomjax.models.equiformer_v2 import published_graph
from atomjax.models.gemnet_oc import PUBLISHED_GRAPH
from atomjax.runtime.config import ConfigError
from atomjax.structures import Structure
from atomjax.structures.store import Store, write_store
from atomjax.training.basis import check_kind, checkpoint_graph, describe_graphs, with_basis

GEMNET, EQUIFORMER = {"name": "gemnet_oc_tiny"}, {"name": "equiformer_v2_tiny"}
MOLECULE = Structure(atomic_numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 1]])
CRYSTAL = Structure(atomic_numbers=[3], positions=[[0, 0, 0]], cell=np.eye(3) * 3, pbc=True)


def dataset(graph: GraphConfig, *structures: Structure, name: str = "set") -> GraphDataset:
    return GraphDataset(name, structures or (MOLECULE, CRYSTAL), graph)


def test_bases_end_with_the_graphs():
    graph = GraphConfig(cutoff=5.0, cutoff_qint=3.0, cutoff_a2a=6.0)
    config = with_basis(GEMNET, [dataset(graph)])
    ends = {"rbf_cutoff": 5.0, "rbf_cutoff_qint": 3.0, "rbf_cutoff_a2a": 6.0}
    assert config == {**GEMNET, **ends, "envelope_exponent": 5}
    size = backbone_config(config)
    for name, end in graph.cutoffs(periodic=True).items():
        assert size.basis_cutoff(name) == end
    nearest = GraphConfig(kind="nearest", cutoff=4.5)
    expected = {**EQUIFORMER, "cutoff": 4.5, "envelope_exponent": 5}
    assert with_basis(EQUIFORMER, [dataset(nearest)]) == expected


def test_what_the_config_says_stays():
    graph = GraphConfig(cutoff=5.0, cutoff_qint=3.0)
    given = {**GEMNET, "rbf_cutoff": 12.0, "envelope_exponent": 6}
    assert with_basis(given, [dataset(graph)]) == given
    given = {**EQUIFORMER, "cutoff": 12.0, "envelope_exponent": None}
    assert with_basis(given, [dataset(GraphConfig(kind="nearest"))]) == given


def test_cutoffs_that_differ_are_asked_about():
    sets = [dataset(GraphConfig(cutoff=end), name=f"to {end:g}") for end in (5.0, 6.0)]
    message = (
        r"graphs end at different distances \(to 5: 5 Å; to 6: 6 Å\), and the model has one "
        r"radial basis for all: give .* one graph.cutoff .* or say .* model.overrides.rbf_cutoff"
    )
    with pytest.raises(ConfigError, match=message):
        with_basis(GEMNET, sets)
    assert with_basis({**GEMNET, "rbf_cutoff": 6.0}, sets)["rbf_cutoff"] == 6.0


def test_only_the_cutoff_that_cuts_something_counts(tmp_path):
    graph = PUBLISHED_GRAPH
    assert with_basis(GEMNET, [dataset(graph, CRYSTAL)])["rbf_cutoff"] == 12.0
    assert with_basis(GEMNET, [dataset(graph, MOLECULE)])["rbf_cutoff"] == 8.0
    with pytest.raises(ConfigError, match=r"\(set: 12 Å and 8 Å\)"):
        with_basis(GEMNET, [dataset(graph)])
    write_store(tmp_path / "store", [MOLECULE, CRYSTAL, MOLECULE])
    store = Store(tmp_path / "store")
    molecules = GraphDataset("stored", store.subset(np.array([0, 2])), graph)
    assert with_basis(GEMNET, [molecules])["rbf_cutoff"] == 8.0
    with pytest.raises(ConfigError, match=r"\(stored: 12 Å and 8 Å\)"):
        with_basis(GEMNET, [GraphDataset("stored", store, graph)])


def test_the_basis_of_a_checkpoint_counts():
    sets = [dataset(GraphConfig(cutoff=4.0), MOLECULE, name="small")]
    source = {"model": {**GEMNET, "rbf_cutoff": 6.0, "rbf_cutoff_qint": 3.0}, "graphs": {}}
    config = with_basis(GEMNET, sets, source)
    assert config == source["model"]
    (line,) = describe_graphs(config, sets)
    assert line == (
        "small       4 Å, all neighbours; the model's radial basis ends elsewhere (a2a 6 Å, a2ee2a "
        "6 Å, main 6 Å, qint 3 Å), so energies step where an atom leaves the graph"
    )
    # One of an earlier version has the published basis, and the published graphs.
    assert with_basis(GEMNET, sets, {"model": GEMNET}) == GEMNET
    assert backbone_config(GEMNET).basis_cutoff("qint") == 12.0
    assert checkpoint_graph({"model": EQUIFORMER}) == published_graph()


def test_graphs_that_a_backbone_does_not_have_are_refused():
    preset = GraphSettings(preset="published", cutoff=6.0)
    base = BaseGraphs(published=published_graph())
    assert graph_config(preset, base) == dataclasses.replace(published_graph(), cutoff=6.0)
    with pytest.raises(ConfigError, match=r'graph.preset="published": this backbone has no such'):
        graph_config(preset, BaseGraphs())
    check_kind(None, GEMNET, "graph.kind")
    check_kind("gemnet_oc", GEMNET, "graph.kind")
    with pytest.raises(ConfigError, match='gemnet_oc_tiny reads graphs of kind "gemnet_oc"'):
        check_kind("nearest", GEMNET, "graph.kind")
    with pytest.raises(ConfigError, match="write one of gemnet_oc, nearest"):
        GraphSettings(kind="nearst")


def test_the_card_names_limits():
    graph = GraphConfig(cutoff=5.0, cutoff_qint=4.0, max_neighbors=12)
    sets = [dataset(graph)]
    (line,) = describe_graphs(with_basis(GEMNET, sets), sets)
    assert line == ("set         5 Å (qint 4 Å), 12 neighbours (symmetrization union, shells keep)")
