"""Which structures of a sample are independent of each other."""

import numpy as np
import pytest

from atomjax.data.settings import DatasetSettings
from atomjax.similarity.features.units import (
    BLOCKS,
    Units,
    describe_units,
    independent_units,
    is_trajectory,
    stretches,
)
from atomjax.structures import Structure
from atomjax.structures.store import Store, write_store

READ = {"kind": "read", "energy_kind": "total", "energy_unit": "eV", "length_unit": "Å"}
FILE = DatasetSettings(name="set", path="set.extxyz", **READ)
DYNAMICS = DatasetSettings(
    name="md",
    kind="generate",
    generator="dynamics",
    arguments={"count": 120, "frames_per_walker": 40},
)


def frames(count: int, name: str = "set") -> list[Structure]:
    return [
        Structure(atomic_numbers=[29], positions=[[0, 0, 0]], identifier=f"{name}:{i}")
        for i in range(count)
    ]


def units_of(dataset, classes, unit="auto", total=200) -> Units:
    indices = np.random.default_rng(0).permutation(total)[: len(classes)]
    return independent_units(dataset, unit, np.asarray(classes), indices, frames(total, "dynamics"))


def test_structures_are_independent_where_nothing_else_is_known():
    found = units_of(FILE, [4] * 15)
    assert (found.kind, found.count) == ("structure", 15)


def test_structures_of_one_class_are_drawn_together():
    found = units_of(FILE, [3, 1, 3, 7, 1])
    assert (found.kind, found.count) == ("class", 3)
    assert found.codes.tolist() == [0, 1, 0, 2, 1]
    assert units_of(FILE, [3, 1, 3], "structure").count == 3
    assert describe_units("class", 3).startswith("3 classes")


def test_generated_dynamics_have_walkers():
    indices = np.array([0, 119, 39, 40, 80, 1])
    found = independent_units(DYNAMICS, "auto", np.zeros(6, int), indices, frames(120, "dynamics"))
    assert (found.kind, found.count) == ("walker", 3)
    assert found.codes.tolist() == [0, 1, 0, 2, 1, 0]


@pytest.mark.parametrize(
    ("path", "form", "expected"),
    [("a.traj", None, True), ("rmd17_aspirin.npz", "rmd17", True), ("a.xyz", None, False)],
)
def test_files_of_one_simulation_are_known_by_their_format(path, form, expected):
    given = {} if form else READ
    dataset = DatasetSettings(name="set", path=path, format=form, **{"kind": "read", **given})
    assert is_trajectory(dataset, []) is expected


def test_a_store_knows_what_it_was_made_of(tmp_path):
    for name, expected in (("md22", True), ("extxyz", False)):
        origin = {"paths": ["/data/file.xyz"], "source": name}
        write_store(tmp_path / name, frames(3), origin=origin)
        dataset = DatasetSettings(name="set", kind="store", path=str(tmp_path / name))
        assert is_trajectory(dataset, Store(tmp_path / name)) is expected


def test_frames_of_an_official_part_are_put_in_order():
    """Benchmarks list the frames of a part in the order in which these were drawn."""
    drawn = np.random.default_rng(1).permutation(1000)[:400]
    listed = [frames(1000)[i] for i in drawn]
    found = independent_units(FILE, "trajectory", np.zeros(400, int), np.arange(400), listed)
    spans = [np.ptp(drawn[found.codes == code]) for code in range(found.count)]
    assert found.count > 3
    assert sum(spans) < 1000


def test_stretches_follow_the_trajectory():
    indices = np.random.default_rng(1).permutation(1000)[:50]
    found = stretches(indices, 1000)
    assert np.bincount(found).tolist() == [5] * 10
    assert (np.diff(found[np.argsort(indices)]) >= 0).all()
    # Neighbouring frames remember each other: fifty of them are five stretches, fifteen one.
    assert stretches(np.arange(50), 50).max() + 1 == 5
    assert stretches(np.arange(15), 15).max() + 1 == 1
    assert units_of(FILE, [0] * 50, "trajectory").kind == "stretch"


def test_blocks_are_bounded():
    units = Units("structure", np.arange(5000))
    counts = np.bincount(units.blocks)
    assert len(counts) == BLOCKS
    assert np.ptp(counts) <= 1
