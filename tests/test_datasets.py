"""Official data sets from a config: known units, their own splits, what was left out."""

import dataclasses
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.db import connect
from rich.console import Console

from atomjax.data.labels import without_labels
from atomjax.data.load import load_datasets
from atomjax.data.settings import DatasetSettings, DataSettings, MixtureSettings
from atomjax.data.sources import check_source, find_file, undeclared
from atomjax.runtime.config import ConfigError, build
from atomjax.runtime.run import Run
from atomjax.structures.readers import FORMATS, ReadError

KCAL = 0.0433641042


def settings(**fields: Any) -> DatasetSettings:
    return build(DatasetSettings, {"name": "set", "kind": "read", **fields})


@pytest.fixture
def rmd17(tmp_path: Path) -> Path:
    folder = tmp_path / "npz_data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    positions = np.diag([1.0, 2.0, 3.0]) + rng.normal(scale=0.05, size=(1200, 3, 3))
    energies = -1000.0 + rng.normal(size=1200)
    path = folder / "rmd17_ethanol.npz"
    forces = rng.normal(size=(1200, 3, 3))
    np.savez(path, nuclear_charges=[8, 1, 1], coords=positions, energies=energies, forces=forces)
    (tmp_path / "splits").mkdir()
    order = rng.permutation(1200)
    np.savetxt(tmp_path / "splits" / "index_train_01.csv", order[:1000], fmt="%d")
    np.savetxt(tmp_path / "splits" / "index_test_01.csv", order[1000:], fmt="%d")
    return path


def test_formats_are_described_and_read() -> None:
    for facts in FORMATS.values():
        options = facts.options
        if facts.fixes_units:
            made = options()
            assert (made.energy_unit or "eV", made.length_unit or "Å") == (
                facts.energy_unit,
                facts.length_unit,
            )
        if len(facts.energy_kinds) > 1:
            assert "energy_kind" in options.__dataclass_fields__


def test_units_need_no_declaration_where_the_format_fixes_them() -> None:
    spice = settings(path="SPICE.hdf5", format="spice")
    assert (spice.energy_unit, spice.length_unit, spice.energy_kind) == ("Ha", "bohr", "total")
    # One of several, which a name does not tell.
    assert undeclared(settings(path="a.lmdb")) == ["energy_kind"]
    assert settings(path="a.lmdb", format="oc20").energy_kind == "adsorption"
    assert settings(path="a.lmdb", energy_kind="total").energy_kind == "total"
    assert settings(path="a", format="qm9").energy_kind == "none"
    with pytest.raises(ConfigError, match=r"energy_unit=.eV., but files of its format are in Ha"):
        settings(path="a.h5", format="ani1x", energy_unit="eV")
    with pytest.raises(ConfigError, match="the energies of its format are: total"):
        settings(path="a.lmdb", format="oc22", energy_kind="adsorption")
    with pytest.raises(ConfigError, match=r'unknown format "ani1". Did you mean .ani1x.\?'):
        settings(path="a.h5", format="ani1")
    with pytest.raises(ConfigError, match="does not declare length_unit"):
        settings(path="a.xyz")


def test_official_splits_are_only_for_sets_that_have_them() -> None:
    official = {"by": "official"}
    assert settings(path="a.h5", format="ani1x", split=official).split is not None
    with pytest.raises(ConfigError, match="the splits of its format are folders; take the one to"):
        settings(path="oc20", format="oc20", split=official)
    with pytest.raises(ConfigError, match="defines no split of its own; write by="):
        settings(
            path="a.xyz", energy_unit="eV", length_unit="Å", energy_kind="total", split=official
        )
    with pytest.raises(ConfigError, match="takes the sizes of the data set; leave train,"):
        settings(path="a.h5", format="ani1x", split={"by": "official", "test": 10})


def test_an_official_set_is_one_entry_of_a_config(rmd17: Path, tmp_path: Path) -> None:
    dataset = settings(path=str(rmd17), format="rmd17", split={"by": "official"})
    run = Run(tmp_path / "run", console=Console(quiet=True))
    splits = load_datasets(DataSettings(train=(dataset,)), run)
    parts = splits.parts(0)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 950,
        "validation": 50,
        "test": 200,
    }
    assert splits.origins == ["rmd17_ethanol.npz, in kcal/mol and Å; total energies"]
    energy = parts["train"][0].energy
    assert energy == pytest.approx(-1000 * KCAL, abs=5 * KCAL)
    assert parts["train"][0].source == "set"


