"""Archives: exact round trips, damage refused, no half-written file."""

import dataclasses

import numpy as np
import pytest

from atomjax.structures import Structure
from atomjax.structures.archive import ArchiveError, load_archive, save_archive
from atomjax.structures.readers import ReadError, read


@pytest.fixture
def mixed() -> list[Structure]:
    rng = np.random.default_rng(3)
    return [
        Structure(
            atomic_numbers=[6, 8],
            positions=rng.normal(size=(2, 3)),
            energy=-1.25,
            forces=rng.normal(size=(2, 3)),
            targets={"gap": 0.0, "dipole": 1 / 3},
            class_key="CO",
            source="molecules",
            identifier="molecules:0",
        ),
        Structure(
            atomic_numbers=[29],
            positions=[[0, 0, 0]],
            cell=np.eye(3) * 2.55,
            pbc=True,
            stress=np.diag([0.1, 0.2, -0.3]),
        ),
        Structure(
            atomic_numbers=[29, 1, 1],
            positions=rng.normal(size=(3, 3)),
            cell=np.diag([5.0, 5.0, 0.0]),
            pbc=[True, True, False],
            tags=[0, 2, 2],
            fixed=[True, False, False],
            energy=0.0,
        ),
    ]


def assert_same(first: Structure, second: Structure):
    for name in ("atomic_numbers", "positions", "cell", "pbc", "tags", "fixed", "forces", "stress"):
        a, b = getattr(first, name), getattr(second, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype, name
            np.testing.assert_array_equal(a, b)
    for name in ("energy", "targets", "class_key", "source", "identifier"):
        assert getattr(first, name) == getattr(second, name), name


def test_round_trip(mixed, tmp_path):
    path = save_archive(tmp_path / "deep" / "set.npz", mixed, {"seed": 3, "dropped": {}})
    structures, metadata = load_archive(path)
    assert metadata == {"seed": 3, "dropped": {}}
    assert len(structures) == len(mixed)
    for first, second in zip(mixed, structures, strict=True):
        assert_same(first, second)


def test_tags_and_targets_are_those_that_are_asked_for(mixed, tmp_path):
    path = tmp_path / "a.archive.npz"
    save_archive(path, mixed)
    assert [one.tags.tolist() for one in read(path, use_tags=False)][2] == [2, 2, 2]
    gap = {"targets": ["gap"], "target_units": {"gap": "meV"}}
    save_archive(path, [dataclasses.replace(mixed[0], targets={"gap": 5.0, "phase": "gas"})])
    assert read(path, **gap)[0].targets == pytest.approx({"gap": 0.005})
    assert read(path)[0].targets == {"gap": 5.0, "phase": "gas"}
    assert read(path, targets=["phase"])[0].targets == {"phase": "gas"}
    with pytest.raises(ReadError, match="no target lumo"):
        read(path, targets=["lumo"])


def test_an_empty_archive(tmp_path):
    assert load_archive(save_archive(tmp_path / "none.npz", [])) == ([], {})


def test_same_structures_same_bytes(mixed, tmp_path):
    first = save_archive(tmp_path / "a.npz", mixed).read_bytes()
    assert save_archive(tmp_path / "b.npz", mixed).read_bytes() == first


def test_a_truncated_archive_is_refused(mixed, tmp_path):
    path = save_archive(tmp_path / "set.npz", mixed)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ArchiveError, match=r"set\.npz.*make it again"):
        load_archive(path)


def test_another_npz_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ArchiveError, match=r"other\.npz: format"):
        load_archive(tmp_path / "other.npz")


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "evil.npz", format=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ArchiveError, match=r"evil\.npz"):
        load_archive(tmp_path / "evil.npz")


def test_a_failed_write_leaves_the_old_file_and_no_litter(mixed, tmp_path, monkeypatch):
    path = save_archive(tmp_path / "set.npz", mixed)
    before = path.read_bytes()

    def broken(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", broken)
    with pytest.raises(OSError, match="disk full"):
        save_archive(path, mixed[:1])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["set.npz"]


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_archive(tmp_path / "none.npz")
