"""Plans of epochs from sizes alone: windows, ways of filling, shapes, devices."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest

from atomjax.batching import epochs
from atomjax.batching.epochs import EpochPlans
from atomjax.batching.planning import plan_batches, split_batch
from atomjax.batching.size_table import JoinedSizes, SizeTable
from atomjax.graphs.capacity import FIELDS, CapacityError, Sizes
from tests.graphs.test_planning import sizes_of

EDGES, ATOMS = FIELDS.index("n_edge"), FIELDS.index("n_node")
COUNT = 2000


def ani1x(count: int = COUNT) -> Sizes:
    """Sizes as of ANI-1x: 15 atoms on average, 4 to 30."""
    rng = np.random.default_rng(1)
    return sizes_of(np.clip(rng.normal(15, 4, count).round(), 4, 30).astype(np.int64))


def oc20(count: int = COUNT) -> Sizes:
    """Sizes as of OC20: 73 atoms on average, 20 to 225."""
    rng = np.random.default_rng(2)
    return sizes_of(np.clip(rng.normal(73, 25, count).round(), 20, 225).astype(np.int64))


def make(*parts: Sizes, **settings: Any) -> EpochPlans:
    given = {
        "batch_size": 8,
        "seed": 0,
        "epochs": 1,
        "num_devices": 1,
        "num_buckets": 1,
        "shuffle": True,
        "fill": "auto",
        "dropped": 0.0,
        "capacity": None,
        "identify": str,
        **settings,
    }
    samples = given.pop("samples", [len(part) for part in parts])
    return EpochPlans(JoinedSizes(SizeTable(p.table) for p in parts), samples, **given)


def real_share(plans: EpochPlans, column: int = EDGES) -> float:
    real, shapes, _ = plans.reported()
    name = FIELDS[column]
    return real[column] / (plans.num_devices * sum(getattr(shape, name) for shape in shapes))


def members(plans: EpochPlans, step: int) -> list[int]:
    return sorted(np.concatenate(plans.step(step).groups).tolist())


def all_steps(plans: EpochPlans) -> list[list[int]]:
    return [members(plans, step) for step in range(plans.steps_per_epoch)]


@pytest.mark.parametrize("batch_size", [4, 5, 8, 32])
@pytest.mark.parametrize("stream", ["ani1x", "oc20", "mixed"])
def test_most_padded_edges_are_real(stream, batch_size):
    parts = {"ani1x": [ani1x()], "oc20": [oc20()], "mixed": [ani1x(), oc20()]}[stream]
    plans = make(*parts, batch_size=batch_size, epochs=3)
    assert len(plans.capacities) == 1
    assert real_share(plans) >= 0.9
    assert real_share(plans, ATOMS) >= 0.85


@pytest.mark.parametrize("devices", [2, 4])
def test_shares_of_devices_are_as_full(devices):
    plans = make(ani1x(), oc20(), batch_size=8 * devices, num_devices=devices)
    assert real_share(plans) >= 0.9


def test_filling_by_size_is_chosen_where_a_count_wastes():
    atoms = np.where(np.arange(400) < 60, 40, 12)
    uneven = sizes_of(np.random.default_rng(0).permutation(atoms))
    options: dict[str, Any] = {"batch_size": 5}
    count, size, auto = (make(uneven, fill=f, **options) for f in ("count", "size", "auto"))
    assert real_share(count) < 0.9 <= real_share(size)
    assert auto.fill == "size"
    assert auto.capacities == size.capacities
    assert make(ani1x(), batch_size=8).fill == "count"
    # The same number of steps holds the same structures, so the budget is the same.
    assert auto.steps_per_epoch == count.steps_per_epoch == 80
    lengths = [len(members(auto, step)) for step in range(80)]
    assert sum(lengths) == 400
    assert np.mean(lengths) == 5
    assert min(lengths) >= 1
    assert max(lengths) > 5


def few_large(count: int = 1200) -> Sizes:
    """Molecules of 12 atoms, and among 30 of them a slab of 150."""
    atoms = np.where(np.arange(count) % 30 == 0, 150, 12)
    return sizes_of(np.random.default_rng(0).permutation(atoms))


def test_steps_with_few_large_structures_get_a_shape_of_their_own():
    one, some = (make(few_large(), batch_size=5, epochs=2, num_buckets=n) for n in (1, 0))
    assert real_share(one) < 0.7
    assert real_share(some) >= 0.9
    assert some.fill == "count"
    assert len(some.capacities) == 2
    # Steps are padded as they come: those of 5 structures with at most one slab.
    small, large = (shape.n_node - 1 for shape in some.capacities)
    assert (small, large) == (60, pytest.approx(198, abs=8))
    assert len(make(ani1x(), epochs=5, num_buckets=0).capacities) == 1


def test_short_runs_are_not_worth_another_shape():
    short, longer = (make(few_large(), batch_size=5, epochs=e, num_buckets=0) for e in (1, 9))
    assert len(short.capacities) == 1
    assert len(longer.capacities) == 2
    assert [members(short, s) for s in range(9)] != [members(longer, s) for s in range(9)]
    assert short.fill == "size"


@pytest.mark.parametrize("devices", [1, 4])
def test_shapes_left_open_change_nothing_in_a_step(devices):
    given: dict[str, Any] = {"batch_size": 20, "epochs": 20, "fill": "count"}
    one, some = (
        make(few_large(), num_buckets=n, num_devices=d, **given) for n, d in ((1, 1), (0, devices))
    )
    assert all_steps(one) == all_steps(some)


@pytest.mark.parametrize("fill", ["count", "size"])
def test_what_a_step_holds_depends_on_nothing_but_seed_and_step(fill):
    options: dict[str, Any] = {"fill": fill, "epochs": 2, "batch_size": 16}
    one, eight = (make(ani1x(300), oc20(300), num_devices=d, **options) for d in (1, 8))
    held = [members(one, step) for step in range(2 * one.steps_per_epoch)]
    assert held == [members(eight, step) for step in range(len(held))]
    assert sorted(itertools.chain(*held[: one.steps_per_epoch])) == list(range(600))
    late = make(ani1x(300), oc20(300), **options)
    assert members(late, 71) == held[71]
    other = make(ani1x(300), oc20(300), **{**options, "seed": 1})
    assert members(other, 0) != held[0] != held[one.steps_per_epoch]


def test_company_changes_from_epoch_to_epoch_when_filled_by_size():
    sizes, met = ani1x(256), set()
    for epoch in range(20):
        for batch in plan_batches(sizes, 16, (0, epoch), fill="size").batches:
            met |= set(batch.tolist()) if 0 in batch else set()
    assert len(met) > 100


@pytest.mark.parametrize("fill", ["count", "size"])
def test_devices_get_equal_work_of_mixed_batches(fill):
    sizes = Sizes.concatenate([ani1x(600), oc20(600)])
    for batch in plan_batches(sizes, 64, (0,), fill=fill).batches:
        own = Sizes(sizes.table[batch])
        parts = split_batch(own, 8, fill)
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(batch)))
        work = [own.column("n_edge")[part].sum() for part in parts]
        assert max(work) / np.mean(work) <= 1.1


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(epochs, "WINDOW", 64)
    monkeypatch.setattr(epochs, "_PLANNED", 256)


@pytest.mark.parametrize("batch_size", [7, 8])
@pytest.mark.parametrize("fill", ["count", "size"])
def test_windows_hold_everything_once_in_the_same_shape(small_windows, batch_size, fill):
    plans = make(ani1x(1003), batch_size=batch_size, epochs=3, fill=fill)
    steps = plans.steps_per_epoch
    assert steps == -(-1003 // batch_size)
    for epoch in range(3):
        held = [members(plans, epoch * steps + step) for step in range(steps)]
        assert sorted(itertools.chain(*held)) == list(range(1003))
        if fill == "count":
            assert {len(h) for h in held} <= {1003 // steps, -(-1003 // steps)}
    # A window in the middle needs none before it.
    late = make(ani1x(1003), batch_size=batch_size, epochs=3, fill=fill)
    assert members(late, 2 * steps + 50) == members(plans, 2 * steps + 50)
    # So small a window varies much, and the shape has to hold any.
    assert real_share(plans) > 0.6


def test_windows_keep_the_samples_of_a_mixture(small_windows):
    plans = make(ani1x(500), oc20(90), samples=[200, 300], batch_size=10, epochs=2)
    for epoch in range(2):
        first = epoch * plans.steps_per_epoch
        steps = range(first, first + plans.steps_per_epoch)
        seen = Counter(i for step in steps for i in members(plans, step))
        assert sum(n for i, n in seen.items() if i < 500) == 200
        assert {n for i, n in seen.items() if i >= 500} == {3, 4}


def test_shapes_hold_the_largest_structure_of_a_window_not_planned(small_windows):
    table = ani1x(1000).table.copy()
    table[777] = sizes_of(np.array([80])).table[0]
    plans = make(Sizes(table), epochs=1)
    held = all_steps(plans)
    assert any(777 in h for h in held)
    given = make(ani1x(999), epochs=1).capacities
    with pytest.raises(CapacityError, match=r"structure '777'.*raise Capacity"):
        all_steps(make(Sizes(table), epochs=1, capacity=given))


def test_memory_is_that_of_a_window(small_windows):
    plans = make(ani1x(1000))
    for step in range(plans.steps_per_epoch):
        plans.step(step)
    assert len(plans._windows) <= 2
