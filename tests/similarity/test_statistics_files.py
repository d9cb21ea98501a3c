"""Statistics of a set as one file: compared, merged, refused, damaged."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read, write

import atomjax
from atomjax.command.__main__ import main
from atomjax.data.settings import DataSettings
from atomjax.data.sources import check_source
from atomjax.runtime.config import ConfigError, build
from atomjax.runtime.files import DamagedFile, write_npz
from atomjax.similarity.statistics import (
    SetStatistics,
    merge_statistics,
    read_statistics,
    write_statistics,
)
from tests.similarity.test_job import gemnet_checkpoint
from tests.training.workflow import write_structures

SETTINGS: dict[str, Any] = {
    "extractor.graph": {"cutoff_molecule": 5.0, "max_neighbors": 6},
    "extractor.batch_size": 10,
    "sampling.strategy": "random",
    "invariants": ("none",),
    "resamples": 10,
}
MEASURES = ("csi", "mmd", "sliced_wasserstein", "coverage", "formula_overlap", "size_gap")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return gemnet_checkpoint(tmp_path_factory.mktemp("gemnet") / "gemnet")


@pytest.fixture(scope="module")
def near(tmp_path_factory) -> Path:
    return write_structures(tmp_path_factory.mktemp("near") / "near.extxyz", 24, seed=0)


@pytest.fixture(scope="module")
def keep(checkpoint: Path) -> Callable[..., SetStatistics]:
    def make(source: Any, path: Path, **settings: Any) -> SetStatistics:
        given = {**SETTINGS, **settings}
        return atomjax.statistics(source, path, checkpoint=checkpoint, settings=given)

    return make


@pytest.fixture(scope="module")
def kept(near: Path, tmp_path_factory, keep) -> Path:
    path = tmp_path_factory.mktemp("kept") / "near.statistics.npz"
    made = keep(near, path)
    assert made.made.available == 24
    assert set(MEASURES) <= set(made.measures())
    return path


def distances(candidate: Any, task: Any, checkpoint: Path) -> dict[str, float]:
    settings = {**SETTINGS, "measures": list(MEASURES)}
    table = atomjax.csi(
        {"near": candidate}, {"task": task}, checkpoint=checkpoint, size=24, settings=settings
    )
    (pair,) = table.pairs
    return {key: value for key, value in pair.items() if isinstance(value, float)}


def test_a_file_stands_for_its_set(near: Path, kept: Path, checkpoint: Path, tmp_path) -> None:
    task = write_structures(tmp_path / "task.extxyz", 24, seed=1)
    found = distances(str(kept), str(task), checkpoint)
    assert len(found) > 10
    assert found == pytest.approx(distances(str(near), str(task), checkpoint), rel=1e-12)


def test_merged_shards_are_the_whole(near: Path, kept: Path, keep, tmp_path: Path) -> None:
    frames, shards = read(near, ":"), []
    for i, part in enumerate((frames[:7], frames[7:15], frames[15:])):
        write(tmp_path / f"{i}.extxyz", part)
        shards.append(tmp_path / f"{i}.statistics.npz")
        keep(tmp_path / f"{i}.extxyz", shards[-1])
    merged, whole = merge_statistics(shards, "near"), read_statistics(kept)
    for name, features in whole.made.variants.items():
        found = merged.made.variants[name]
        assert (found.num_atoms, found.weight) == (features.num_atoms, features.weight)
        one, other = found.statistics(), features.statistics()
        np.testing.assert_allclose(one.mean, other.mean, rtol=1e-9)
        np.testing.assert_allclose(one.scatter, other.scatter, rtol=1e-9, atol=1e-9)
        assert [*found.elements] == [*features.elements]
        for thinned in found.thinned(len(found.parts)):
            # Each part has the rows of its own blocks.
            assert thinned.structures.counts.sum() == pytest.approx(float(thinned.parts[0].count))
    coverage, expected = merged.made.coverage["random"], whole.made.coverage["random"]
    tables = [
        dict(zip(s.made.class_names, c.population, strict=True))
        for s, c in ((merged, coverage), (whole, expected))
    ]
    assert tables[0] == tables[1]
    write_statistics(tmp_path / "merged.statistics.npz", merged)
    again = read_statistics(tmp_path / "merged.statistics.npz")
    assert again.describe() == merged.describe()
    assert "24 of 24 structures" in again.describe()


def test_summaries_of_no_registered_measure_are_not_merged(kept: Path, tmp_path: Path) -> None:
    known = read_statistics(kept)
    summaries = {"mine": {"sums": np.ones(3)}}
    variants = {n: replace(one, summaries=summaries) for n, one in known.made.variants.items()}
    path = tmp_path / "own.statistics.npz"
    write_statistics(path, replace(known, made=replace(known.made, variants=variants)))
    with pytest.raises(ConfigError, match="no registered measure merges mine; register"):
        merge_statistics([path, path])


def test_blocks_are_put_together_in_large_sets(kept: Path) -> None:
    features = read_statistics(kept).made.features
    fewer = features.grouped(8)
    assert (len(features.structures), len(fewer.structures)) == (17, 8)  # blocks are classes
    assert fewer.structures.structures.sum() == 24
    chosen = [one.structures.choose(np.ones((1, len(one.structures)))) for one in (features, fewer)]
    np.testing.assert_allclose(chosen[0].mean, chosen[1].mean)
    for thinned in fewer.thinned(4):
        assert thinned.structures.counts.sum() == pytest.approx(float(thinned.parts[0].count))


def test_what_was_made_in_another_way_is_refused(
    near: Path, kept: Path, keep, checkpoint: Path, tmp_path: Path
) -> None:
    for change, said in (
        ({"seed": 1}, "seed is 1"),
        ({"extractor.graph": {"cutoff_molecule": 4.0, "max_neighbors": 6}}, "extractor .* is"),
        ({"measures": ["csi"]}, "lacks .*waves"),
    ):
        other = tmp_path / "other.statistics.npz"
        keep(near, other, **change)
        with pytest.raises(ConfigError, match=said):
            merge_statistics([kept, other])
        with pytest.raises(ConfigError, match=said):
            distances(str(other), str(near), checkpoint)
    with pytest.raises(ConfigError, match="views needs structures"):
        atomjax.csi({"a": str(kept)}, str(near), settings={"views.rotations": 1})
    with pytest.raises(ConfigError, match=r"ends in \.statistics\.npz"):
        keep(near, tmp_path / "other.npz")


def test_balanced_samples_add_only_without_a_common_class(near: Path, keep, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.statistics.npz" for name in "ab"]
    for path in paths:
        keep(near, path, **{"sampling.strategy": "balanced"})
    with pytest.raises(ConfigError, match="weigh every class alike"):
        merge_statistics(paths)


def test_statistics_are_no_training_data(kept: Path) -> None:
    entry = {"name": "a", "kind": "statistics", "path": str(kept)}
    (dataset,) = build(DataSettings, {"train": [entry]}).train
    with pytest.raises(ConfigError, match="holds statistics, which can be compared"):
        check_source(dataset)


def test_damage_is_found(kept: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.statistics.npz"
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"a\.statistics\.npz.*copy it again"):
        read_statistics(path)
    write_npz(path, {"rows": np.zeros(3)})
    with pytest.raises(DamagedFile, match="holds no statistics"):
        read_statistics(path)


def test_the_command_shows_and_merges(kept: Path, tmp_path: Path, capsys) -> None:
    assert main(["statistics", str(kept)]) == 0
    assert "near: 24 of 24 structures" in capsys.readouterr().out
    output = tmp_path / "twice.statistics.npz"
    assert main(["statistics", str(kept), str(kept), "--output", str(output)]) == 0
    assert "twice: 48 of 48 structures" in capsys.readouterr().out
    assert main(["statistics", "a.xyz"]) != 0
    assert "give --output" in capsys.readouterr().err
