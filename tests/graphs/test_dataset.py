import copy
from collections.abc import Sequence

import numpy as np
import pytest

from atomjax.batching import dataset as dataset_module
from atomjax.batching.dataset import GraphDataset
from atomjax.graphs.interactions import GraphConfig
from atomjax.graphs.neighbors import GraphError
from atomjax.structures import References, ReferencesError, Structure


@pytest.fixture
def structures(molecule):
    return [molecule(n, seed=n) for n in (3, 8, 5, 12, 4)]


@pytest.fixture
def built(monkeypatch) -> list[int]:
    """Numbers of atoms of the structures whose graphs were built, in order."""
    log: list[int] = []
    build = dataset_module.build_many

    def build_and_log(structures: Sequence[Structure], *arguments):
        log.extend(len(s) for s in structures)
        return build(structures, *arguments)

    monkeypatch.setattr(dataset_module, "build_many", build_and_log)
    return log


def test_graphs_are_built_once(structures, built):
    data = GraphDataset("set", structures)
    assert [g.n_node for g in data.graphs([3, 0])] == [12, 3]
    assert built == [12, 3]
    assert data.sizes.column("n_node").tolist() == [3, 8, 5, 12, 4]
    assert built == [12, 3, 8, 5, 4]
    assert [g.n_node for g in data.graphs([1, 3, 1])] == [8, 12, 8]
    assert built == [12, 3, 8, 5, 4]


def test_the_cache_has_a_limit(structures, built):
    data = GraphDataset("set", structures, cache_bytes=0)
    first, second = data.graphs([3])[0], data.graphs([3])[0]
    assert built == [12, 12]
    np.testing.assert_array_equal(first.main.vectors, second.main.vectors)


def test_processes_that_build_graphs_share_the_memory_for_them(structures, built):
    data = GraphDataset("set", structures, cache_bytes=10**6)
    assert data.sizes.column("n_node").tolist() == [3, 8, 5, 12, 4]
    data.leave_to(2)
    # Copies are made as pickles are.
    theirs = copy.copy(data)
    built.clear()
    for _ in range(2):
        theirs.graphs(range(5))
        data.graphs([0])
    # The others build each once, and this process keeps none.
    assert built == [3, 8, 5, 12, 4, 3, 3]
    assert theirs._free_bytes < 10**6 // 2


def test_dropped_graphs_are_not_kept(structures, built):
    data = GraphDataset("set", structures, GraphConfig(edge_dropout=0.4))
    dropped = data.graphs([3], [np.random.default_rng(0)])[0]
    assert len(dropped.main) < len(data.graphs([3])[0].main) == 132
    assert built == [12, 12]
    drawn, full = data.size_table(0).everything(), data.sizes
    assert drawn.column("n_edge").sum() < full.column("n_edge").sum()
    np.testing.assert_array_equal(drawn.table, data.size_table(0).everything().table)
    assert (drawn.table != data.size_table(1).everything().table).any()


def test_an_empty_data_set_is_an_error():
    with pytest.raises(ValueError, match="'test split' has no structures"):
        GraphDataset("test split", [])


def test_labels_use_the_references(structures, molecule):
    data = GraphDataset("set", structures, references=References.fit(structures))
    labels = data.labels(2, dataset=7)
    assert (labels.dataset, labels.index) == (7, 2)
    assert data.references is not None
    assert labels.energy == data.references.normalize_energy(structures[2])
    other = GraphDataset(
        "other",
        [Structure(atomic_numbers=[79], positions=np.zeros((1, 3)), energy=1.0)],
        references=data.references,
    )
    with pytest.raises(ReferencesError, match="Au"):
        other.labels(0, dataset=0)


def test_unreadable_structures_are_named(structures):
    class Broken(list):
        def __getitem__(self, index):
            if index == 1:
                raise OSError("disk gone")
            return super().__getitem__(index)

    data = GraphDataset("broken", Broken(structures))
    assert len(data.graphs([0])) == 1
    with pytest.raises(GraphError, match=r"structure 1 of data set 'broken'.*OSError: disk gone"):
        data.graphs([0, 1])


def test_failing_graphs_are_named(structures):
    odd = Structure(atomic_numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 1.0]], identifier="odd:2")
    object.__setattr__(odd, "tags", None)
    data = GraphDataset("set", [structures[0], odd, structures[1]])
    with pytest.raises(GraphError, match=r"'odd:2' of data set 'set': its graph cannot be built"):
        data.graphs([0, 1, 2])


def test_structures_without_identifier_are_named_by_place(structures):
    plain = Structure(atomic_numbers=[1], positions=np.zeros((1, 3)))
    data = GraphDataset("set", [structures[0], plain])
    assert [data.identify(i) for i in (0, 1)] == ["molecule 3/3", "set[1]"]
