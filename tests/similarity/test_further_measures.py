"""Measures beside the CSI: against other implementations, known values, and merging."""

import csv
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ase.io import write
from scipy import linalg, stats
from scipy.spatial.distance import cdist

from atomjax.launch import main
from atomjax.recipes.own_sets import csi_config
from atomjax.runtime.config import ConfigError
from atomjax.similarity.analysis.uncertainty import gap_between, jackknife_table
from atomjax.similarity.features.collect import SetFeatures
from atomjax.similarity.features.summaries import SetRows, Summary, SummaryCollector, blocks_of
from atomjax.similarity.measures.composition import (
    ELEMENT_OVERLAP,
    FORMULA_OVERLAP,
    SIZE_GAP,
)
from atomjax.similarity.measures.csi import CSI
from atomjax.similarity.measures.measure import Measure
from atomjax.similarity.measures.mmd import MMD, WIDTHS, shares_of_widths
from atomjax.similarity.measures.neighbors import (
    COVERAGE,
    DENSITY,
    KID,
    NEIGHBORS,
    OVERLAP,
    PRINCIPAL,
    counts_in_reach,
    whitening,
)
from atomjax.similarity.measures.registry import BUILT_IN, DEFAULT
from atomjax.similarity.measures.sliced_wasserstein import SLICED_WASSERSTEIN, _directions
from atomjax.similarity.measures.transport import CLASS_MIXTURES, CLASSES, ELEMENT_MIXTURES
from tests.own_files import labelled
from tests.similarity.samples import Population, features_of

ROOT = Path(__file__).resolve().parents[2]
FURTHER = [measure for measure in BUILT_IN if measure not in DEFAULT]
SUMMARIES = list({s.name: s for measure in FURTHER for s in measure.needs}.values())


def rows_of(values: np.ndarray, owner: np.ndarray, numbers: np.ndarray | None = None) -> SetRows:
    numbers = np.ones(len(values), int) if numbers is None else numbers
    nothing = np.zeros((len(values), 3))
    return SetRows(values, owner, np.ones(len(values)), numbers, nothing[:, 0], nothing)


def collected(summary: Summary, rows: SetRows, batches: int = 1) -> dict[str, np.ndarray]:
    collector = SummaryCollector(summary)
    for some in np.array_split(np.unique(rows.structure), batches):
        part = rows.take(np.isin(rows.structure, some))
        collector.add(part, part.structure)
    return dict(collector.result())


def a_set(
    values: np.ndarray,
    owner: np.ndarray,
    numbers: np.ndarray | None = None,
    needs: Sequence[Summary] = SUMMARIES,
) -> SetFeatures:
    """Features with all that the further measures need, or that one needs."""
    rows = rows_of(values, owner, numbers)
    features = features_of(values, owner, rows.atomic_numbers)
    structures = features.structures.structures
    blocks = {s.name: blocks_of(collected(s, rows), structures) for s in needs}
    return dataclasses.replace(features, blocks=blocks)


def kept_points(features: SetFeatures) -> np.ndarray:
    return np.asarray(features.blocks["points"].arrays["point"], float)


def gaussian(
    count: int,
    seed: int,
    shift: float = 0.0,
    width: int = 6,
    needs: Sequence[Summary] = SUMMARIES,
) -> SetFeatures:
    """Structures of one atom, of unit covariance about ``shift`` in each feature."""
    values = np.random.default_rng(seed).normal(size=(count, width)) + shift
    return a_set(values, np.arange(count), needs=needs)


def value(measure: Measure, upstream: SetFeatures, downstream: SetFeatures) -> float:
    return float(measure.tabulate([upstream], [downstream]).distance[0, 0])


