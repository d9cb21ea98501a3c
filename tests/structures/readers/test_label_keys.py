"""Keys that look like a label or a cell: read as asked, warned of or refused, never passed over."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write

from atomjax.structures.readers import ReadError, RecordNotes, UnusedKeysWarning, read
from atomjax.structures.readers.layouts.label_keys import is_cell_name, kind_of_name
from tests.structures.readers.checks import forces_of

COLUMNS = "Properties=species:S:1:pos:R:3"
CELL = 'Lattice="4 0 0 0 4 0 0 0 4"'


def frames(path: Path, comment: str, columns: str = "", count: int = 2) -> Path:
    """Frames of two atoms; ``columns`` follows the positions of each."""
    atoms = f"H 0 0 0 {columns}\nO 0 0 1 {columns}\n"
    path.write_text(f"2\n{comment}\n{atoms}" * count)
    return path


@pytest.mark.parametrize(
    ("comment", "columns", "kind", "key"),
    [
        (f"{COLUMNS} Energy=-1.0", "", "energy", "Energy"),
        (f"{COLUMNS} REF_energy=-1.0", "", "energy", "REF_energy"),
        (f"{COLUMNS} E=-1.0", "", "energy", "E"),
        (f"{COLUMNS} energy=-1.0 free_energy=-1.5", "", "energy", "free_energy"),
        (f"{COLUMNS}:REF_forces:R:3 energy=-1.0", "1 2 3", "forces", "REF_forces"),
        (f"{COLUMNS}:Force:R:3 energy=-1.0", "1 2 3", "forces", "Force"),
        (f"{COLUMNS}:dft_gradient:R:3 energy=-1.0", "1 2 3", "gradients", "dft_gradient"),
        (f'{COLUMNS} {CELL} energy=-1 dft_virial="1 0 0 0 1 0 0 0 1"', "", "virial", "dft_virial"),
        (f'{COLUMNS} {CELL} energy=-1 Stress="1 0 0 0 1 0 0 0 1"', "", "stress", "Stress"),
    ],
)
def test_a_spelling_that_is_not_read_is_named_once_with_a_count(
    tmp_path: Path, comment: str, columns: str, kind: str, key: str
) -> None:
    notes, path = RecordNotes(), frames(tmp_path / "a.xyz", comment, columns)
    with pytest.warns(UnusedKeysWarning, match=rf"a\.xyz: 2 records hold '{key}'") as caught:
        read(path, notes=notes)
    assert len(caught) == 1
    assert notes.unused == {(kind, key): 2}
    assert notes.held[key] == 2


def test_names_of_other_programs_are_known() -> None:
    kinds = {
        "energy": "E e u0 U E_0 Etot E_total dft_E REF_E e_ref Epot E_pot PotEng free_energy",
        "forces": "F f Force F_dft REF_F frc atomic_forces",
        "gradients": "grad dEdR dE_dR dE_dx energy_grad energy_gradient nuclear_gradient",
        "stress": "Stress virial_stress sigma",
        "virial": "virials REF_virial",
    }
    for kind, names in kinds.items():
        assert [kind_of_name(name) for name in names.split()] == [kind] * len(names.split())
    for name in "benzene e_form f_occ pressure W gap charge total ref".split():
        assert kind_of_name(name) is None
    assert all(
        is_cell_name(n)
        for n in "LATTICE latt pbc_box lattice_vectors box_matrix hmat CRYST1".split()
    )


@pytest.mark.parametrize(
    ("comment", "options"),
    [
        (f"{COLUMNS} energy=-1.0 free_energy=-1.0", {}),
        (f"{COLUMNS} energy=-1.0 formation_energy=2.0 gap=1.5", {}),
        (f"{COLUMNS} energy=-1.0 REF_energy=-1.5", {"energy_key": "energy"}),
        (f"{COLUMNS} Energy=-1.0", {"energy_key": ""}),
        (f"{COLUMNS} Energy=-1.0", {"targets": ["Energy"]}),
        (f'{COLUMNS} energy=-1 virial="1 0 0 0 1 0 0 0 1"', {}),
        (f'{COLUMNS} {CELL} stress="0 0 0 0 .5 0 0 0 0" virial="0 0 0 0 -32 0 0 0 0"', {}),
    ],
)
def test_what_is_known_or_declined_is_not_warned_of(
    tmp_path: Path, comment: str, options: dict
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(frames(tmp_path / "a.xyz", comment), **options)


def test_gradients_are_turned_into_forces(tmp_path: Path) -> None:
    path = frames(tmp_path / "a.xyz", f"{COLUMNS}:gradients:R:3", "1 2 3")
    assert forces_of(read(path, gradients_key="gradients")[0])[0].tolist() == [-1, -2, -3]
    with pytest.raises(ReadError, match="gradients_key='gradients'"):
        read(path, forces_key="gradients")
    with pytest.raises(ReadError, match="forces_key and gradients_key are both given"):
        read(path, forces_key="forces", gradients_key="gradients")
    with pytest.raises(ReadError, match=r"no forces under the key 'force'.*gradients_key="):
        read(path, forces_key="force")
    with pytest.raises(ReadError, match="has no option 'gradients_key'"):
        read(path, "ani1x", gradients_key="gradients")


def test_a_virial_is_read_as_minus_virial_over_volume(cases: Path) -> None:
    path = cases / "virial_one.xyz"
    (structure,) = read(path, virial_key="virial")
    assert structure.stress is not None
    assert structure.stress[0, 0] == pytest.approx(-1.6065696302429944 / 3.61**3, abs=1e-12)
    (other,) = read(path, virial_key="virial", energy_unit="Ha", length_unit="bohr")
    assert other.stress is not None
    ratio = other.stress[0, 0] / structure.stress[0, 0]
    assert ratio == pytest.approx(27.211386245981 / 0.529177210544**3)
    with pytest.raises(ReadError, match="write virial_key='virial'"):
        read(path, stress_key="virial")


def test_stresses_that_are_large_as_virials_are_questioned(tmp_path: Path) -> None:
    comment = f'{COLUMNS} {CELL} stress="12 0 0 0 12 0 0 0 12"'
    with pytest.warns(UnusedKeysWarning, match="stresses of 2 records exceed 1 eV/Å³"):
        read(frames(tmp_path / "a.xyz", comment))


@pytest.mark.parametrize("key", ["lattice", "LATTICE", "cell", "unit_cell", "box", "dft_cell"])
def test_a_cell_that_is_not_read_is_an_error(tmp_path: Path, key: str) -> None:
    path = frames(tmp_path / "a.xyz", f'{key}="4 0 0 0 4 0 0 0 4" {COLUMNS}')
    with pytest.raises(ReadError, match=rf"a\.xyz:0: {key}=.*write Lattice="):
        read(path)


@pytest.mark.parametrize(
    "comment",
    [
        "a=4 b=4 c=4 alpha=90 beta=90 gamma=90",
        'box="4 4 4"',
        "box=4.0",
        'cell_parameters="4 4 4 90 90 90"',
    ],
)
def test_lengths_of_a_cell_are_not_passed_over(tmp_path: Path, comment: str) -> None:
    with pytest.raises(ReadError, match=r"a\.xyz:0: .*looks like a cell"):
        read(frames(tmp_path / "a.xyz", f"{comment} {COLUMNS}"))
    # Three of them may be anything, and so may all beside a cell.
    assert read(frames(tmp_path / "a.xyz", f"a=1 b=2 c=3 {COLUMNS}"))
    assert read(frames(tmp_path / "a.xyz", f"{comment} {CELL} {COLUMNS}"))[0].is_periodic


def test_a_small_letter_is_named_where_there_are_no_forces(tmp_path: Path) -> None:
    with pytest.warns(UnusedKeysWarning, match="2 records hold 'f', which looks like forces"):
        read(frames(tmp_path / "a.xyz", f"{COLUMNS}:f:R:3 energy=-1.0", "1 2 3"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(frames(tmp_path / "a.xyz", f"{COLUMNS}:f:R:1 energy=-1.0 cell=fcc box=4", "1"))


def test_a_label_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"a\.xyz:0: energy= is there twice, as -1\.0 and -7\.0"):
        read(frames(tmp_path / "a.xyz", f"energy=-1.0 {COLUMNS} energy=-7.0"))
    comment = f'energy=-1.0 {COLUMNS} energy=-1.0 note="energy=3 energy=4" step=1 step=2'
    assert read(frames(tmp_path / "a.xyz", comment))[0].energy == -1.0


def test_an_energy_that_is_no_number_is_shown(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"a\.xyz:0: the energy is not one number but '-1\.0Ha'"):
        read(frames(tmp_path / "a.xyz", f"energy=-1.0Ha {COLUMNS}"))


@pytest.mark.parametrize("key", ["E0", "U0", "u0", "E_0", "e"])
def test_short_names_of_energies_are_named_where_there_is_none(tmp_path: Path, key: str) -> None:
    with pytest.warns(UnusedKeysWarning, match=f"2 records hold '{key}', which looks like an en"):
        read(frames(tmp_path / "a.xyz", f"{COLUMNS} {key}=-1.0"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(frames(tmp_path / "a.xyz", f"{COLUMNS} energy=-2.0 {key}=-1.0"))


def test_a_label_that_is_not_finite_is_none(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(frames(tmp_path / "a.xyz", f"{COLUMNS} energy=-2.0 free_energy=nan"))


def test_the_lower_case_lattice_of_the_cases(cases: Path) -> None:
    with pytest.raises(ReadError, match=r"lower_lattice\.xyz:0: lattice="):
        read(cases / "lower_lattice.xyz")


def test_columns_that_are_not_described_are_an_error(tmp_path: Path) -> None:
    path = frames(tmp_path / "a.xyz", "properties=species:S:1:pos:R:3:forces:R:3", "1 2 3")
    with pytest.raises(ReadError, match="write Properties="):
        read(path)
    path = frames(tmp_path / "b.xyz", f"{COLUMNS} energy=-1", "1 2 3")
    with pytest.raises(ReadError, match=r"b\.xyz:0: Properties= describes 4 columns, atom 0 has 7"):
        read(path)


def test_symbols_and_atomic_numbers_have_to_agree(tmp_path: Path) -> None:
    path = frames(tmp_path / "a.xyz", f"{COLUMNS}:Z:I:1 energy=-1", "7")
    with pytest.raises(ReadError, match=r"atom 0: species is '\w+', but Z is 7"):
        read(path)


def test_the_cases_name_their_keys(cases: Path) -> None:
    with pytest.warns(UnusedKeysWarning, match="24 records hold 'Energy'"):
        structures = read(cases / "energy_capital.xyz")
    assert all(s.energy is None and s.forces is not None for s in structures)
    notes = RecordNotes()
    with pytest.warns(UnusedKeysWarning, match="records hold 'REF_energy'"):
        structures = read(cases / "mixed_keys.xyz", notes=notes)
    without = sum(s.energy is None for s in structures)
    assert notes.unused["energy", "REF_energy"] == without > 0


def test_labels_in_the_data_of_a_database_row(tmp_path: Path) -> None:
    forces = np.arange(6.0).reshape(2, 3)
    database = connect(tmp_path / "a.db")
    database.write(Atoms("HO", [[0, 0, 0], [0, 0, 1]]), data={"energy": [-2.0], "forces": forces})
    (structure,) = read(tmp_path / "a.db")
    assert structure.energy == -2.0
    np.testing.assert_array_equal(forces_of(structure), forces)


def test_lists_of_different_lengths_are_no_labels(tmp_path: Path) -> None:
    lists = {name: [[1.0], [2.0, 3.0]] for name in ("rings", "dft_energies", "box")}
    database = connect(tmp_path / "a.db")
    database.write(Atoms("H"), data={"energy": -2.0, **lists})
    (structure,) = read(tmp_path / "a.db")
    assert (structure.energy, structure.targets) == (-2.0, {})
    with pytest.raises(ReadError, match=r"the class 'rings' is .*; write a text or an integer"):
        read(tmp_path / "a.db", classes=["rings"])


def test_a_nan_that_nobody_wants_harms_nobody(cases: Path, tmp_path: Path) -> None:
    structures = read(cases / "nan_info.xyz")
    assert len(structures) == 24
    assert sum("bandgap" in s.targets for s in structures) == 23
    with pytest.raises(ReadError, match=r"nan_info\.xyz:\d+: targets\['bandgap'\]: is nan"):
        read(cases / "nan_info.xyz", targets=["bandgap"])
    comment = f'{COLUMNS} {CELL} energy=1 stress="nan 0 0 0 1 0 0 0 1"'
    path = frames(tmp_path / "a.xyz", comment)
    assert read(path)[0].stress is None
    with pytest.raises(ReadError, match=r"a\.xyz:0: stress: 1 entries are not finite"):
        read(path, stress_key="stress")


def test_a_name_that_is_no_element_is_explained(cases: Path) -> None:
    with pytest.raises(ReadError, match=r"label_OW\.xyz:0: species: 'OW' of atom 0 .*write the el"):
        read(cases / "label_OW.xyz")
    with pytest.raises(ReadError, match=r"labels_D_OW\.xyz:0: species: 'D' of atom 0 .*write H"):
        read(cases / "labels_D_OW.xyz")


def test_null_in_a_row_is_an_empty_field(cases: Path) -> None:
    (structure,) = read(cases / "null_data.aselmdb")
    assert structure.formula == "Cu4"


def test_constrained_forces_are_those_stored(tmp_path: Path) -> None:
    atoms = Atoms("HO", [[0, 0, 0], [0, 0, 1]])
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((2, 3)))
    write(tmp_path / "a.xyz", atoms, format="extxyz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (structure,) = read(tmp_path / "a.xyz")
    assert forces_of(structure).tolist() == np.ones((2, 3)).tolist()
