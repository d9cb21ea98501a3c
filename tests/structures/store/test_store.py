"""Stores: what comes back, how large it is, damage, statistics."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from atomjax.data import labels
from atomjax.structures import References, Structure
from atomjax.structures.store import StatisticsAccumulator, Store, StoreError, write_store


def make(count: int, seed: int = 0) -> list[Structure]:
    """Molecules and slabs, with every field set somewhere, positions exact in float32."""
    rng = np.random.default_rng(seed)
    structures = []
    for i in range(count):
        n = int(rng.integers(2, 12))
        slab, bulk = i % 3 == 0, i % 6 == 0
        structures.append(
            Structure(
                atomic_numbers=rng.choice([1, 6, 8], n),
                positions=rng.normal(scale=5, size=(n, 3)).astype(np.float32),
                cell=np.diag([9.0, 9.1, 30.0 + i / 7]) if slab else None,
                pbc=True if bulk else (True, True, False) if slab else False,
                tags=rng.integers(0, 3, n) if slab else None,
                fixed=rng.random(n) < 0.3 if slab else None,
                energy=None if i % 5 == 0 else -1e5 + float(rng.normal()),
                forces=None if i % 7 == 0 else rng.normal(size=(n, 3)).astype(np.float32),
                stress=np.diag(rng.normal(size=3)) if bulk else None,
                targets={"gap": i / 3} if i % 4 else {},
                class_key=f"class {i % 3}",
                source="set",
                identifier=f"file-007.h5:C2H6O:{i}:sid{i * 1000}",
            )
        )
    return structures


def assert_same(first: Structure, second: Structure) -> None:
    for name in ("atomic_numbers", "positions", "cell", "pbc", "tags", "fixed", "forces", "stress"):
        a, b = getattr(first, name), getattr(second, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype, name
            assert not b.flags.writeable, name
            np.testing.assert_array_equal(a, b)
    for name in ("energy", "targets", "class_key", "source", "identifier"):
        assert getattr(first, name) == getattr(second, name), name


@pytest.fixture
def structures() -> list[Structure]:
    return make(25)


@pytest.fixture
def store(structures, tmp_path) -> Store:
    return write_store(tmp_path / "store", structures, shard_size=10)


def test_every_field_comes_back_in_any_order(store, structures):
    assert len(store) == 25
    assert len(store.manifest["shards"]) == 3
    for i in (24, 0, 9, 10, 19, 20, 3):
        assert_same(structures[i], store[i])
    assert_same(structures[-2], store[-2])
    for a, b in zip(structures, store, strict=True):
        assert_same(a, b)
    with pytest.raises(IndexError, match="index 25 of 25"):
        store[25]


def test_double_precision_is_kept_on_request(tmp_path):
    third = Structure(atomic_numbers=[1, 1], positions=[[0, 0, 0], [1 / 3, 0, 1]], energy=1 / 3)
    double = write_store(tmp_path / "double", [third], precision="float64")[0]
    single = write_store(tmp_path / "single", [third])[0]
    assert double.positions[1, 0] == 1 / 3 == double.energy == single.energy
    assert single.positions[1, 0] == np.float32(1 / 3)


def test_parts_know_their_sizes_and_classes(store, structures):
    part = store[3:20].subset(np.array([5, 0, 16]))
    own = [structures[i] for i in (8, 3, 19)]
    for a, b in zip(own, part, strict=True):
        assert_same(a, b)
    assert part.n_atom.tolist() == [len(s) for s in own]
    assert [part.class_keys[i] for i in part.class_ids] == [s.class_key for s in own]
    for label in ("energy", "forces", "stress"):
        assert part.labelled(label).tolist() == [getattr(s, label) is not None for s in own]
    assert store.periodic.tolist() == [s.is_periodic for s in structures]
    drawn = store.sample(6)
    assert len(drawn) == 6
    assert (np.diff(drawn.indices) > 0).all()
    assert store.sample(100) is store


def test_it_can_be_sent_to_a_process(store, structures):
    part = store[5:9]
    assert set(part.__getstate__()) == {"path", "indices", "index"}
    # A copy takes the same way as what is sent.
    for a, b in zip(structures[5:9], copy.copy(part), strict=True):
        assert_same(a, b)


def test_it_is_no_larger_than_raw_float32_arrays(tmp_path):
    rng = np.random.default_rng(0)
    molecules = [
        Structure(
            atomic_numbers=np.full(15, 6),
            positions=rng.normal(scale=5, size=(15, 3)),
            energy=-1.0,
            forces=rng.normal(size=(15, 3)),
            identifier=f"ani1x-release.h5:C15:{i}",
        )
        for i in range(1000)
    ]
    store = write_store(tmp_path / "store", molecules)
    raw = 1000 * (15 * (3 + 3) * 4 + 15 + 4)  # atomic numbers as bytes
    assert store.nbytes < 1.2 * raw


def test_damage_is_found_at_the_record_and_by_verify(store):
    path = store.path / "records" / "0000-000001.bin"
    store.verify()
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    again = Store(store.path)
    with pytest.raises(StoreError, match=r"0000-000001.bin: structure 10 .*damaged.*checksum"):
        again[10]
    assert len(again[11]) == len(store[11])
    with pytest.raises(StoreError, match=r"0000-000001.bin differs from its checksum"):
        again.verify()
    path.write_bytes(data[:20])
    with pytest.raises(StoreError, match="structure 19 of the store is damaged"):
        Store(store.path)[19]
    path.unlink()
    with pytest.raises(StoreError, match=r"0000-000001.bin cannot be opened"):
        Store(store.path)[12]
    with pytest.raises(StoreError, match=r"0000-000001.bin is missing"):
        store.verify()


def test_a_store_made_again_in_its_place_is_told_from_damage(store, structures):
    sent, message = store[5:9].__getstate__(), "store changed while it was read: another store"
    shutil.rmtree(store.path)
    write_store(store.path, make(25, seed=1), shard_size=10)
    with pytest.raises(StoreError, match=message):
        Store.__new__(Store).__setstate__(sent)
    with pytest.raises(StoreError, match=message):
        store[3]
    # The same again is no change.
    shutil.rmtree(store.path)
    write_store(store.path, structures, shard_size=10)
    assert_same(structures[8], copy.copy(store[5:9])[3])


def test_damage_of_the_index_is_found(store):
    energies = store.path / "index" / "energy.npy"
    whole = energies.read_bytes()
    energies.write_bytes(whole[:-8] + b"\1" * 8)
    with pytest.raises(StoreError, match=r"structure 24 .* checksum"):
        Store(store.path)[24]
    energies.write_bytes(whole[:-8])
    with pytest.raises(StoreError, match=r"energy.npy is damaged: it has 320 bytes"):
        Store(store.path)
    energies.write_bytes(whole)
    (store.path / "index" / "groups.json").write_text("[[")
    with pytest.raises(StoreError, match=r"groups.json differs from its checksum"):
        Store(store.path)


def flip(path: Path, place: int, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= bit
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["n_atom", "flags", "energy", "checksum", "group"])
def test_a_flipped_bit_of_a_column_is_found_when_it_is_read(store, name):
    path = store.path / "index" / f"{name}.npy"
    flip(path, -1)
    damaged = Store(store.path)
    with pytest.raises(StoreError, match=rf"{name}.npy differs from its checksum; copy the store"):
        damaged._column(name)
    with pytest.raises(StoreError, match=r"structure 24 of the store is damaged|group.npy differs"):
        damaged[24]
    flip(path, -1)
    flip(path, 60)
    with pytest.raises(StoreError, match=rf"{name}.npy is damaged: .* begin as 25 entries"):
        Store(store.path)


def test_a_flipped_bit_of_the_manifest_or_the_groups_is_found(store):
    for name in ("manifest.json", "index/groups.json"):
        path = store.path / name
        size = len(path.read_bytes())
        for place in range(0, size, max(size // 50, 1)):
            flip(path, place)
            with pytest.raises(StoreError, match=rf"{name} .*checksum.*; copy the store again"):
                Store(store.path)
            flip(path, place)
    assert len(Store(store.path)) == 25


def test_what_is_no_store_is_refused(tmp_path, store):
    with pytest.raises(StoreError, match=r"nowhere is no store: it has no manifest.json"):
        Store(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="not finished: run the conversion again"):
        Store(tmp_path)
    with pytest.raises(StoreError, match="holds a store; give a new folder"):
        write_store(store.path, make(1))
    with pytest.raises(StoreError, match="no structure could be read; the source is empty"):
        write_store(tmp_path / "empty", [])
    manifest = store.path / "manifest.json"
    manifest.write_text(json.dumps({"format": "other"}))
    with pytest.raises(StoreError, match="format 'other', this version reads"):
        Store(store.path)


@pytest.mark.parametrize("conservative", [False, True])
def test_references_are_those_of_the_list(store, structures, conservative):
    for ours, theirs in ((store, structures), (store[4:20], structures[4:20])):
        expected = References.fit(theirs, conservative=conservative)
        found = ours.references(conservative=conservative)
        np.testing.assert_allclose(found.element_energies, expected.element_energies, rtol=1e-9)
        assert found.energy_scale == pytest.approx(expected.energy_scale, rel=1e-6)
        assert found.force_scale == pytest.approx(expected.force_scale, rel=1e-12)


def test_rare_elements_of_a_large_part_have_references(tmp_path, monkeypatch):
    common = Structure(atomic_numbers=[1, 1], positions=[[0, 0, 0], [0, 0, 0.8]], energy=-30.0)
    rare = Structure(atomic_numbers=[2], positions=[[0, 0, 0]], energy=-70.0)
    part = write_store(tmp_path / "s", [common] * 60 + [rare] + [common] * 60)[1:]
    references = part.references(max_structures=10)
    assert references.reference_energy([2]) == pytest.approx(-70)
    monkeypatch.setattr(labels, "ELEMENT_SAMPLE", 10)
    assert labels.elements_of(part) == ["H", "He"]


def test_names_of_targets_are_compared_whole(tmp_path):
    held = Structure(atomic_numbers=[1], positions=[[0, 0, 0]], targets={"U0": 1.0, "phase": "gas"})
    store = write_store(tmp_path / "s", [held])
    found = {name: bool(store.with_target(name)[0]) for name in ("U", "U0", "p", "phase")}
    assert found == {"U": False, "U0": True, "p": False, "phase": True}


def test_references_of_compositions_that_go_together(tmp_path):
    rng = np.random.default_rng(0)
    same = [
        Structure(atomic_numbers=[6, 1], positions=[[0, 0, 0], [0, 0, d]], energy=-10.0 + d)
        for d in rng.uniform(1, 2, 9)
    ]
    found, expected = write_store(tmp_path / "s", same).references(), References.fit(same)
    np.testing.assert_allclose(found.element_energies, expected.element_energies, rtol=1e-12)
    assert found.energy_scale == pytest.approx(expected.energy_scale, rel=1e-9)
    one = write_store(tmp_path / "one", same[:1]).references()
    assert one.energy_scale == 1.0
    assert one.reference_energy([6, 1]) == pytest.approx(same[0].energy)


def test_summary(store, structures):
    summary = store.manifest["statistics"]
    energies = [s.energy for s in structures if s.energy is not None]
    free = np.concatenate([s.forces[~s.fixed] for s in structures if s.forces is not None])
    assert summary["structures"] == 25
    assert summary["mean_atoms"] == pytest.approx(np.mean([len(s) for s in structures]))
    assert summary["energy_std"] == pytest.approx(np.std(energies), rel=1e-9)
    assert summary["force_rms"] == pytest.approx(np.sqrt(np.mean(free**2)))
    assert summary["elements"]["C"] == sum(int((s.atomic_numbers == 6).sum()) for s in structures)


def test_statistics_do_not_depend_on_the_blocks(structures, monkeypatch):
    whole = StatisticsAccumulator.over(structures).summary()
    monkeypatch.setattr("atomjax.structures.store.statistics._BLOCK", 3)
    blocks = StatisticsAccumulator.over(structures).summary()
    assert blocks["energy_std"] == pytest.approx(whole["energy_std"], rel=1e-12)
    for key, value in whole["references"]["element_energies"].items():
        assert blocks["references"]["element_energies"][key] == pytest.approx(value, rel=1e-9)


def test_identifiers_keep_their_zeros(tmp_path):
    names = ["a", "", "007", "x0.10.01", "1" * 30, "12-3 µ", "1٣"]
    atoms = {"atomic_numbers": [1], "positions": [[0.0, 0.0, 0.0]]}
    store = write_store(tmp_path / "s", [Structure(**atoms, identifier=name) for name in names])
    assert [s.identifier for s in store] == names


def test_it_holds_no_pickles(store: Store):
    for path in Path(store.path).rglob("*.npy"):
        assert np.load(path, allow_pickle=False).dtype.kind in "uf"