@pytest.mark.parametrize("summary", SUMMARIES, ids=lambda s: s.name)
def test_summaries_merge_whatever_the_batches(summary):
    values, owner = Population(5, seed=1).draw(23, seed=2)
    numbers = np.random.default_rng(3).choice([1, 6, 8], len(values))
    once, often = (collected(summary, rows_of(values, owner, numbers), n) for n in (1, 7))
    assert once.keys() == often.keys()
    for name, array in once.items():
        np.testing.assert_allclose(often[name], array, rtol=1e-5, atol=1e-6)


def test_mmd_is_that_of_the_kernel():
    a, b = (Population(6, seed=i).draw(300, seed=i) for i in (1, 2))
    first, task = a_set(*a), a_set(*b)
    chosen = {name: array.sum(axis=0)[None] for name, array in task.blocks["waves"].arrays.items()}
    shares = shares_of_widths(chosen)[0]
    assert shares.sum() == pytest.approx(1)
    assert np.count_nonzero(shares) <= 2
    # The width is how far two rows of the task are apart.
    apart = np.sqrt((cdist(b[0], b[0]) ** 2).mean() / 6)
    assert 2.0 ** (shares @ np.log2(WIDTHS)) == pytest.approx(apart, rel=0.15)

    def kernel(x, y):
        squares = cdist(x, y, "sqeuclidean") / 6
        widths = (shares[:, None, None], WIDTHS[:, None, None])
        return (widths[0] * np.exp(-squares / (2 * widths[1] ** 2))).sum(axis=0)

    exact = kernel(a[0], a[0]).mean() + kernel(b[0], b[0]).mean() - 2 * kernel(a[0], b[0]).mean()
    assert value(MMD, first, task) == pytest.approx(exact, rel=0.25)
    assert value(MMD, task, task) == pytest.approx(0, abs=1e-9)


def test_mmd_of_gaussians_is_known_and_converges():
    shift, width = 0.7, 6
    found = [value(MMD, gaussian(n, 1), gaussian(n, 2, shift)) for n in (50, 400, 3000)]
    chosen = gaussian(3000, 2, shift).blocks["waves"].choose(np.ones((1, 3000)))
    shares = shares_of_widths(chosen)[0]
    # E k(x, y) of Gaussians of unit covariance, and a kernel of variance s: a Gaussian of s + 2.
    variances = WIDTHS**2 * width
    peak = (variances / (variances + 2)) ** (width / 2)
    gap = np.exp(-(shift**2) * width / (2 * (variances + 2)))
    exact = float(shares @ (2 * peak * (1 - gap)))
    assert found[2] == pytest.approx(exact, rel=0.2)
    assert abs(found[0] - found[2]) > abs(found[1] - found[2])
    assert found[0] > found[2]


def test_sliced_wasserstein_is_that_of_scipy():
    a, b = (Population(6, seed=i).draw(300, seed=i) for i in (1, 2))
    lines = _directions(6)
    expected = np.mean([stats.wasserstein_distance(a[0] @ line, b[0] @ line) for line in lines.T])
    found = value(SLICED_WASSERSTEIN, a_set(*a), a_set(*b))
    assert found == pytest.approx(expected, rel=2e-3)
    assert found == pytest.approx(value(SLICED_WASSERSTEIN, a_set(*b), a_set(*a)), rel=1e-9)


def test_sliced_wasserstein_of_shifted_gaussians_is_known_and_converges():
    shift = 0.7
    exact = shift * np.abs(_directions(6).sum(axis=0)).mean()
    needs = SLICED_WASSERSTEIN.needs

    def error(count: int) -> float:
        sets = (gaussian(count, 1, needs=needs), gaussian(count, 2, shift, needs=needs))
        return abs(value(SLICED_WASSERSTEIN, *sets) - exact)

    errors = [error(n) for n in (50, 20_000)]
    assert errors[1] < min(errors[0], 0.02 * exact)


