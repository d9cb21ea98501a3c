from collections import Counter
from typing import Any

import numpy as np
import pytest

from atomjax.batching import BatchLoader, GraphDataset, mixture_shares, share_out
from atomjax.batching.mixture import epoch_members, spread_members
from atomjax.batching.shuffling import shuffled
from atomjax.data.card import describe_budget, describe_mixture
from atomjax.data.load import _limit
from atomjax.data.settings import DataSettings
from atomjax.runtime.config import ConfigError, build

# ANI-1x, Transition-1x, OC20 and OC22 as JMP takes them.
JMP_SIZES = (2_000_000, 10_000_000, 100_000_000, 8_000_000)


def test_temperature_two_gives_the_published_shares():
    shares = mixture_shares(JMP_SIZES, "temperature", 2.0)
    assert shares.round(4).tolist() == [0.0813, 0.1817, 0.5746, 0.1625]
    counts = share_out(sum(JMP_SIZES), shares)
    assert sum(counts) == 120_000_000
    np.testing.assert_allclose(counts, 120e6 * shares, atol=1)


def test_kinds_of_mixture():
    assert mixture_shares([5], "single").tolist() == [1.0]
    assert mixture_shares([1, 3], "proportional").tolist() == [0.25, 0.75]
    assert mixture_shares([1, 3], "temperature", 1.0).tolist() == [0.25, 0.75]
    assert mixture_shares([1, 300], "balanced").tolist() == [0.5, 0.5]
    np.testing.assert_allclose(mixture_shares([1, 300], "temperature", 1e9), 0.5, atol=1e-6)
    with pytest.raises(ValueError, match='"single" is for one data set, and there are 2'):
        mixture_shares([1, 3], "single")
    with pytest.raises(ValueError, match="temperature 0 of the mixture must be positive"):
        mixture_shares([1, 3], "temperature", 0)


@pytest.mark.parametrize(("total", "shares"), [(10, [1, 1, 1]), (7, [0.5, 0.3, 0.2]), (2, [9, 1])])
def test_counts_are_exact(total, shares):
    counts = share_out(total, shares)
    assert sum(counts) == total
    exact = np.asarray(shares) * total / np.sum(shares)
    assert (np.abs(np.asarray(counts) - exact) < 1).all()


def test_an_epoch_has_its_counts_and_every_structure_its_turn():
    sizes, samples = [10, 7], [4, 16]
    seen = Counter()
    for epoch in range(20):
        members = epoch_members(sizes, samples, 3, epoch)
        first, second = members[members < 10], members[members >= 10]
        assert (len(first), len(second)) == (4, 16)
        # 16 of 7 structures: each twice, and two more.
        assert min(Counter(second.tolist()).values()) == 2
        seen.update(members.tolist())
        spread = [seen[i] for i in range(10)], [seen[i] for i in range(10, 17)]
        assert all(max(counts) - min(counts) <= 1 for counts in spread)
    assert [seen[i] for i in range(10)] == [8] * 10  # 20 epochs of 4 are 8 passes


def test_members_follow_seed_and_epoch():
    sizes, samples = [100, 100], [30, 100]
    one, again, epoch, seed = (
        epoch_members(sizes, samples, *key) for key in ((0, 5), (0, 5), (0, 6), (1, 5))
    )
    np.testing.assert_array_equal(one, again)
    for other in (epoch, seed):
        assert set(other[other < 100].tolist()) != set(one[one < 100].tolist())
    assert sorted(epoch_members(sizes, sizes, 0, 5).tolist()) == list(range(200))


def test_any_part_of_an_epoch_can_be_had_alone():
    sizes, samples = [100, 7], [30, 23]
    whole = epoch_members(sizes, samples, 3, 11)
    np.testing.assert_array_equal(
        whole[20:41], epoch_members(sizes, samples, 3, 11, np.arange(20, 41))
    )


