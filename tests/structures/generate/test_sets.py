"""Whole sets: the same whatever makes them, made once, and failures that say what happened."""

import io

import numpy as np
import pytest
from rich.console import Console

from atomjax.runtime.progress import Display
from atomjax.structures.generate import (
    GenerateError,
    GenerateSpec,
    cache_path,
    default_cache_dir,
    generate,
    generate_with_report,
    sets,
)

SPEC = {
    "kind": "slabs",
    "count": 6,
    "seed": 3,
    "size": [2, 2, 3],
    "adsorbates": ["O", "CO"],
    "systems": 3,
    "max_force": 4.0,
}


def test_the_number_of_workers_changes_nothing(tmp_path):
    one, first = generate_with_report(SPEC, tmp_path / "a", workers=1, progress=False)
    two, second = generate_with_report(SPEC, tmp_path / "b", workers=2, progress=False)
    assert len(one) == 6
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.dropped == second.dropped
    assert [s.identifier for s in two] == [f"slabs:{i}" for i in range(6)]


def test_a_set_is_made_once_and_read_after(tmp_path, monkeypatch):
    made, first = generate_with_report(SPEC, tmp_path, workers=1, progress=False)
    assert not first.cached
    assert [p.name for p in tmp_path.iterdir()] == [first.path.name]

    def forbidden(*args):
        raise AssertionError("made again")

    monkeypatch.setattr(sets, "run_workers", forbidden)
    read, second = generate_with_report(SPEC, tmp_path, workers=1, progress=False)
    assert second.cached
    assert second.dropped == first.dropped
    assert second.kept == first.kept == 6
    for a, b in zip(made, read, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.forces, b.forces)
        assert (a.energy, a.class_key, a.identifier) == (b.energy, b.class_key, b.identifier)


def test_drops_are_reported(tmp_path):
    output = io.StringIO()
    display = Display(Console(file=output, width=200))
    _, report = generate_with_report({**SPEC, "max_force": 1.0}, tmp_path, 1, display)
    assert report.dropped["force above the limit"] > 0
    assert f"{report.dropped['force above the limit']} force above the limit" in str(report)
    assert "labelling slabs: 6/6" in output.getvalue()
    assert str(report) in output.getvalue().replace("\n", " ")


def test_the_cache_knows_specs_apart(tmp_path):
    paths = {
        cache_path(GenerateSpec.from_mapping({**SPEC, **changes}), tmp_path)
        for changes in ({}, {"seed": 4}, {"count": 7}, {"rattle": 0.2}, {"systems": 2})
    }
    assert len(paths) == 5
    default = GenerateSpec.from_mapping({**SPEC, "fixed_layers": 2})
    assert cache_path(default, tmp_path) == cache_path(GenerateSpec.from_mapping(SPEC), tmp_path)


def test_a_new_generator_or_package_makes_a_new_set(tmp_path, monkeypatch):
    spec = GenerateSpec("conformers", 3)
    first = cache_path(spec, tmp_path)
    monkeypatch.setattr(sets, "code_digest", lambda name: f"another {name}")
    assert cache_path(spec, tmp_path) != first


def test_the_cache_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("ATOMJAX_CACHE_DIR", str(tmp_path / "here"))
    assert default_cache_dir() == tmp_path / "here"
    monkeypatch.delenv("ATOMJAX_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "atomjax"


def test_a_damaged_cache_is_made_again_and_says_so(tmp_path):
    path = cache_path(GenerateSpec.from_mapping(SPEC), tmp_path)
    expected = generate(SPEC, tmp_path, progress=False)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    output = io.StringIO()
    display = Display(Console(file=output, width=1000))
    found, report = generate_with_report(SPEC, tmp_path, progress=display)
    assert f"{path} is damaged: it does not match its checksum" in output.getvalue()
    assert not report.cached
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
    assert generate_with_report(SPEC, tmp_path, progress=False)[1].cached


def test_a_failing_task_stops_everything_with_its_reason(tmp_path):
    with pytest.raises(GenerateError, match=r"gave up after .*force above the limit"):
        generate({**SPEC, "max_force": 1e-6}, tmp_path, workers=2, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_dying_worker_is_an_error_with_its_last_words(tmp_path, monkeypatch):
    monkeypatch.setattr(sets, "WORKER_MODULE", "atomjax.structures.no_such_module")
    with pytest.raises(GenerateError, match=r"labelling slabs: .*no_such_module"):
        generate(SPEC, tmp_path, workers=2, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_before_any_work(tmp_path, monkeypatch):
    def absent(name):
        raise sets.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(sets.importlib.metadata, "version", absent)
    with pytest.raises(GenerateError, match=r"tblite.*pip install 'atomjax\[demo\]'"):
        generate({"kind": "conformers", "count": 1}, tmp_path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "slabs"}, "needs count"),
        ({"kind": "slab", "count": 1}, "did you mean 'slabs'"),
        ({"kind": "slabs", "count": 0}, "count must be an integer from 1 on, got 0"),
        ({"kind": "slabs", "count": 2, "seed": -1}, "seed must be"),
        ({"kind": "slabs", "count": 2, "sise": 3}, "Did you mean 'size'"),
    ],
)
def test_wrong_specs_are_refused(spec, message, tmp_path):
    with pytest.raises(GenerateError, match=message):
        generate(spec, tmp_path)
