"""The measure of CONTRIBUTING.md, run as by who wrote it; and what else a measure may be."""

import csv
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atomjax.launch import main
from atomjax.runtime.config import ConfigError
from atomjax.similarity import (
    MEASURES,
    Blocks,
    Measure,
    Resampling,
    SetFeatures,
    SetRows,
    Summary,
    Values,
    collect_features,
    find_measures,
    read_features,
    register_measure,
    write_features,
)
from atomjax.similarity.analysis.comparison import compare
from atomjax.similarity.analysis.recommendation import recommend
from atomjax.similarity.features.cache import ExtractedSet
from atomjax.similarity.measures.csi import CSI
from atomjax.similarity.measures.registry import BUILT_IN
from atomjax.similarity.settings import SimilaritySettings
from atomjax.similarity.workflow.measure_tables import describe_intervals
from tests.similarity.samples import Population, features_of
from tests.similarity.test_features import extractor
from tests.similarity.test_job import crowded, make_config
from tests.training.standin import make_batch, random_structures
from tests.training.workflow import write_structures

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def registry():
    yield MEASURES
    for name in set(MEASURES) - {measure.name for measure in BUILT_IN}:
        del MEASURES[name]


@pytest.mark.slow
def test_a_measure_in_one_file_is_in_report_and_results(tmp_path, monkeypatch, registry, capfd):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"^## Adding a measure\n.*?^```python\n(.*?)^```", text, re.DOTALL | re.M)
    (tmp_path / "my_mmd.py").write_text(code)
    for seed, name in enumerate(("near", "task")):
        write_structures(tmp_path / f"{name}.extxyz", 12, seed=seed)
    crowded(tmp_path / "far.extxyz", 12)
    short = ["--config.resamples=40", "--config.keep_features=True"]
    sampling = "--config.sampling={'strategy': 'random', 'size': 12}"
    command = ["--config=my_mmd.py", "--workdir=run", sampling, *short]
    assert main(command) == 0
    with Path("run", "csi.csv").open() as file:
        rows = {row["upstream"]: row for row in csv.DictReader(file)}
    near, far = rows["near"], rows["far"]
    assert float(near["my_mmd"]) < float(far["my_mmd"])
    assert float(near["my_mmd_flat-norms"]) < float(far["my_mmd_flat-norms"])
    assert far["distinguishable_my_mmd"] == "True"
    assert 0 < float(far["noise_floor_my_mmd"]) < float(far["my_mmd"])
    assert 0 < float(far["lower_my_mmd"]) <= float(far["upper_my_mmd"])
    assert float(far["infinite_my_mmd"]) == pytest.approx(float(far["my_mmd"]), rel=0.5)

    # The same from all feature rows at once.
    namespace: dict[str, Any] = {}
    exec(compile(code, "my_mmd.py", "exec"), namespace)
    sums = {}
    for name in ("near", "far", "task"):
        (folder,) = Path("run", "features").glob(f"{name}-*")
        values = np.load(folder / "rows.npz")["rows"]
        nothing = np.zeros(0)
        kept = namespace["waves"](
            SetRows(values, nothing, np.ones(len(values)), nothing, nothing, nothing)
        )
        sums[name] = {key: np.asarray(array)[None] for key, array in kept.items()}
    for name, row in rows.items():
        expected = namespace["squared_gap"](sums[name], sums["task"])[0]
        assert float(row["my_mmd"]) == pytest.approx(expected, rel=1e-5)

    report = Path("run", "report.md").read_text()
    assert "- **my MMD** (`my_mmd`; small is near): the squared maximum mean discrepancy" in report
    assert "| my MMD | my MMD, flat-norms | within elements |" in report
    summary = json.loads(Path("run", "csi.json").read_text())
    columns = {one["column"]: one for one in summary["measures"]}
    assert columns["my_mmd"] == {
        "column": "my_mmd", "variant": "flat", "name": "my_mmd", "label": "my MMD", "near": "small",
        "symmetric": True,
    }  # fmt: skip

    # It may decide, on the features that are there.
    capfd.readouterr()
    assert main([*command, "--config.measures=['my_mmd','csi']", "--accept-changes"]) == 0
    shown = capfd.readouterr().out
    assert shown.count("features of an earlier run") == 3
    assert re.search(r"For task, .*\(my MMD ", shown)
    again = json.loads(Path("run", "csi.json").read_text())
    assert again["recommendations"][0]["measure"] == "my MMD"
    assert again["pairs"][0]["csi"] == summary["pairs"][0]["csi"]


