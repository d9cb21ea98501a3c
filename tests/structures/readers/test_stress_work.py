"""Stresses that are none: virials, pressures and other units, told by energies along the cell."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write
from ase.stress import voigt_6_to_full_3x3_stress

from atomjax.structures.readers import RecordNotes, UnusedKeysWarning, read
from atomjax.structures.readers.checks.stress_work import StressWork
from atomjax.structures.store import Conversion, convert

GPA = 0.00624150907
Change = Callable[[np.ndarray, float], np.ndarray]


def write_copper(
    path: Path,
    change: Change,
    count: int = 8,
    *,
    forces: bool = True,
    strain: float = 0.01,
    shake: float = 0.03,
) -> Path:
    """Cells of four copper atoms, strained and shaken, whose key "tensor" is made of the stress.

    Args:
        path: the file.
        change: stress [3, 3] and volume → what is written.
        count: number of cells.
        forces: write forces, and shake the atoms.
        strain: standard deviation of the strains.
        shake: that of the places, Å.
    """
    rng, frames = np.random.default_rng(0), []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True)
        deformed = atoms.cell.array @ (np.eye(3) + rng.normal(0, strain, (3, 3)))
        atoms.set_cell(deformed, scale_atoms=True)
        if forces:
            atoms.positions += rng.normal(0, shake, (4, 3))
        atoms.calc = EMT()
        stress = voigt_6_to_full_3x3_stress(atoms.get_stress())
        frame = atoms.copy()
        frame.info["energy"] = atoms.get_potential_energy()
        frame.info["tensor"] = change(stress, atoms.get_volume())
        if forces:
            frame.arrays["forces"] = atoms.get_forces()
        frames.append(frame)
    write(path, frames, format="extxyz")
    return path


def read_notes(path: Path, **options: str) -> RecordNotes:
    notes = RecordNotes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedKeysWarning)
        read(path, notes=notes, **{"stress_key": "tensor", **options})
    return notes


@pytest.mark.parametrize("forces", [True, False])
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda stress, volume: -stress * volume, "virials: virial_key= reads them as -virial/V"),
        (lambda stress, volume: stress * volume, "stresses times the volume"),
        (lambda stress, _: -stress, "of the other sign"),
        (lambda stress, _: stress / GPA, "in another unit: check stress_unit"),
    ],
)
def test_small_ones_under_an_innocent_name_are_questioned(
    tmp_path: Path, change: Change, found: str, forces: bool
) -> None:
    # Strains so small that even the virials lie below what is large by itself.
    path = write_copper(tmp_path / "a.xyz", change, forces=forces, strain=1e-3)
    with pytest.warns(UnusedKeysWarning, match=rf"a\.xyz: .*along 7 changes of the cell.*{found}"):
        read(path, stress_key="tensor")


@pytest.mark.parametrize("strain", [1e-3, 0.02])
def test_stresses_and_declared_virials_are_believed(tmp_path: Path, strain: float) -> None:
    path = write_copper(tmp_path / "a.xyz", lambda stress, _: stress, strain=strain)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(path, stress_key="tensor")
        path = write_copper(tmp_path / "b.xyz", lambda stress, v: -stress * v, strain=strain)
        read(path, virial_key="tensor")
        path = write_copper(tmp_path / "c.xyz", lambda stress, _: stress / GPA, strain=strain)
        read(path, stress_key="tensor", stress_unit="GPa")


def test_what_tells_nothing_is_not_questioned(tmp_path: Path) -> None:
    path = write_copper(tmp_path / "a.xyz", lambda stress, v: -stress * v, forces=False, strain=0.0)
    assert read_notes(path).stress_work.to_list() == [0.0] * 9
    path = write_copper(tmp_path / "b.xyz", lambda stress, v: -stress * v, 3, strain=1e-3)
    assert read_notes(path).stress_work.finding() is None
    rng = np.random.default_rng(1)
    path = write_copper(tmp_path / "c.xyz", lambda *_: np.diag(rng.normal(0, 0.01, 3)), strain=0.02)
    notes = read_notes(path)
    assert notes.stress_work.count == 7
    assert notes.stress_work.finding() is None
    assert StressWork().finding() is None


def test_in_a_cell_that_stays_the_forces_tell(tmp_path: Path) -> None:
    path = write_copper(tmp_path / "a.xyz", lambda stress, v: -stress * v, strain=0.0, shake=0.1)
    with pytest.warns(UnusedKeysWarning, match="between 7 pairs of records of one cell .* virial_"):
        read(path, stress_key="tensor")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(path, virial_key="tensor")
        path = write_copper(tmp_path / "b.xyz", lambda stress, _: stress, strain=0.0, shake=0.1)
        read(path, stress_key="tensor")


def test_sparse_cells_have_small_virials_that_are_questioned(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    comment = 'Lattice="20 0 0 0 20 0 0 0 20" Properties=species:S:1:pos:R:3 energy=-1'
    path.write_text(f'2\n{comment} stress="0.1 0 0 0 0.1 0 0 0 0.1"\nH 0 0 0\nO 0 0 1\n')
    with pytest.warns(UnusedKeysWarning, match="times the volume 20 eV an atom; if they are vir"):
        read(path)


def test_a_store_remembers_what_was_questioned(tmp_path: Path) -> None:
    path = write_copper(tmp_path / "a.xyz", lambda stress, volume: -stress * volume, strain=1e-3)
    units = {"energy_unit": "eV", "length_unit": "Å", "stress_key": "tensor"}
    plan = Conversion(paths=(str(path),), options=units, energy_kind="total", shard_size=4)
    store = convert(plan, tmp_path / "store")
    assert store is not None
    notes = RecordNotes()
    notes.merge(store.manifest["notes"])
    # Steps from one shard to the next are not looked at.
    assert notes.stress_work.count == 6
    assert any("seem to be virials" in line for line in notes.lines())
    # As those of before.
    del store.manifest["notes"]["stress_work"]
    RecordNotes().merge(store.manifest["notes"])
