"""Distances within elements, and the choice of structures inside a set."""

import numpy as np
import pytest

from atomjax.runtime.files import DamagedFile
from atomjax.similarity.analysis import selection
from atomjax.similarity.analysis.selection import (
    select_by_variance,
    select_covering,
    select_farthest,
    select_greedily,
    select_nearest,
)
from atomjax.similarity.analysis.uncertainty import gap_between
from atomjax.similarity.features import structure_sums
from atomjax.similarity.features.structure_sums import (
    StoredSums,
    StructureSums,
    StructureSumsBuilder,
    writing_sums,
)
from atomjax.similarity.measures.elements import compare_elements, element_shares
from atomjax.similarity.measures.frechet import frechet_distance
from atomjax.similarity.workflow.selection_job import summed_statistics
from tests.similarity.samples import Population, statistics_of


def test_elements_say_why_a_set_is_far():
    rng = np.random.default_rng(0)
    hydrogen, carbon = rng.normal(size=(60, 4)), rng.normal(size=(20, 4)) + 3
    moved, copper = hydrogen + np.array([2, 0, 0, 0]), rng.normal(size=(20, 4))
    downstream = {z: statistics_of(r) for z, r in ((1, hydrogen), (6, carbon), (29, copper))}
    upstream = {z: statistics_of(r) for z, r in ((1, moved), (6, carbon), (8, copper))}
    found = compare_elements(upstream, downstream)
    assert set(found.distance) == {"H", "C"}
    np.testing.assert_allclose(found.distance["H"], 4)
    assert found.distance["C"] == 0
    assert found.share == {"H": 0.6, "C": 0.2, "Cu": 0.2}
    assert found.unseen == ("Cu",)
    assert found.unseen_share == pytest.approx(0.2)
    np.testing.assert_allclose(found.mean_distance, 4 * 0.6 / 0.8)
    assert element_shares(upstream) == {"H": 0.6, "C": 0.2, "O": 0.2}


def test_sets_without_common_elements():
    only = {1: statistics_of(np.ones((3, 2)))}
    other = {2: statistics_of(np.ones((3, 2)))}
    found = compare_elements(only, other)
    assert found.unseen_share == 1
    assert np.isnan(found.mean_distance)
    with pytest.raises(ValueError, match="no atoms to compare"):
        compare_elements(only, {})


TARGET, OTHER = Population(5, seed=1), Population(5, seed=2, shift=2.0)


@pytest.fixture(scope="module")
def candidates() -> tuple[list[np.ndarray], StructureSums]:
    """300 structures, a third of which are of the target's population, in random order."""
    pieces = []
    for population, count, seed in ((TARGET, 100, 5), (OTHER, 200, 6)):
        rows, owner = population.draw(count, seed)
        pieces += [rows[owner == i] for i in range(count)]
    order = np.random.default_rng(0).permutation(300)
    pieces = [pieces[i] for i in order]
    builder = StructureSumsBuilder(None)
    owner = np.repeat(np.arange(300), [len(p) for p in pieces])
    builder.add(np.concatenate(pieces), owner)
    return pieces, builder.result()


@pytest.mark.parametrize("select", [select_nearest, select_greedily])
def test_selected_structures_are_closer_than_random_ones(candidates, select):
    pieces, sums = candidates
    target = TARGET.sums(150, 9)
    rows = statistics_of(TARGET.draw(150, 9)[0])
    chosen = select(sums, target, 60)
    assert len(set(chosen.tolist())) == 60

    def distance(indices) -> float:
        return frechet_distance(statistics_of(np.concatenate([pieces[i] for i in indices])), rows)

    random = np.random.default_rng(1).permutation(300)[:60]
    assert distance(chosen) < 0.35 * distance(random)


def test_greedy_choice_matches_the_covariance_that_the_nearest_loses(candidates):
    pieces, sums = candidates
    target = TARGET.sums(150, 9)
    traces = [
        np.trace(np.cov(np.concatenate([pieces[i] for i in select(sums, target, 40)]).T))
        for select in (select_nearest, select_greedily)
    ]
    exact = np.trace(TARGET.covariance)
    assert traces[0] < 0.75 * exact
    assert abs(traces[1] - exact) < 0.15 * exact


def test_greedy_picks_minimise_the_quadratic_form(candidates):
    _, sums = candidates
    target = TARGET.sums(150, 9)
    first = int(select_greedily(sums, target, 1)[0])
    # By brute force: whitened moments of every candidate alone.
    rows = TARGET.draw(150, 9)[0]
    mean, cov = rows.mean(axis=0), np.cov(rows, rowvar=False, ddof=0)
    values, vectors = np.linalg.eigh(cov)
    whiten = vectors / np.sqrt(values)
    gaps = []
    for piece in candidates[0]:
        z = (piece - mean) @ whiten
        second = z.T @ z / len(z)
        gaps.append((z.mean(axis=0) ** 2).sum() + 0.25 * ((second - np.eye(5)) ** 2).sum())
    assert first == int(np.argmin(gaps))


def whitened_means(pieces, directions=5) -> tuple[np.ndarray, np.ndarray]:
    """Means of the candidates and of the task's structures, in the task's coordinates."""
    rows, owner = TARGET.draw(150, 9)
    values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False, ddof=0))
    whiten = vectors / np.sqrt(values)
    task = [rows[owner == i].mean(axis=0) for i in range(150)]
    means = [piece.mean(axis=0) for piece in pieces]
    return (means - rows.mean(axis=0)) @ whiten, (task - rows.mean(axis=0)) @ whiten


