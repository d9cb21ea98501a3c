"""Units that files state themselves, the sign of stored forces, and molecules without content."""

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.db import connect

from atomjax.structures.readers import (
    ReadError,
    SkippedRecordsWarning,
    UnusedKeysWarning,
    read,
)
from atomjax.structures.readers.checks.force_sign import slope_of_work
from atomjax.structures.readers.layouts.stated_units import spelled
from atomjax.structures.units import HARTREE
from tests.structures.readers.checks import forces_of

FIRST_FORCES = [0.00545218, -0.00572861, 0.02777135]


def test_a_database_of_schnetpack_is_read_in_its_own_units(cases: Path) -> None:
    first = read(cases / "schnetpack_layout.db")[0]
    np.testing.assert_allclose(forces_of(first)[0], FIRST_FORCES, atol=1e-8)
    assert first.energy == pytest.approx(-97000 * 0.0433641042, rel=1e-8)
    declared = {"energy_unit": "kcal/mol", "length_unit": "Å"}
    again = read(cases / "schnetpack_layout.db", **declared)[0]
    np.testing.assert_array_equal(forces_of(again), forces_of(first))


@pytest.mark.parametrize(
    "declared", [{"energy_unit": "eV"}, {"length_unit": "bohr"}, {"force_unit": "eV/Å"}]
)
def test_declared_units_that_contradict_a_database_are_an_error(
    cases: Path, declared: dict[str, Any]
) -> None:
    ((name, unit),) = declared.items()
    with pytest.raises(ReadError, match=rf"schnetpack_layout\.db.*states {name}=.*{unit}"):
        read(cases / "schnetpack_layout.db", **declared)


@pytest.mark.parametrize(
    ("stated", "energy"), [([["energy", "Ha"]], -HARTREE), (["Ha", "Ha/Ang"], None)]
)
def test_units_in_a_list_are_pairs(tmp_path: Path, stated: list, energy: float | None) -> None:
    database: Any = connect(tmp_path / "a.db")
    database.write(Atoms("H2", [[0, 0, 0], [0, 0, 0.8]]), data={"energy": -1.0})
    database.metadata = {"_property_unit_dict": stated, "_distance_unit": "Ang"}
    if energy is None:
        with pytest.raises(ReadError, match=r"_property_unit_dict .*list of pairs"):
            read(tmp_path / "a.db")
    else:
        assert read(tmp_path / "a.db")[0].energy == pytest.approx(energy)


def test_target_units_that_contradict_a_database_are_an_error(shared: Path) -> None:
    with pytest.raises(ReadError, match="states gap in 'Ha', but target_units has 'eV'"):
        read(shared / "data" / "test_qm9.db", energy_key="", target_units={"gap": "eV"})


def test_spellings() -> None:
    texts = ("Hartree", "kcal/mol/Ang", "eV/Angstrom", "hartree/bohr")
    assert [spelled(text) for text in texts] == ["Ha", "kcal/mol/Å", "eV/Å", "Ha/bohr"]


def spring(sign: float, lengths: Any = (0.6, 0.7, 0.8, 0.9)) -> dict[str, np.ndarray]:
    """H2 at some lengths, Å: E = (r - 0.74)² Ha; the vectors are ``sign`` times the gradient."""
    lengths = np.asarray(lengths)
    pull = 2 * (lengths - 0.74)
    coordinates = np.zeros((len(lengths), 2, 3))
    coordinates[:, 1, 0] = lengths
    vectors = np.zeros_like(coordinates)
    vectors[:, 0, 0], vectors[:, 1, 0] = -sign * pull, sign * pull
    species = np.array([b"H", b"H"])
    energies = (lengths - 0.74) ** 2
    return {"species": species, "coordinates": coordinates, "energies": energies, "forces": vectors}


def molecules(path: Path, *groups: dict[str, np.ndarray], units: dict | None = None) -> Path:
    with h5py.File(path, "w") as file:
        for number, arrays in enumerate(groups):
            group = file.create_group(f"m{number}")
            for name, values in arrays.items():
                group[name] = values
                if units and name in units:
                    group[name].attrs["units"] = units[name]
    return path


