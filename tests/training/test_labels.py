"""What a head wants and what its data sets hold: counted, and an error before step 0."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atomjax.batching import GraphDataset
from atomjax.data.fingerprint import describe_change, fingerprint
from atomjax.data.labels import (
    LabelCounts,
    check_energy_kind,
    check_energy_unit,
    trained_on,
    unwanted_labels,
)
from atomjax.data.load import DataSplits, load_datasets
from atomjax.data.settings import DatasetSettings, DataSettings
from atomjax.runtime.config import ConfigError, build
from atomjax.runtime.run import Run
from atomjax.structures import PropertyScale, References, Structure
from atomjax.structures.readers import UnusedKeysWarning, read
from atomjax.structures.store import Conversion, Store, convert, write_store
from atomjax.structures.units import energy_factor
from atomjax.training.labels import check_labels, check_states, check_unchanged
from atomjax.training.running.evaluate import StructurePrediction
from atomjax.training.running.predictions import evaluated_set
from atomjax.training.settings import HeadSettings, TargetSettings
from atomjax.training.update.tasks import Task


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


def test_a_head_of_energies_predicts_no_forces() -> None:
    """Though the structures of a store have some, and rows of the evaluation zeros."""
    molecule = ion(0, 0)
    dataset = GraphDataset("set", [molecule], references=References.fit([molecule]), index=0)
    row = StructurePrediction(0, 0, 0.0, np.zeros((3, 3)), {}, np.zeros((3, 3)))
    found = evaluated_set([row], dataset, 0, Task(name="set", kind="energy"))
    assert "force_mae_mev_per_angstrom" not in found.errors()
    assert found.errors().keys() >= {"energy_mae_mev"}
    found = evaluated_set([row], dataset, 0, Task(name="set"))
    assert "force_mae_mev_per_angstrom" in found.errors()
    assert found.stresses is None


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("stored", [False, True])
def test_structures_without_any_property_of_the_head_are_an_error(part, stored, tmp_path) -> None:
    rest = {"atomic_numbers": [1], "positions": [[0, 0, 0]]}
    structures: Sequence[Structure] = [
        Structure(**rest, targets={"gap": 1.0}, identifier="first"),
        Structure(**rest, identifier="second"),
    ]
    if stored:
        structures = write_store(tmp_path / "s", structures)
    splits = DataSplits(train=[])
    getattr(splits, part).append(GraphDataset("set", structures, index=0))
    head = HeadSettings(kind="scalar", targets=(TargetSettings(name="gap"),))
    entry = build(DatasetSettings, {"name": "set", "kind": "store", "path": "s"})
    with pytest.raises(ConfigError, match=r"1 of the 2 .* none of the targets gap, .* second"):
        check_labels(head, splits, [entry])


def test_a_store_of_forces_alone_is_trained_on(tmp_path) -> None:
    bare = Structure(atomic_numbers=[1], positions=[[0, 0, 0]], forces=np.zeros((1, 3)))
    splits = DataSplits(train=[GraphDataset("set", write_store(tmp_path / "s", [bare]), index=0)])
    entry = build(DatasetSettings, {"name": "set", "kind": "store", "path": str(tmp_path / "s")})
    check_labels(HEAD, splits, [entry])
    with pytest.raises(ConfigError, match="has no energies"):
        check_labels(HeadSettings(kind="energy"), splits, [entry])


def test_a_part_without_a_label_is_an_error(cases: Path, tmp_path: Path) -> None:
    entry = {"name": "metals", "kind": "read", "energy_kind": "total"}
    entry = {**entry, "energy_unit": "eV", "length_unit": "Å"}
    train = {**entry, "path": str(cases / "nan_info.xyz")}
    other = {**entry, "path": str(cases / "energy_capital.xyz")}
    settings = build(DataSettings, {"train": [train], "validation": [other]})
    with pytest.warns(UnusedKeysWarning):
        splits = load_datasets(settings, Run(tmp_path / "run"))
    message = r"validation structures .* has an energy.*24 records .* hold 'energy'; in this part"
    with pytest.raises(ConfigError, match=message):
        check_labels(HEAD, splits, settings.train)


def ion(charge: float, spin: float, *, odd: bool = False, shift: float = 0.0) -> Structure:
    """Hydroxide or, with an odd number of electrons where neutral, the hydroxyl radical."""
    return Structure(
        atomic_numbers=[8, 1] if odd else [8, 1, 1],
        positions=[[0, 0, 0], [0, 0, 0.97 + shift], [0, 0.97, 0]][: 2 if odd else 3],
        energy=-75.0,
        forces=np.zeros((2 if odd else 3, 3)),
        targets={"charge": charge, "spin": spin},
    )


def test_charges_and_spins_that_no_model_reads_are_refused_unless_ignored(tmp_path: Path) -> None:
    def check(*structures: Structure, ignored: bool = False, targets: Sequence[str] = ()) -> Any:
        dataset = GraphDataset("ions", structures, references=References.fit(structures))
        head = HeadSettings(targets=tuple(TargetSettings(name=name) for name in targets))
        return check_states(head, DataSplits(train=[dataset]), ignored=ignored)

    # Singlets and doublets as multiplicities, as unpaired electrons, and the atoms' own spin.
    for singlet, doublet in ((1, 2), (0, 1), (0, 0.5)):
        assert check(ion(0, singlet), ion(0, doublet, odd=True)) == []
    with pytest.raises(ConfigError, match=r"ions: spin 1 of 1, 3 of 1 training.*ignore_charge"):
        check(ion(0, 1), ion(0, 3))
    with pytest.raises(ConfigError, match="spin 0 of 1, 1 of 1 training"):
        check(ion(0, 0), ion(0, 1))
    mixed = ion(-1, 1, odd=True), ion(0, 1), ion(0, 1, shift=0.01)
    with pytest.raises(ConfigError, match="ions: charge -1 of 1, 0 of 2 training structures"):
        check(*mixed)
    with pytest.raises(ConfigError, match="ions: charge -1 of 1 training structures"):
        check(mixed[0])
    (line,) = check(*mixed, ignored=True)
    assert line.startswith("ions: charge -1 of 1, 0 of 2 training structures, ignored")
    assert check(*mixed, targets=["charge"]) == []
    store = write_store(tmp_path / "store", mixed)
    assert check(*mixed, ignored=True) == check_states(
        HEAD, DataSplits(train=[GraphDataset("ions", store)]), ignored=True
    )


def test_charges_are_read_whatever_targets_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "ions.xyz"
    path.write_text("1\ngap=1.0 width=2.0 total_charge=-1 multiplicity=1\nF 0 0 0\n")
    for targets in (None, ["gap"]):
        (found,) = read(path, "extxyz", targets=targets)
        states = {name: found.targets[name] for name in ("total_charge", "multiplicity")}
        assert states == {"total_charge": -1.0, "multiplicity": 1.0}
        assert ("width" in found.targets) == (targets is None)


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
    splits = load_datasets(settings, Run(tmp_path / "run"), energies=False)
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


def hydroxyl(periodic: bool = False, forces: bool = False) -> Structure:
    return Structure(
        atomic_numbers=[8, 1],
        positions=[[0, 0, 0], [0, 0, 1]],
        cell=9 * np.eye(3) if periodic else None,
        pbc=periodic,
        energy=-1.0,
        forces=np.zeros((2, 3)) if forces else None,
        targets={"mu": 1.0},
    )


def check(head: HeadSettings, structures: Sequence[Structure]) -> None:
    splits = DataSplits(train=[GraphDataset("set", structures, index=0)])
    check_labels(head, splits, [DatasetSettings(name="set", kind="store", path="set")])


@pytest.mark.parametrize("stored", [False, True])
def test_any_periodic_structure_is_refused_by_moments_of_charges(
    tmp_path: Path, stored: bool
) -> None:
    dipole = HeadSettings(
        kind="scalar", targets=(TargetSettings(name="mu", unit="D", pooling="dipole"),)
    )
    structures = [hydroxyl(), hydroxyl(), hydroxyl(periodic=True)]
    given = write_store(tmp_path / "store", structures) if stored else structures
    with pytest.raises(ConfigError, match='"dipole" is for molecules, and 1 training'):
        check(dipole, given)
    check(dipole, given[:2])


def test_labels_of_a_store_are_looked_up_without_reading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_store(tmp_path / "store", [hydroxyl(), hydroxyl(forces=True)])
    monkeypatch.setattr(Store, "_read", lambda *_: pytest.fail("a structure was read"))
    check(HEAD, store)
    with pytest.raises(ConfigError, match=r"none of the 1 training structures .* has forces"):
        check(HEAD, store[:1])


def test_an_element_without_reference_names_structure_and_part() -> None:
    train, other = (
        [hydroxyl(forces=True)],
        Structure(
            atomic_numbers=[79],
            positions=np.zeros((1, 3)),
            energy=1.0,
            forces=np.zeros((1, 3)),
            identifier="gold.xyz:7",
        ),
    )
    references = References.fit([train[0]])
    splits = DataSplits(
        train=[GraphDataset("set", train, references=references, index=0)],
        validation=[GraphDataset("set", [other], references=references, index=0)],
    )
    declared = [DatasetSettings(name="set", kind="store", path="set")]
    with pytest.raises(ConfigError, match=r"validation structure .*gold\.xyz:7.*reference for Au"):
        check_labels(HEAD, splits, declared)
    # So it does where shares of a property are fitted.
    known, unknown = (replace(one, targets={"u": 1.0}) for one in (*train, other))
    scales = [PropertyScale.fit([known, known], "u", extensive=True)]
    splits = DataSplits(
        train=[GraphDataset("set", [known], scales=scales, index=0)],
        test=[GraphDataset("set", [unknown], scales=scales, index=0)],
    )
    head = HeadSettings(kind="scalar", targets=(TargetSettings(name="u"),))
    with pytest.raises(ConfigError, match=r"test structure .*gold\.xyz:7.*reference for Au"):
        check_labels(head, splits, declared)


def test_total_energies_are_no_adsorption_energies(tmp_path: Path) -> None:
    slab = Structure(
        atomic_numbers=[29] * 40, positions=2.5 * np.arange(120.0).reshape(40, 3), energy=-160.0
    )
    for given in ([slab] * 3, write_store(tmp_path / "store", [slab] * 3)):
        with pytest.raises(ConfigError, match="as total energies do"):
            check_energy_kind("slabs", "adsorption", given)
        check_energy_kind("slabs", "total", given)
    check_energy_kind("slabs", "adsorption", [hydroxyl()])
    guessed = DatasetSettings(name="slabs", kind="read", path="a.lmdb")
    assert guessed.energy_kind is None
    oc20 = DatasetSettings(name="slabs", kind="read", path="a.lmdb", format="oc20")
    assert oc20.energy_kind == "adsorption"


@pytest.mark.parametrize("unit", ["Ha", "kcal/mol", "kJ/mol", "Ry", "eV"])
def test_energies_of_all_electrons_tell_their_unit(tmp_path: Path, unit: str) -> None:
    def molecules(factor: float) -> list[Structure]:
        """Water and methane, whose energies in Ha are multiplied by a factor."""
        energies = {(8, 1, 1): -76.42, (6, 1, 1, 1, 1): -40.52}
        return [
            Structure(
                atomic_numbers=numbers,
                positions=np.arange(3.0 * len(numbers)).reshape(-1, 3),
                energy=factor * energy,
            )
            for numbers, energy in energies.items()
        ]

    written = molecules(energy_factor("Ha") / energy_factor(unit))
    for given in (written, write_store(tmp_path / "store", written)):
        if unit == "eV":
            check_energy_unit("waters", "eV", given)
        else:
            with pytest.raises(ConfigError, match=f"energy_unit='{unit}'"):
                check_energy_unit("waters", "eV", given)
    check_energy_unit("waters", unit, molecules(energy_factor("Ha")))
    if unit != "Ha":
        with pytest.raises(ConfigError, match="energy_unit='Ha'"):
            check_energy_unit("waters", unit, molecules(energy_factor(unit)))
    # Energies of valence electrons tell nothing, and those of one molecule leave a doubt.
    assert check_energy_unit("waters", unit, molecules(3.0)) == ""
    if unit != "eV":
        assert f"energy_unit='{unit}'" in check_energy_unit("waters", "eV", written[:1] * 2)