def test_coverage_and_density_are_those_of_the_definition():
    task = np.random.default_rng(1).normal(size=(700, 3)) * [1, 3, 0.1]
    candidate = np.random.default_rng(2).normal(size=(40, 3)) * [0.3, 1, 0.03]
    root = np.linalg.inv(np.linalg.cholesky(np.cov(task, rowvar=False))).T
    inside = cdist(task @ root, task @ root)
    reach = np.sort(inside, axis=1)[:, NEIGHBORS]
    expected = (cdist(task @ root, candidate @ root) <= reach[:, None]).sum(axis=1)
    np.testing.assert_array_equal(counts_in_reach(candidate, task), expected)
    sets = [a_set(x, np.arange(len(x))) for x in (candidate, task)]
    assert value(COVERAGE, *sets) == pytest.approx((expected > 0).mean())
    assert value(DENSITY, *sets) == pytest.approx(expected.sum() / (NEIGHBORS * 40))


def test_coverage_sees_what_a_candidate_lacks():
    task, alike, far = gaussian(300, 1), gaussian(300, 2), gaussian(300, 3, shift=6.0)
    assert value(COVERAGE, alike, task) > 0.9
    assert value(DENSITY, alike, task) == pytest.approx(1, abs=0.15)
    assert value(COVERAGE, far, task) == 0
    few = gaussian(NEIGHBORS, 4)
    assert np.isnan(value(COVERAGE, alike, few))


def test_what_depends_on_the_number_of_structures_keeps_its_bias():
    sets = [gaussian(30, seed, shift) for seed, shift in ((1, 0), (2, 1), (3, 0))]
    points, waves = ([s.blocks[name] for s in sets] for name in ("points", "waves"))
    gap = gap_between(*points, measure=COVERAGE, resamples=2).jackknife
    assert gap.corrected == gap.estimate > 0
    table = jackknife_table(points[:2], points[2:], measure=COVERAGE)
    np.testing.assert_array_equal(table.corrected, table.estimate)
    table = jackknife_table(waves[:2], waves[2:], measure=MMD)
    assert (table.corrected < table.estimate).all()


def test_overlap_is_that_of_kernel_densities():
    task, candidate = (gaussian(n, seed) for n, seed in ((200, 1), (90, 2)))
    ours, theirs = kept_points(task), kept_points(candidate)
    root = whitening(ours)[:, -PRINCIPAL:]
    ours, theirs = ours @ root, theirs @ root
    width = 200 ** (-1 / (root.shape[1] + 4))
    near = np.exp(-(cdist(ours, ours) ** 2) / (2 * width**2))
    np.fill_diagonal(near, 0)
    p = near.sum(axis=1) / 199
    q = np.exp(-(cdist(ours, theirs) ** 2) / (2 * width**2)).mean(axis=1)
    assert value(OVERLAP, candidate, task) == pytest.approx(np.minimum(1, q / p).mean())
    assert value(OVERLAP, gaussian(200, 3), task) > 0.7
    assert value(OVERLAP, gaussian(200, 3, shift=9.0), task) < 0.01
    assert np.isnan(value(OVERLAP, candidate, gaussian(1, 4)))


def test_kernel_distance_is_unbiased():
    task, candidate = (gaussian(n, seed, s) for n, seed, s in ((60, 1, 0.0), (40, 2, 0.5)))
    ours, theirs = kept_points(task), kept_points(candidate)
    mean, scale = ours.mean(axis=0), np.sqrt(ours.var(axis=0).sum())
    x, y = (theirs - mean) / scale, (ours - mean) / scale
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in
              ((1 + x @ x.T) ** 3, (1 + y @ y.T) ** 3)]  # fmt: skip
    expected = sum(within) - 2 * np.mean((1 + x @ y.T) ** 3)
    assert value(KID, candidate, task) == pytest.approx(expected)
    # Of one distribution it is zero on average, however few the structures.
    alike = [value(KID, gaussian(8, 100 + i), gaussian(12, 200 + i)) for i in range(200)]
    assert abs(np.mean(alike)) < 4 * np.std(alike) / np.sqrt(200)
    assert np.isnan(value(KID, candidate, gaussian(1, 4)))