def test_true_forces_are_told_from_gradients_by_the_energies(cases: Path, tmp_path: Path) -> None:
    found = [forces_of(s)[1, 0] / HARTREE for s in read(cases / "true_forces.h5")]
    np.testing.assert_allclose(found, [0.28, 0.08, -0.12, -0.32], atol=1e-9)
    for sign in (1.0, -1.0):
        structures = read(molecules(tmp_path / f"{sign}.h5", spring(sign)))
        np.testing.assert_allclose([forces_of(s)[1, 0] / HARTREE for s in structures], found)


def test_species_of_each_geometry_as_in_ani_2x(tmp_path: Path) -> None:
    arrays = {**spring(-1.0), "species": np.array([[1, 1]] * 3 + [[1, 8]])}
    structures = read(molecules(tmp_path / "a.h5", arrays))
    assert [s.formula for s in structures] == ["H2", "H2", "H2", "HO"]


def test_a_sign_that_the_energies_do_not_tell_is_asked_for(tmp_path: Path) -> None:
    path = molecules(tmp_path / "a.h5", spring(1.0, [0.6]))
    with pytest.raises(ReadError, match=r"say gradients_key='forces' or forces_key='forces'"):
        read(path)
    assert forces_of(read(path, gradients_key="forces")[0])[1, 0] == pytest.approx(0.28 * HARTREE)
    assert forces_of(read(path, forces_key="forces")[0])[1, 0] == pytest.approx(-0.28 * HARTREE)
    assert read(path, forces_key="")[0].forces is None


def test_a_declared_sign_or_unit_that_the_energies_contradict_is_an_error(tmp_path: Path) -> None:
    path = molecules(tmp_path / "a.h5", spring(1.0))
    with pytest.raises(ReadError, match="they are gradients; say gradients_key='forces'"):
        read(path, forces_key="forces")
    arrays = spring(1.0)
    arrays["forces"] *= 0.529177210544
    path = molecules(tmp_path / "b.h5", arrays)
    with pytest.raises(ReadError, match=r"\+1\.89 times the work.*declare force_unit"):
        read(path)
    first = read(path, force_unit="Ha/bohr")[0]
    assert forces_of(first)[1, 0] == pytest.approx(0.28 * HARTREE)


def test_labels_under_other_names_are_named_with_a_count(tmp_path: Path) -> None:
    arrays = spring(1.0)
    path = molecules(tmp_path / "a.h5", {"Gradients": arrays.pop("forces"), **arrays})
    with pytest.warns(UnusedKeysWarning, match=r"a\.h5: 4 records hold 'Gradients', .*gradients_"):
        assert read(path)[0].forces is None
    assert forces_of(read(path, gradients_key="Gradients")[0])[1, 0] == pytest.approx(
        0.28 * HARTREE
    )
    path = molecules(tmp_path / "b.h5", {"Energies": arrays.pop("energies"), **arrays})
    with pytest.raises(ReadError, match=r"b\.h5: molecule m0 lacks energies; it has: Ener"):
        read(path)
    # Neither a level beside the one that is read, nor what is declined.
    two = {**spring(1.0), "energies_ccsd": spring(1.0)["energies"] - 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(molecules(tmp_path / "c.h5", two))
        read(molecules(tmp_path / "d.h5", {**spring(1.0), "Force": arrays["species"]}))
        read(path, energy_key="", forces_key="")


def test_unrelated_energies_tell_no_sign() -> None:
    rng = np.random.default_rng(0)
    noise = (rng.normal(size=(40, 3, 3)) * 0.1, rng.normal(size=40), rng.normal(size=(40, 3, 3)))
    assert slope_of_work([noise]) is None
    assert slope_of_work([]) is None


def test_units_in_attributes_are_believed(tmp_path: Path) -> None:
    path = molecules(tmp_path / "a.h5", spring(1.0), units={"energies": "eV", "coordinates": "Ang"})
    assert read(path)[0].energy == pytest.approx(0.14**2)
    with pytest.raises(ReadError, match="states energy_unit='eV', but energy_unit='Ha'"):
        read(path, energy_unit="Ha")


def test_units_beside_the_labels_of_a_frame_are_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    comment = "Properties=species:S:1:pos:R:3 energy=10 energy_units=kcal/mol length_unit=Ang"
    path.write_text(f"1\n{comment}\nH 0 0 0\n")
    assert read(path)[0].energy == pytest.approx(0.433641042)
    assert read(path, energy_unit="kcal/mol", length_unit="Å")[0].energy is not None
    with pytest.raises(ReadError, match=r"a\.xyz:0: .*'kcal/mol', but energy_unit='eV'"):
        read(path, energy_unit="eV")


@pytest.mark.parametrize("entry", ["units=hartree", "unit=Ha", "energyUnits=Hartree"])
def test_other_names_of_units_are_known(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "a.xyz"
    path.write_text(f"1\nProperties=species:S:1:pos:R:3 energy=1 {entry}\nH 0 0 0\n")
    assert read(path)[0].energy == pytest.approx(HARTREE)
    with pytest.raises(ReadError, match=r"a\.xyz:0: .*but energy_unit='eV' is declared"):
        read(path, energy_unit="eV")
    path.write_text("1\nProperties=species:S:1:pos:R:3 energy=1 units=metal\nH 0 0 0\n")
    assert read(path, energy_unit="eV")[0].energy == 1.0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("energy_unit", 3),
        ("energy_unit", {"a": 1}),
        ("forces_key", ["forces"]),
        ("targets", "gap"),
        ("target_units", "eV"),
    ],
)
def test_options_of_another_type_are_an_error(cases: Path, option: str, value: Any) -> None:
    with pytest.raises(ReadError, match=rf"^{option}=.*write "):
        read(cases / "nan_info.xyz", **{option: value})