@pytest.mark.parametrize("size", [1, 1000, 1 << 16])
def test_short_and_long_orders_are_permutations_looked_up_by_place(size):
    whole = shuffled(np.arange(size), size, (3, 1))
    np.testing.assert_array_equal(np.sort(whole), np.arange(size))
    some = np.arange(size // 2, size)[:20]
    np.testing.assert_array_equal(shuffled(some, size, (3, 1)), whole[some])


def test_two_data_sets_are_not_shuffled_alike():
    members = epoch_members([50, 50], [20, 20], 0, 0)
    first, second = members[members < 50], members[members >= 50]
    assert set(first.tolist()) != set((second - 50).tolist())


def test_an_epoch_of_jmp_shows_its_largest_set_whole():
    settings = build(
        DataSettings,
        {
            "train": [{"name": n, "kind": "generate", "generator": "slabs"} for n in "abcd"],
            "mixture": {"kind": "temperature", "epoch": "largest"},
        },
    )
    parts: Any = [{"train": range(size)} for size in JMP_SIZES]
    counts = _limit(parts, settings, None)
    assert counts[2] == JMP_SIZES[2]
    assert all(count >= size for count, size in zip(counts, JMP_SIZES, strict=True))
    assert sum(counts) == pytest.approx(174e6, rel=1e-3)
    even = build(DataSettings, {"train": [settings.train[0]] * 1, "mixture": {"epoch": "largest"}})
    assert _limit([{"train": range(1806)}], even, None) == [1806]
    with pytest.raises(ConfigError, match=r'epoch="largest".*max_structures=5'):
        _limit(parts, settings, 5)


def test_imagined_epoch_holds_the_heaviest():
    members = spread_members([np.array([1, 9, 5, 7]), np.array([2, 3])], [2, 1])
    assert members.tolist() == [1, 0, 5]


@pytest.fixture
def sets(molecule):
    rng = np.random.default_rng(0)
    return [
        GraphDataset(name, [molecule(int(n), seed=i) for i, n in enumerate(atoms)])
        for name, atoms in (("a", rng.integers(4, 12, 40)), ("b", rng.integers(4, 25, 12)))
    ]


def drawn(batch) -> list[tuple[int, int]]:
    real = batch.targets.structure >= 0
    pairs = zip(batch.targets.dataset[real], batch.targets.structure[real], strict=True)
    return [(int(d), int(i)) for d, i in pairs]


@pytest.mark.parametrize("num_devices", [1, 2])
def test_loader_keeps_the_counts(sets, num_devices):
    loader = BatchLoader(
        sets, batch_size=8, epochs=3, samples=[16, 24], num_devices=num_devices, prefetch=0
    )
    assert (loader.steps_per_epoch, loader.num_steps, loader.samples_per_epoch) == (5, 15, 40)
    epochs = [Counter() for _ in range(3)]
    for step, batch in loader:
        epochs[step // 5].update(drawn(batch))
    for seen in epochs:
        assert sum(n for (d, _), n in seen.items() if d == 0) == 16
        assert {n for (d, _), n in seen.items() if d == 1} == {2}
    assert epochs[0] != epochs[1]
    together = epochs[0] + epochs[1] + epochs[2]
    assert {n for (d, _), n in together.items() if d == 0} == {1, 2}
    assert len([1 for d, _ in together if d == 0]) == 40


def test_what_a_step_draws_needs_no_steps_before(sets):
    settings = {"batch_size": 8, "epochs": 3, "samples": [16, 24], "prefetch": 0}
    whole = [sorted(drawn(batch)) for _, batch in BatchLoader(sets, **settings)]
    for start in (4, 5, 11):
        resumed = BatchLoader(sets, **settings).batches(start)
        assert [sorted(drawn(batch)) for _, batch in resumed] == whole[start:]


def test_shapes_hold_epochs_that_were_not_planned(molecule, monkeypatch):
    monkeypatch.setattr("atomjax.batching.epochs._PLANNED", 800)
    atoms = np.random.default_rng(0).integers(4, 12, 300)
    atoms[7] = 60  # comes every third epoch
    sets = [GraphDataset("a", [molecule(int(n), seed=i) for i, n in enumerate(atoms)])]
    loader = BatchLoader(sets, batch_size=25, epochs=20, samples=[100], prefetch=0)
    assert sum(len(drawn(batch)) for _, batch in loader) == 2000


def test_samples_are_checked(sets):
    with pytest.raises(ValueError, match="positive number for each of the 2 data sets"):
        BatchLoader(sets, batch_size=4, samples=[8])
    with pytest.raises(ValueError, match=r"samples is \[8, 0\]"):
        BatchLoader(sets, batch_size=4, samples=[8, 0])


def test_the_data_card_says_the_shares(sets):
    loader = BatchLoader(sets, batch_size=8, epochs=2, samples=[16, 24])
    assert describe_mixture(loader) == [
        "share       0.4000 a: 16 samples an epoch, 0.4 × its 40 structures",
        "share       0.6000 b: 24 samples an epoch, 2 × its 12 structures",
    ]
    assert describe_budget(loader) == (
        "C = 2 epochs × 40 samples of 52 structures = 80 samples in 10 steps"
    )
    assert describe_mixture(BatchLoader(sets[:1], batch_size=8)) == []