def test_farthest_picks_are_farthest(candidates):
    pieces, sums = candidates
    points, _ = whitened_means(pieces)
    chosen = select_farthest(sums, TARGET.sums(150, 9), 20).tolist()
    assert chosen[0] == np.argmin(np.linalg.norm(points, axis=1))
    for i in range(1, 20):
        gaps = np.linalg.norm(points[:, None] - points[chosen[:i]], axis=2).min(axis=1)
        assert chosen[i] == np.argmax(gaps)


def test_variance_picks_are_least_known(candidates):
    pieces, sums = candidates
    points, _ = whitened_means(pieces)
    points = np.concatenate([points, np.ones((300, 1))], axis=1)
    chosen = select_by_variance(sums, TARGET.sums(150, 9), 20).tolist()
    kernel = points @ points.T
    for i in range(20):
        before = chosen[:i]
        known = kernel[np.ix_(before, before)] + selection.LABEL_NOISE * np.eye(i)
        lowered = kernel[:, before] @ np.linalg.solve(known, kernel[before])
        variances = np.diag(kernel - lowered).copy()
        variances[before] = -1
        assert chosen[i] == np.argmax(variances)
    # Greedily towards a large determinant, so larger than at random.
    gram = [points[one].T @ points[one] for one in (chosen, np.arange(20))]
    assert np.linalg.slogdet(gram[0])[1] > np.linalg.slogdet(gram[1])[1]


def test_covering_picks_are_near_every_structure_of_the_task(candidates):
    pieces, sums = candidates
    points, task = whitened_means(pieces)
    distances = np.linalg.norm(task[:, None] - points, axis=2)
    chosen = select_covering(sums, TARGET.sums(150, 9), 20).tolist()
    assert len(set(chosen)) == 20
    for i in range(1, 20):
        totals = np.minimum(distances, distances[:, chosen[:i]].min(axis=1)[:, None]).sum(axis=0)
        assert totals[chosen[i]] == pytest.approx(np.delete(totals, chosen[:i]).min(), rel=1e-5)
    random = np.random.default_rng(1).permutation(300)[:20]
    near = distances[:, chosen].min(axis=1).mean()
    assert near < 0.8 * distances[:, random].min(axis=1).mean()


def test_covering_goes_on_when_the_task_is_covered(candidates):
    _, sums = candidates
    everything = select_covering(sums, TARGET.sums(150, 9), 300)
    assert sorted(everything.tolist()) == list(range(300))


def test_selection_names_what_is_wrong(candidates):
    _, sums = candidates
    with pytest.raises(ValueError, match="cannot select 301 of 300 structures"):
        select_greedily(sums, TARGET.sums(9, 0), 301)
    flat = StructureSumsBuilder(None)
    flat.add(np.ones((4, 5)), np.arange(4))
    with pytest.raises(ValueError, match="do not vary"):
        select_nearest(sums, flat.result(), 3)


def test_sums_of_structures_and_selection_share_one_set(candidates):
    _, sums = candidates
    target = TARGET.sums(150, 9)
    chosen = select_greedily(sums, target, 80)
    counts, totals, products = (a[chosen] for a in (sums.counts, sums.sums, sums.products))
    picked = StructureSums(counts, totals, products, sums.center, sums.structures[chosen])
    assert gap_between(picked, sums, target, resamples=60).clear()


def test_sums_on_disk_select_what_sums_in_memory_do(candidates, tmp_path, monkeypatch):
    pieces, sums = candidates
    monkeypatch.setattr(structure_sums, "CHUNK", 7)
    monkeypatch.setattr(selection, "ROWS", 11)
    order = np.random.default_rng(2).permutation(300)
    with writing_sums(tmp_path, 300, seed=0) as writer:
        # In any order, as batches sorted by size come.
        for start in range(0, 300, 40):
            chosen = order[start : start + 40]
            rows = np.concatenate([pieces[i] for i in chosen])
            writer.add(rows, np.repeat(chosen, [len(pieces[i]) for i in chosen]))
    stored = StoredSums(tmp_path, "extract again")
    assert (len(stored), stored.dimension) == (300, 5)
    chosen = np.array([3, 299, 0])
    np.testing.assert_allclose(stored.take(chosen).counts, sums.take(chosen).counts)
    target = TARGET.sums(150, 9)
    for select in (
        select_nearest,
        select_greedily,
        select_farthest,
        select_by_variance,
        select_covering,
    ):
        np.testing.assert_array_equal(select(stored, target, 40), select(sums, target, 40))
    ours, theirs = (summed_statistics(s, np.arange(300)) for s in (stored, sums))
    np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-12)
    np.testing.assert_allclose(ours.scatter, theirs.scatter, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("name", ["sums.npy", "sums.json"])
def test_damaged_sums_on_disk_are_named(candidates, tmp_path, name):
    pieces, _ = candidates
    with writing_sums(tmp_path, 1, seed=0) as writer:
        writer.add(pieces[0], np.zeros(len(pieces[0]), int))
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DamagedFile, match=rf"{name}.*damaged.*extract again"):
        StoredSums(tmp_path, "extract again")


def test_sums_that_were_not_finished_leave_no_file(candidates, tmp_path):
    pieces, _ = candidates

    def interrupted() -> None:
        with writing_sums(tmp_path, 2, seed=0) as writer:
            writer.add(pieces[0], np.zeros(len(pieces[0]), int))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
