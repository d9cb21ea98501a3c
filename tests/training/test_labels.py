"""What a head wants and what its data sets hold: counted, and an error before step 0."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atomjax.data.fingerprint import describe_change, fingerprint
from atomjax.data.labels import LabelCounts, trained_on, unwanted_labels
from atomjax.data.load import DataSplits, load_datasets
from atomjax.data.settings import DataSettings
from atomjax.runtime.config import ConfigError, build
from atomjax.runtime.run import Run
from atomjax.structures import Structure
from atomjax.structures.readers import UnusedKeysWarning, read
from atomjax.structures.store import Conversion, Store, convert, write_store
from atomjax.training.labels import check_labels, check_unchanged
from atomjax.training.settings import HeadSettings


def load(path: Path, run: Path, head: HeadSettings, **fields: Any) -> DataSplits:
    entry = {"name": "metals", "kind": "read", "path": str(path), "energy_kind": "total"}
    units = {"energy_unit": "eV", "length_unit": "Å"}
    settings = build(DataSettings, {"train": [{**entry, **units, **fields}]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        splits = load_datasets(settings, Run(run), forces=head.forces is not None)
    check_labels(head, splits, settings.train)
    return splits


HEAD = HeadSettings(kind="energy_forces", forces="direct")


def test_energies_under_another_key_are_an_error_that_names_it(cases: Path, tmp_path: Path) -> None:
    path = cases / "energy_capital.xyz"
    message = r"none of the 24 training structures.*an energy.*hold: Energy.*energy_key='Energy'"
    with pytest.raises(ConfigError, match=message):
        load(path, tmp_path / "a", HEAD)
    splits = load(path, tmp_path / "b", HEAD, arguments={"energy_key": "Energy"})
    assert LabelCounts.of(splits.train[0].structures).energy == 24
    splits = load(path, tmp_path / "c", HEAD, energy_kind="none")
    assert LabelCounts.of(splits.train[0].structures).energy == 0


def test_a_part_without_a_label_is_an_error(cases: Path, tmp_path: Path) -> None:
    entry = {"name": "metals", "kind": "read", "energy_kind": "total"}
    entry = {**entry, "energy_unit": "eV", "length_unit": "Å"}
    train = {**entry, "path": str(cases / "nan_info.xyz")}
    other = {**entry, "path": str(cases / "energy_capital.xyz")}
    settings = build(DataSettings, {"train": [train], "validation": [other]})
    with pytest.warns(UnusedKeysWarning):
        splits = load_datasets(settings, Run(tmp_path / "run"))
    with pytest.raises(ConfigError, match=r"validation structures .* has an energy"):
        check_labels(HEAD, splits, settings.train)


def test_a_store_remembers_the_keys_of_its_files(cases: Path, tmp_path: Path) -> None:
    path = str(cases / "energy_capital.xyz")
    options = {"energy_unit": "eV", "length_unit": "Å"}
    convert(Conversion(paths=(path,), options=options, energy_kind="total"), tmp_path / "store")
    entry = {"name": "metals", "kind": "store", "path": str(tmp_path / "store")}
    settings = build(DataSettings, {"train": [entry]})
    splits = load_datasets(settings, Run(tmp_path / "run"))
    assert "24 records hold 'Energy'" in splits.origins[0]
    with pytest.raises(ConfigError, match="energy_key='Energy'"):
        check_labels(HEAD, splits, settings.train)


def test_stores_and_lists_count_alike(cases: Path, tmp_path: Path) -> None:
    structures = read(cases / "nan_info.xyz")
    store = write_store(tmp_path / "store", structures)
    assert LabelCounts.of(store) == LabelCounts.of(structures)
    assert trained_on(Store(tmp_path / "store"), energy=False) == {
        **trained_on(structures),
        "energy": 0,
    }
    part = store.subset(store.class_ids == store.class_ids[0])
    assert LabelCounts.of(part).structures == len(part)


def test_labels_that_nobody_wants_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    comment = "Properties=species:S:1:pos:R:3:forces:R:3 energy=nan gap=1.0"
    path.write_text(f"1\n{comment}\nH 0 0 0 nan 0 0\n" * 2)
    entry = {"name": "gaps", "kind": "read", "path": str(path), "energy_kind": "total"}
    units = {"energy_unit": "eV", "length_unit": "Å"}
    settings = build(DataSettings, {"train": [{**entry, **units}]})
    splits = load_datasets(settings, Run(tmp_path / "run"), properties=("gap",))
    assert len(splits.train[0]) == 2
    assert unwanted_labels(energies=True, forces=True, stress=True) == {}
    assert unwanted_labels(energies=True, forces=False, stress=False) == {
        "forces_key": "",
        "stress_key": "",
    }


def test_what_changed_in_the_data_is_said(cases: Path, tmp_path: Path) -> None:
    structures = read(cases / "nan_info.xyz")
    first, before = structures[0], fingerprint(structures)
    assert describe_change(before, fingerprint(list(structures))) is None
    cut = describe_change(before, fingerprint(structures[1:]))
    assert cut == "it had 24 structures and has 23"
    turned = describe_change(before, fingerprint(structures[::-1]))
    assert turned == "its structures come in another order"
    names = ("atomic_numbers", "positions", "cell", "pbc", "energy", "forces")
    fields = {name: getattr(first, name) for name in names}
    other = Structure(**{**fields, "energy": 7.0})
    assert describe_change(before, fingerprint([other, *structures[1:]])) == "its labels are others"
    moved = Structure(**{**fields, "positions": first.positions + 0.1})
    change = describe_change(before, fingerprint([moved, *structures[1:]]))
    assert change == "its structures are others"
    store = write_store(tmp_path / "store", structures)
    turned = describe_change(fingerprint(store), fingerprint(store.subset(np.arange(24)[::-1])))
    assert turned == "its structures come in another order"


def test_a_resume_compares_the_data_unless_the_config_asks_for_others(
    cases: Path, tmp_path: Path
) -> None:
    path = tmp_path / "metals.xyz"
    text = (cases / "nan_info.xyz").read_text()
    path.write_text(text)
    splits = load(path, tmp_path / "run", HEAD)
    config = {"data": {"train": [{"path": str(path)}]}}
    kept = {"metals": {"fingerprints": splits.fingerprints(0)}}
    resumed = {"config": config, "datasets": kept}
    assert check_unchanged(resumed, splits, config) is None
    path.write_text("".join(text.splitlines(keepends=True)[6:]))
    changed = load(path, tmp_path / "again", HEAD)
    change = check_unchanged(resumed, changed, config)
    assert change == 'train part of dataset "metals": it had 24 structures and has 23'
    assert check_unchanged(resumed, changed, {"data": {}}) is None
    assert check_unchanged({**resumed, "datasets": {"metals": {}}}, changed, config) is None
