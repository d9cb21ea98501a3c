"""Units: against ASE's constants, and refused where unknown."""

import ase.units
import pytest

from atomjax.structures import units


def test_constants_agree_with_another_source():
    assert pytest.approx(ase.units.Hartree, rel=1e-7) == units.HARTREE
    assert pytest.approx(ase.units.Bohr, rel=1e-8) == units.BOHR
    assert pytest.approx(ase.units.kcal / ase.units.mol, rel=1e-7) == units.KCAL_PER_MOL
    assert pytest.approx(ase.units.kJ / ase.units.mol, rel=1e-7) == units.KJ_PER_MOL
    assert pytest.approx(ase.units.kB, rel=1e-5) == units.BOLTZMANN
    assert pytest.approx(ase.units.invcm, rel=1e-7) == units.INVERSE_CM
    assert pytest.approx(ase.units.Debye, rel=1e-7) == units.DEBYE
    assert pytest.approx(1 / ase.units.fs, rel=1e-6) == units.TIME


def test_factors():
    assert units.energy_factor("kcal/mol") == pytest.approx(0.0433641042)
    assert units.length_factor("bohr") == pytest.approx(0.529177210544)
    assert units.force_factor("kcal/mol/Å") == pytest.approx(0.0433641042)
    assert units.force_factor("Ha/bohr") == pytest.approx(51.4220675, rel=1e-8)


@pytest.mark.parametrize(
    ("function", "unit", "message"),
    [
        (units.energy_factor, "Hartre", "did you mean 'hartree'"),
        (units.length_factor, "furlong", "unknown length unit 'furlong'. Known: Å"),
        (units.force_factor, "eV", "energy unit, a slash and a length unit"),
        (units.force_factor, "eV/parsec", "energy unit, a slash and a length unit"),
    ],
)
def test_unknown_units_are_refused(function, unit, message):
    with pytest.raises(units.UnitError, match=message):
        function(unit)