def test_formulas_elements_and_sizes_are_counted():
    def molecules(*formulas: list[int]) -> SetFeatures:
        numbers = np.concatenate(formulas)
        owner = np.repeat(np.arange(len(formulas)), [len(one) for one in formulas])
        return a_set(np.random.default_rng(0).normal(size=(len(numbers), 4)), owner, numbers)

    upstream = molecules([8, 1, 1], [1, 8, 1], [6, 1, 1, 1, 1])
    task = molecules([1, 1, 8], [1, 1, 8], [8, 8], [7, 1, 1, 1])
    assert value(FORMULA_OVERLAP, upstream, task) == pytest.approx(2 / 4)
    assert value(FORMULA_OVERLAP, task, upstream) == pytest.approx(2 / 3)
    assert value(ELEMENT_OVERLAP, upstream, task) == pytest.approx(11 / 12)
    assert value(SIZE_GAP, upstream, task) == pytest.approx(11 / 3 - 3)
    assert FORMULA_OVERLAP.near == ELEMENT_OVERLAP.near == "large"


def test_mixtures_carry_atoms_from_element_to_element() -> None:
    """Two elements against three: the best plan is found by trying all that there can be."""
    rng = np.random.default_rng(0)

    def mixture(places: dict[int, tuple[float, int]]) -> SetFeatures:
        rows = [rng.normal(place, 1 + place / 9, size=(n, 3)) for place, n in places.values()]
        numbers = np.repeat(list(places), [len(one) for one in rows])
        return a_set(np.concatenate(rows), np.arange(len(numbers)), numbers)

    first = mixture({1: (0.0, 60), 6: (5.0, 40)})
    second = mixture({1: (0.5, 20), 8: (4.0, 30), 29: (9.0, 50)})
    costs = np.array(
        [
            [value(CSI, lone(first, z), lone(second, other)) for other in second.elements]
            for z in first.elements
        ]
    )
    found = value(ELEMENT_MIXTURES, first, second)
    # Tenths of the atoms of element 1 that become 1 and 8; the rest follows.
    plans = [
        np.array([[a, b, 6 - a - b], [2 - a, 3 - b, 5 - (6 - a - b)]]) / 10
        for a in np.linspace(0, 2, 41)
        for b in np.linspace(0, 3, 61)
        if 1 <= a + b <= 6
    ]
    assert found == pytest.approx(min((plan * costs).sum() for plan in plans), rel=1e-9)
    assert value(ELEMENT_MIXTURES, second, first) == pytest.approx(found, rel=1e-9)
    assert value(ELEMENT_MIXTURES, first, first) == pytest.approx(0, abs=1e-9)
    one = lone(first, 6), lone(second, 8)
    assert value(ELEMENT_MIXTURES, *one) == pytest.approx(value(CSI, *one), rel=1e-9)


def test_mixtures_carry_structures_from_class_to_class() -> None:
    """Four formulas on either side, of as many structures: the best plan is an assignment."""
    rng = np.random.default_rng(1)
    # Formulas of structures of one atom are their elements; columns differ in width.
    places = rng.normal(size=(2, 4, 1, 5)) * np.array([3, 1, 1, 1, 0.5])
    sides = places + rng.normal(size=(2, 4, 10, 5)) * np.array([0.5, 0.7]).reshape(2, 1, 1, 1)
    numbers = np.repeat([1, 6, 7, 8], 10)
    first, second = (a_set(one.reshape(40, 5), np.arange(40), numbers) for one in sides)
    points = [kept_points(one).reshape(4, 10, 5) for one in (first, second)]
    means = [one.mean(axis=1) for one in points]
    plans = itertools.permutations(range(4))
    carried = min(((means[0] - means[1][list(p)]) ** 2).sum(axis=1).mean() for p in plans)
    within = [np.cov((p - p.mean(1)[:, None]).reshape(40, 5).T, bias=True) for p in points]
    root = np.real(linalg.sqrtm(within[0] @ within[1]))
    expected = carried + np.trace(within[0] + within[1] - 2 * root)
    assert value(CLASS_MIXTURES, first, second) == pytest.approx(expected, rel=1e-9)
    assert value(CLASS_MIXTURES, second, first) == pytest.approx(expected, rel=1e-9)
    assert value(CLASS_MIXTURES, first, first) == pytest.approx(0, abs=1e-9)