def inner(features: SetFeatures) -> Blocks:
    """Sums of the features of every block, without their projection."""
    sums = features.structures
    return Blocks({"sum": sums.sums + sums.counts[:, None] * sums.center, "n": sums.counts},
                  sums.structures)  # fmt: skip


def overlap(first: Any, second: Any) -> np.ndarray:
    """One for means that coincide, less the farther apart they are."""
    mean, other = (chosen["sum"] / chosen["n"][:, None] for chosen in (first, second))
    return np.exp(-((mean - other) ** 2).sum(axis=1) / 4)


OVERLAP = Measure(
    name="overlap", label="overlap", near="large", resampling=Resampling(inner, overlap)
)


def extracted(name: str, population: Population, seed: int) -> ExtractedSet:
    features = features_of(*population.draw(60, seed))
    return ExtractedSet(
        name, 60, 60, "structure", 60, 1.0, {}, {"flat": features}, np.zeros((1, 1))
    )


def test_a_measure_whose_large_values_are_near_may_decide():
    near, far = Population(5, seed=1), Population(5, seed=2, shift=2.0)
    sets = [extracted("far", far, 1), extracted("near", near, 2)], [extracted("task", near, 3)]
    found = compare(*sets, measures=[OVERLAP, CSI], mixtures=["balanced"], resamples=60)
    table = found.table
    assert table.distance[0, 0] < table.distance[1, 0] <= 1
    assert table.above is not None
    assert table.above[:, 0].tolist() == [True, False]
    assert table.floor is not None
    assert table.distance[0, 0] < table.floor[0, 0] < 1
    assert table.floor[1, 0] < table.distance[1, 0]
    assert table.lower is not None
    assert 0 <= table.lower[0, 0] < table.distance[0, 0] + 0.05
    (choice,) = recommend(found)
    assert choice.ranking == ("near", "far")
    assert choice.clear
    assert choice.reranked is None
    assert not choice.outside
    # Moments alone do not give it for mixtures, and nothing says how its bias falls.
    assert found.mixtures == {}
    assert np.isnan(list(found.halves.values())).all()
    record = found.records()[0]
    assert "infinite" not in record
    assert {"overlap", "lower", "csi", "infinite_csi", "mean_term_csi"} <= set(record)


def test_a_report_says_what_intervals_are_about():
    population = Population(5, seed=1)
    sets = [extracted("near", population, 2)], [extracted("task", population, 3)]
    at_size = Resampling(inner, overlap, about_infinite=False)
    words = {OVERLAP: "infinitely many structures, at 95%; they correct for the bias"}
    words[dataclasses.replace(OVERLAP, resampling=at_size)] = "these numbers of structures, at 95%."
    for measure, said in words.items():
        found = compare(*sets, measures=[measure], resamples=5)
        assert said in describe_intervals(found)


def test_measures_are_documented():
    text = (ROOT / "docs" / "csi.md").read_text()
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    told = {row[0].strip().strip("`"): [cell.strip() for cell in row[1:]] for row in rows}
    for measure in BUILT_IN:
        _, near, symmetric, _, drawn, extrapolated = told[measure.name]
        assert near == measure.near
        facts = measure.symmetric, measure.resampling is not None, measure.extrapolates
        assert [symmetric, drawn, extrapolated] == ["yes" if fact else "no" for fact in facts]