def test_records_that_were_left_out_are_on_the_data_card(rmd17: Path, tmp_path: Path) -> None:
    with np.load(rmd17) as stored:
        arrays = dict(stored)
    arrays["energies"][7] = np.nan
    np.savez(rmd17, **arrays)
    dataset = settings(path=str(rmd17), format="rmd17", arguments={"on_error": "skip"})
    said = io.StringIO()
    run = Run(tmp_path / "run", console=Console(file=said, width=500))
    with pytest.warns(UserWarning, match="1 of 1200 records left out"):
        splits = load_datasets(DataSettings(train=(dataset,)), run)
    assert len(splits.train[0].structures) == 1199
    assert splits.origins[0].endswith(
        "; 1 damaged records left out, the first rmd17_ethanol.npz:7: energy: is nan; drop this"
        " record or mend its source"
    )
    assert "1 damaged records left out, the first rmd17_ethanol.npz:7: energy" in said.getvalue()


def test_folders_are_for_formats_that_are_folders(tmp_path: Path) -> None:
    assert find_file(settings(path=str(tmp_path), format="oc20")) == tmp_path
    with pytest.raises(ConfigError, match="is not a file; set the path"):
        find_file(settings(path=str(tmp_path), format="ani1x"))
    with pytest.raises(ConfigError, match="is not a file or folder; set the path"):
        find_file(settings(path=str(tmp_path / "none"), format="oc20"))


def test_oc20_from_a_config(shared: Path, tmp_path: Path) -> None:
    dataset = settings(path=str(shared / "data" / "oc20_pyg2.lmdb"), format="oc20")
    run = Run(tmp_path / "run", console=Console(quiet=True))
    splits = load_datasets(DataSettings(train=(dataset,)), run)
    assert len(splits.train[0].structures) == 21
    assert splits.origins == ["oc20_pyg2.lmdb, in eV and Å; adsorption energies"]


def frames(tmp_path: Path, **counts: int) -> list[DatasetSettings]:
    """One file for each name, of hydrogen molecules whose energy is their number."""
    made = []
    for name, count in counts.items():
        path = tmp_path / f"{name}.xyz"
        lines = [f"2\nenergy={i} \nH 0 0 0\nH 0 0 {0.7 + i / 1000}\n" for i in range(count)]
        path.write_text("".join(lines))
        declared = {"energy_unit": "eV", "length_unit": "Å", "energy_kind": "total"}
        split = {"validation": 10}
        made.append(settings(name=name, path=str(path), split=split, **declared))
    return made


def load(tmp_path: Path, max_structures: int | None = None, **data):
    run = Run(tmp_path / "run", console=Console(quiet=True))
    return load_datasets(DataSettings(**data), run, max_structures=max_structures)


def energies(structures) -> list[float]:
    return [structure.energy for structure in structures]


def test_mixtures_share_a_budget_out_over_fixed_subsets(tmp_path: Path) -> None:
    train = tuple(frames(tmp_path, a=50, b=170))
    balanced = {"train": train, "mixture": MixtureSettings(kind="balanced")}
    splits = load(tmp_path, 60, **balanced)
    assert splits.samples == [30, 30]
    assert [len(dataset) for dataset in splits.train] == [30, 30]
    again, larger = load(tmp_path, 60, **balanced), load(tmp_path, 70, **balanced)
    for one, other, more in zip(splits.train, again.train, larger.train, strict=True):
        assert energies(one.structures) == energies(other.structures)
        assert set(energies(one.structures)) < set(energies(more.structures))
    # All of the smaller set, three times, where it has fewer than its share.
    splits = load(tmp_path, None, **balanced)
    assert (splits.samples, [len(d) for d in splits.train]) == ([100, 100], [40, 160])
    warm = {"train": train, "mixture": MixtureSettings(kind="temperature")}
    assert load(tmp_path, 90, **warm).samples == [30, 60]
    assert load(tmp_path, 50, train=train).samples == [10, 40]


def test_subsets_of_a_data_set_and_of_its_validation_part(tmp_path: Path) -> None:
    a, b = frames(tmp_path, a=50, b=170)
    few = dataclasses.replace(a, max_structures=8)
    splits = load(tmp_path, train=(few, b), max_validation=6)
    assert splits.samples == [8, 160]
    assert [len(dataset) for dataset in splits.validation] == [6, 6]
    many = dataclasses.replace(a, max_structures=41)
    with pytest.raises(ConfigError, match="'a': max_structures=41 is more than the 40 structures"):
        load(tmp_path, train=(many,))


