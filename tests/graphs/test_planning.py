import numpy as np
import pytest

from atomjax.batching.planning import count_batches, plan_batches, split_batch
from atomjax.graphs.capacity import FIELDS, Sizes, fit_capacity


def sizes_of(atoms: np.ndarray) -> Sizes:
    """Sizes as of molecules in which everybody sees everybody, up to 30 neighbours."""
    columns = dict.fromkeys(FIELDS, np.ones_like(atoms))
    neighbors = np.minimum(atoms - 1, 30)
    columns |= {
        "n_node": atoms,
        "n_edge": atoms * neighbors,
        "max_neighbors": neighbors,
        "max_atoms": atoms,
    }
    return Sizes(np.stack([columns[name] for name in FIELDS], axis=1).astype(np.int64))


def molecules(n: int, seed: int = 0) -> Sizes:
    return sizes_of(np.random.default_rng(seed).integers(4, 21, n))


@pytest.mark.parametrize(
    ("n", "batch_size"), [(1, 8), (7, 8), (8, 8), (9, 8), (100, 32), (65, 16), (300, 1)]
)
@pytest.mark.parametrize("num_buckets", [1, 3])
def test_every_structure_once_in_batches_of_equal_count(n, batch_size, num_buckets):
    plan = plan_batches(molecules(n), batch_size, (0, 0), num_buckets=num_buckets)
    assert sorted(np.concatenate(plan.batches).tolist()) == list(range(n))
    counts = [len(batch) for batch in plan.batches]
    assert len(counts) == count_batches(n, batch_size) == -(-n // batch_size)
    assert max(counts) <= batch_size
    assert max(counts) - min(counts) <= 1


def test_nothing_to_plan():
    assert plan_batches(molecules(0), 8, (0,)).batches == []
    with pytest.raises(ValueError, match="batch_size is 0"):
        plan_batches(molecules(3), 0, (0,))


@pytest.mark.parametrize("batch_size", [8, 32])
def test_main_edges_fill_the_bucket(batch_size):
    sizes = molecules(1000)
    needs = np.concatenate(
        [sizes.needs(plan_batches(sizes, batch_size, (1, epoch)).batches) for epoch in range(3)]
    )
    edges = needs[:, FIELDS.index("n_edge")]
    assert edges.mean() / fit_capacity(needs).n_edge >= 0.95


def test_outliers_do_not_decide_the_bucket():
    atoms = np.clip(np.random.default_rng(0).normal(14, 4, 1500).round(), 4, 30).astype(int)
    sizes = sizes_of(atoms)
    edges = sizes.needs(plan_batches(sizes, 8, (0,)).batches)[:, FIELDS.index("n_edge")]
    assert edges.mean() / edges.max() >= 0.9


def test_plans_follow_their_key():
    sizes = molecules(200)

    def plan(*key: int) -> list[list[int]]:
        return [b.tolist() for b in plan_batches(sizes, 16, key).batches]

    assert plan(0, 0, 0) == plan(0, 0, 0)
    for other in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        same = {tuple(b) for b in plan(0, 0, 0)} & {tuple(b) for b in plan(*other)}
        assert len(same) <= 1


def test_company_changes_from_epoch_to_epoch():
    sizes = molecules(256)
    met = set()
    for epoch in range(20):
        for batch in plan_batches(sizes, 16, (0, epoch)).batches:
            if 0 in batch:
                met |= set(batch.tolist())
    assert len(met) > 100  # a plan that only balanced would repeat the same 15 companions


def test_classes_of_size_narrow_the_slots():
    sizes = sizes_of(np.repeat([4, 6, 20, 60], [64, 64, 64, 64]))
    plan = plan_batches(sizes, 16, (0,), num_buckets=3)
    widths = sizes.column("max_neighbors")
    of_class = [
        {
            int(w)
            for b, c in zip(plan.batches, plan.classes, strict=True)
            if c == k
            for w in widths[b]
        }
        for k in range(3)
    ]
    assert of_class == [{3, 5}, {19}, {30}]


@pytest.mark.parametrize("num_devices", [1, 2, 3, 4, 8, 40])
def test_devices_share_a_batch(num_devices):
    sizes = molecules(32)
    parts = split_batch(sizes, num_devices)
    assert len(parts) == num_devices
    assert sorted(np.concatenate(parts).tolist()) == list(range(32))
    counts = [len(part) for part in parts]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(("batch_size", "num_devices"), [(32, 4), (32, 8), (64, 8), (256, 16)])
def test_devices_get_equal_work(batch_size, num_devices):
    rng = np.random.default_rng(0)
    atoms = np.clip(rng.normal(15, 5, 3000).round(), 4, 32).astype(int)
    sizes = sizes_of(atoms)
    for batch in plan_batches(sizes, batch_size, (0,)).batches[:40]:
        own = Sizes(sizes.table[batch])
        work = [own.column("n_edge")[part].sum() for part in split_batch(own, num_devices)]
        assert max(work) / np.mean(work) <= 1.1


def test_slabs_and_molecules_together_are_balanced():
    rng = np.random.default_rng(0)
    atoms = np.concatenate([rng.integers(4, 21, 2400), rng.integers(40, 81, 800)])
    sizes = sizes_of(atoms)
    for batch in plan_batches(sizes, 64, (0,)).batches:
        own = Sizes(sizes.table[batch])
        work = [own.column("n_edge")[part].sum() for part in split_batch(own, 4)]
        assert max(work) / np.mean(work) <= 1.1
