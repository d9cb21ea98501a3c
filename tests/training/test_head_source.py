"""References of a pretrained head beside new labels: kept where they explain these."""

import ase.build
import numpy as np
import pytest

from atomjax.structures import References, Structure
from atomjax.training.head_source import MEAN, carry_over, source_references

MOLECULES = ("CH4", "C6H6", "C2H4", "C2H6", "C2H2")


def references(hydrogen: float = -13.0, carbon: float = -37.0) -> References:
    elements, seen = np.zeros(119), np.zeros(119, dtype=bool)
    elements[[1, 6]], seen[[1, 6]] = (hydrogen, carbon), True
    return References(elements, 0.0, 2.0, 0.5, seen)


def labelled(shift: dict[int, float], names: tuple[str, ...] = MOLECULES) -> list[Structure]:
    """Molecules whose energies are those of their elements, shifted by eV for each atom."""
    found, base = [], references().element_energies
    for name in names:
        numbers, positions = (molecule := ase.build.molecule(name)).numbers, molecule.positions
        energy = float(base[numbers].sum()) + sum(shift.get(int(z), 0.0) for z in numbers)
        found.append(Structure(atomic_numbers=numbers, positions=positions, energy=energy))
    return found


@pytest.mark.parametrize(
    ("shift", "kept", "stated"),
    [
        ({}, True, "+0 eV/atom"),
        ({1: 0.2, 6: 0.2}, True, "+0.2 eV/atom"),
        ({1: 10.0, 6: 10.0}, False, "+10 eV/atom"),
        # Small in the mean, large for each structure.
        ({1: -20.0, 6: 20.0}, False, "root mean square 7.6"),
    ],
    ids=["the same", "near", "another functional", "shifts that cancel"],
)
def test_element_energies_are_kept_where_they_explain_the_labels(shift, kept, stated) -> None:
    structures = labelled(shift)
    fresh = References.fit(structures, conservative=True)
    found, note = carry_over(references(), fresh, structures)
    assert stated in note
    assert ("kept" in note) == kept
    expected = references() if kept else fresh
    np.testing.assert_array_equal(found.element_energies, expected.element_energies)
    assert (found.energy_scale, found.force_scale) == (2.0, 0.5)


def test_an_element_that_the_head_has_not_met_is_named_beside_the_shift_of_the_others() -> None:
    structures = labelled({1: 1.0, 6: 1.0}, (*MOLECULES, "H2O", "CO"))
    found, note = carry_over(references(), References.fit(structures), structures)
    assert "+1 eV/atom" in note
    assert "not met O" in note
    assert found.seen[8]


def test_several_heads_share_their_element_energies_or_have_none() -> None:
    def metadata(*given: References) -> dict:
        names = [f"head_{i}" for i in range(len(given))]
        datasets = {n: {"references": one.to_dict()} for n, one in zip(names, given, strict=True)}
        return {"heads": [{"name": name} for name in names], "datasets": datasets}

    structures = labelled({})
    fresh = References.fit(structures)
    found = source_references(metadata(references(), references()), MEAN)
    assert "kept" in carry_over(found, fresh, structures)[1]
    found = source_references(metadata(references(), references(carbon=-38.0)), MEAN)
    assert "different element energies" in carry_over(found, fresh, structures)[1]
    assert found.energy_scale == pytest.approx(2.0)