@pytest.mark.parametrize("holder", ["/", "m0"])
def test_attributes_of_files_and_molecules_state_units(tmp_path: Path, holder: str) -> None:
    path = molecules(tmp_path / "a.h5", spring(1.0))
    with h5py.File(path, "a") as file:
        file[holder].attrs["energy_unit"] = np.bytes_("kcal/mol")
    assert read(path)[0].energy == pytest.approx(0.14**2 * 0.0433641042)
    with pytest.raises(ReadError, match="states energy_unit='kcal/mol', but energy_unit='Ha'"):
        read(path, energy_unit="Ha")


def test_official_units_are_compared_with_attributes(tmp_path: Path) -> None:
    path = tmp_path / "ani1x-release.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("H2")
        group["atomic_numbers"] = [1, 1]
        group["coordinates"] = [[[0.0, 0, 0], [0, 0, 1]]]
        group["wb97x_dz.energy"] = [-1.0]
        group["wb97x_dz.energy"].attrs["units"] = "kcal/mol"
        group["wb97x_dz.forces"] = np.zeros((1, 2, 3))
    with pytest.raises(ReadError, match="states energy_unit='kcal/mol'"):
        read(path, "ani1x")


def test_an_empty_molecule_is_counted_and_left_out(cases: Path, tmp_path: Path) -> None:
    with pytest.warns(SkippedRecordsWarning, match="1: empty molecules"):
        assert len(read(cases / "spice2_empty_molecule.hdf5", "spice")) == 5
    empty = {name: np.zeros(0) for name in ("coordinates", "energies", "forces")}
    path = molecules(tmp_path / "a.h5", spring(1.0), {**empty, "species": np.array([b"H"])})
    with pytest.warns(SkippedRecordsWarning, match="1: empty molecules"):
        assert len(read(path)) == 4


@pytest.mark.parametrize(
    "metadata",
    [
        {"units": {"energy": "kcal/mol", "forces": "kcal/mol/Ang"}, "distance_unit": "Ang"},
        {"property_units": {"energy": "kcal/mol", "positions": "Ang"}},
        {"energy_unit": "kcal/mol", "length_unit": "Å"},
        {"units": "kcal/mol", "position_units": "Ang"},
    ],
)
def test_metadata_of_other_programs_state_units_too(tmp_path: Path, metadata: dict) -> None:
    database: Any = connect(tmp_path / "a.db")
    database.metadata = metadata
    data = {"energy": np.array([-2.0]), "forces": np.full((2, 3), 0.5)}
    database.write(Atoms("OH", [[0, 0, 0], [0, 0, 1]]), data=data)
    (structure,) = read(tmp_path / "a.db")
    assert structure.energy == pytest.approx(-2.0 * 0.0433641042)
    assert forces_of(structure)[0, 0] == pytest.approx(0.5 * 0.0433641042)
    with pytest.raises(ReadError, match="states energy_unit='kcal/mol', but energy_unit='eV'"):
        read(tmp_path / "a.db", energy_unit="eV")
