"""Official data sets from a config: known units, their own splits, what was left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from atomjax.config import ConfigError, build
from atomjax.datasets import find_file, load_datasets
from atomjax.run import Run
from atomjax.structures.formats import FORMATS
from atomjax.structures.readers import READERS
from atomjax.training.data_settings import DatasetSettings, DataSettings

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
    assert set(FORMATS) == set(READERS)
    for name, facts in FORMATS.items():
        options = READERS[name].options
        if facts.fixes_units:
            made = options()
            assert (made.energy_unit, made.length_unit) == (facts.energy_unit, facts.length_unit)
        if len(facts.energy_kinds) > 1:
            assert "energy_kind" in options.__dataclass_fields__


def test_units_need_no_declaration_where_the_format_fixes_them() -> None:
    spice = settings(path="SPICE.hdf5", format="spice")
    assert (spice.energy_unit, spice.length_unit, spice.energy_kind) == ("Ha", "bohr", "total")
    assert settings(path="a.lmdb").energy_kind == "adsorption"
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
    run = Run(tmp_path / "run", console=Console(quiet=True))
    with pytest.warns(UserWarning, match="1 of 1200 records left out"):
        splits = load_datasets(DataSettings(train=(dataset,)), run)
    assert len(splits.train[0].structures) == 1199
    assert splits.origins[0].endswith(
        "; 1 damaged records left out, the first rmd17_ethanol.npz:7: energy: is nan; drop this"
        " record or mend its source"
    )


def test_folders_are_for_formats_that_are_folders(tmp_path: Path) -> None:
    assert find_file(settings(path=str(tmp_path), format="oc20")) == tmp_path
    with pytest.raises(ConfigError, match="is not a file; set the path"):
        find_file(settings(path=str(tmp_path), format="ani1x"))
    with pytest.raises(ConfigError, match="is not a file or folder; set the path"):
        find_file(settings(path=str(tmp_path / "none"), format="oc20"))


def test_oc20_from_a_config(shared: Path, tmp_path: Path) -> None:
    dataset = settings(path=str(shared / "data" / "oc20_pyg2.lmdb"))
    run = Run(tmp_path / "run", console=Console(quiet=True))
    splits = load_datasets(DataSettings(train=(dataset,)), run)
    assert len(splits.train[0].structures) == 21
    assert splits.origins == ["oc20_pyg2.lmdb, in eV and Å; adsorption energies"]