def test_mixtures_by_class_take_the_classes_with_most_structures() -> None:
    rng = np.random.default_rng(2)
    count = CLASSES + 10
    # Formulas X to X_n of one element; all but the first ten have two structures.
    sizes = np.repeat(np.arange(1, count + 1), np.where(np.arange(count) < 10, 1, 2))
    owner = np.repeat(np.arange(len(sizes)), sizes)
    values = rng.normal(size=(len(sizes), 3))[owner]
    all_of_them = a_set(values, owner)
    rest = owner >= 10
    kept = a_set(values[rest], owner[rest] - 10)
    assert value(CLASS_MIXTURES, all_of_them, kept) == pytest.approx(0, abs=1e-6)


def lone(features: SetFeatures, element: int) -> SetFeatures:
    """The atoms of one element as a set."""
    statistics = features.elements[element]
    return dataclasses.replace(features, parts=(statistics,), elements={element: statistics})


def test_none_of_them_reads_labels() -> None:
    assert not any(summary.labels for summary in SUMMARIES)


def test_a_config_that_names_none_has_the_measures_of_before():
    assert [measure.name for measure in DEFAULT] == ["csi", "within_elements"]
    assert len({measure.name for measure in BUILT_IN}) == len(BUILT_IN)


def test_own_files_are_compared_by_every_measure(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for name, seed, molecule in (
        ("near", 1, "CH3CH2OH"), ("far", 2, "H2O"), ("task", 3, "CH3CH2OH"),
    ):  # fmt: skip
        write(f"{name}.xyz", labelled(12, seed, molecule), format="extxyz")
    own = f"--config={ROOT / 'configs' / 'csi' / 'own.py'}"
    assert main([f"{own}:near.xyz,far.xyz,task=task.xyz", "--workdir=run"]) == 0
    with (tmp_path / "run" / "csi.csv").open() as file:
        rows = {row["upstream"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"near", "far"}
    for measure in BUILT_IN:
        near, far = (float(rows[name][measure.name]) for name in ("near", "far"))
        assert measure.sign * (far - near) > 0, measure.name
        if measure.resampling is not None:
            ending = "" if measure.name == "csi" else f"_{measure.name}"
            assert rows["far"][f"distinguishable{ending}"] == "True"
            assert rows["near"][f"distinguishable{ending}"] == "False"
    assert float(rows["near"]["formula_overlap"]) == 1
    report = (tmp_path / "run" / "report.md").read_text()
    assert all(f"- **{measure.label}**" in report for measure in BUILT_IN)
    capfd.readouterr()
    assert main([f"{own}:near.xyz", "--workdir=other"]) == 2
    assert "takes candidates and a task" in capfd.readouterr().err


def test_sets_of_one_name_are_numbered(tmp_path):
    paths = [tmp_path / folder / "set.xyz" for folder in ("a", "b")]
    for path in (*paths, tmp_path / "task.xyz"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    config = csi_config(",".join(map(str, (*paths, tmp_path / "task.xyz"))), ["csi"])
    names = [one["name"] for one in (*config.candidates, *config.downstream)]
    assert names == ["set_1", "set_2", "task"]
    with pytest.raises(ConfigError, match=r"option .tsk. of the config is unknown.*task"):
        csi_config("a.xyz,tsk=b.xyz", ["csi"])