def labels(rows: SetRows) -> dict[str, np.ndarray]:
    """Lowest energy, the largest force, and the formulas of all structures."""
    formulas = [rows.atomic_numbers[rows.structure == i] for i in np.unique(rows.structure)]
    return {
        "energy": np.nanmin(rows.energy),
        "force": np.nanmax(np.abs(rows.forces)),
        "formulas": np.unique(["-".join(map(str, np.sort(f))) for f in formulas]),
    }


def union(first: Any, second: Any) -> dict[str, np.ndarray]:
    return {
        "energy": np.minimum(first["energy"], second["energy"]),
        "force": np.maximum(first["force"], second["force"]),
        "formulas": np.union1d(first["formulas"], second["formulas"]),
    }


LABELS = Summary("labels", labels, merge=union)
COUNTS = Summary("counts", lambda rows: {"rows": rows.weights.sum()}, by_block=True)


def test_summaries_merge_whatever_the_batches_and_are_kept(tmp_path):
    structures = random_structures(12, seed=4)
    found = []
    for size in (12, 5):
        batches = [
            make_batch(structures[i : i + size], graphs=14, nodes=90) for i in range(0, 12, size)
        ]
        found.append(collect_features(extractor, batches, summaries=(LABELS, COUNTS)))
    write_features(tmp_path / "set.npz", found[1])
    found.append(read_features(tmp_path / "set.npz"))
    formulas = {"-".join(map(str, sorted(s.atomic_numbers.tolist()))) for s in structures}
    for features in found:
        kept = features.summaries["labels"]
        assert set(kept["formulas"].tolist()) == formulas
        lowest = min(s.energy for s in structures if s.energy is not None)
        np.testing.assert_allclose(kept["energy"], lowest, rtol=1e-5)
        largest = max(float(np.abs(s.forces).max()) for s in structures if s.forces is not None)
        np.testing.assert_allclose(kept["force"], largest, rtol=1e-5)
        blocks = features.blocks["counts"]
        np.testing.assert_array_equal(
            blocks.arrays["rows"], [len(s.atomic_numbers) for s in structures]
        )
        thin = features.thinned(2)
        total = sum(part.blocks["counts"].arrays["rows"].sum() for part in thin)
        assert total == features.num_atoms


def test_what_a_measure_lacks_is_named(tmp_path, registry):
    def nothing(upstream: Any, downstream: Any) -> Values:
        return Values(np.zeros((len(upstream), len(downstream))))

    plain = register_measure(Measure(name="plain", label="plain", table=nothing))
    assert find_measures(["plain", "atomjax.similarity.measures.csi:CSI"]) == [plain, CSI]
    with pytest.raises(ConfigError, match=r"'plane' is not registered\. Did you mean 'plain'"):
        SimilaritySettings.from_config(make_config(tmp_path, measures=["csi", "plane"]))
    with pytest.raises(
        ConfigError, match=r'"plain" knows neither interval .* first that does: csi'
    ):
        SimilaritySettings.from_config(make_config(tmp_path, measures=["plain", "csi"]))
    with pytest.raises(ConfigError, match="must all be different"):
        SimilaritySettings.from_config(make_config(tmp_path, measures=["csi", "csi"]))
    with pytest.raises(ValueError, match='"csi" comes with atomjax'):
        register_measure(dataclasses.replace(CSI, label="mine"))
    with pytest.raises(ValueError, match="give table, parts or resampling"):
        Measure(name="none", label="none")
    with pytest.raises(ValueError, match="arrays have to add"):
        Summary("labels", labels, merge=union, by_block=True)
    needy = Measure(name="needy", label="needy", table=nothing, needs=(LABELS,))
    features = features_of(*Population(3, seed=1).draw(8, 1))
    with pytest.raises(ValueError, match="needs the summaries labels, which the features"):
        needy.tabulate([features], [features])