def test_root_is_put_before_relative_paths(tmp_path: Path) -> None:
    (a,) = frames(tmp_path, a=20)
    relative = dataclasses.replace(a, path="a.xyz", split=None)
    data = DataSettings(train=(relative, dataclasses.replace(a, name="b")), root=str(tmp_path))
    assert [dataset.path for dataset in data.train] == [str(tmp_path / "a.xyz"), a.path]
    assert data.root is None
    assert replace(data, seen=(relative,), root=str(tmp_path)).seen == (data.train[0],)
    assert DataSettings(train=(relative,)).train[0].path == "a.xyz"


def test_mistaken_mixtures_are_explained(tmp_path: Path) -> None:
    a, b = frames(tmp_path, a=20, b=20)
    with pytest.raises(ConfigError, match='kind="single" is for one dataset, and there are a, b'):
        DataSettings(train=(a, b), mixture=MixtureSettings(kind="single"))
    with pytest.raises(ConfigError, match="temperature=0 must be above 0"):
        MixtureSettings(kind="temperature", temperature=0)
    with pytest.raises(ConfigError, match="'b' gets none of the 1 samples of an epoch"):
        load(tmp_path, 1, train=(a, b))


@pytest.mark.parametrize("part", ["validation", "test"])
def test_two_held_out_sets_of_one_training_set_are_refused(tmp_path: Path, part: str) -> None:
    (a,) = frames(tmp_path, a=12)
    a = dataclasses.replace(a, split=None)
    with pytest.raises(ConfigError, match=f"two {part} datasets share a name: a, a; each"):
        build(DataSettings, {"train": (a,), part: (a, a)})


def test_fixed_atoms_are_for_training_alone(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", console=Console(quiet=True))
    data = DataSettings(train=tuple(frames(tmp_path, a=12)))
    splits = load_datasets(data, run, fixed_atoms=True)
    parts = splits.train[0], splits.validation[0]
    assert [part.labels(0, 0).fixed_atoms for part in parts] == [True, False]


def test_units_that_a_file_states_need_no_declaration(cases: Path, tmp_path: Path) -> None:
    given = {"path": "schnetpack_layout.db", "energy_kind": "total"}
    one = build(DataSettings, {"train": [{"name": "set", "kind": "read", **given}]})
    (dataset,) = replace(one, root=str(cases)).train
    assert dataset.energy_unit is None
    check_source(dataset)
    splits = load_datasets(DataSettings(train=(dataset,)), Run(tmp_path))
    assert splits.train[0].structures[0].energy == pytest.approx(-97000 * KCAL, rel=1e-8)
    assert "in kcal/mol and Å, forces in kcal/mol/Å; total energies" in splits.origins[0]
    declared = replace(dataset, energy_unit="eV")
    with pytest.raises(ReadError, match="states energy_unit='kcal/mol', but energy_unit='eV'"):
        load_datasets(DataSettings(train=(declared,)), Run(tmp_path))


def test_units_that_nobody_states_are_asked_for(tmp_path: Path) -> None:
    connect(tmp_path / "own.db").write(Atoms("OH", [[0, 0, 0], [0, 0, 1]]))
    unstated = settings(path=str(tmp_path / "own.db"), energy_kind="total")
    with pytest.raises(ConfigError, match=r"own\.db says its length_unit and energy_unit; add"):
        check_source(unstated)
    check_source(replace(unstated, length_unit="Å", energy_kind="none"))
    with pytest.raises(ConfigError, match=r'says its energy_kind; add .*\("total", "referenced"'):
        check_source(replace(unstated, length_unit="Å", energy_unit="eV", energy_kind=None))
    # Where no labels are read, nothing about them has to be known.
    check_source(without_labels(settings(path=str(tmp_path / "own.db"), length_unit="Å")))


def test_labels_are_read_where_they_decide_what_is_in_a_set() -> None:
    units = {"energy_unit": "eV", "length_unit": "Å", "energy_kind": "total"}
    own = settings(path="a.xyz", arguments={"energy_key": "REF_energy"}, **units)
    assert without_labels(own).arguments["energy_key"] == ""
    assert without_labels(settings(path="a.lmdb")).energy_kind == "adsorption"
    for kept in (
        # Conformations of ANI-1x without an energy at the level are left out.
        settings(path="ani1x-release.h5", format="ani1x", energy_kind="total"),
        replace(own, arguments={"on_error": "skip"}),
        build(DatasetSettings, {"name": "s", "kind": "store", "path": "s"}),
    ):
        assert without_labels(kept) == kept
