"""References: fitted, inverted, refused."""

import json
import warnings

import numpy as np
import pytest

from atomjax.structures import (
    PropertyScale,
    References,
    ReferencesError,
    ReferencesWarning,
    Structure,
)


def make(formula: dict[int, int], energy=None, forces=None, **fields) -> Structure:
    numbers = [z for z, n in formula.items() for _ in range(n)]
    positions = np.arange(3 * len(numbers), dtype=float).reshape(-1, 3)
    return Structure(
        atomic_numbers=numbers, positions=positions, energy=energy, forces=forces, **fields
    )


@pytest.fixture
def noisy() -> list[Structure]:
    rng = np.random.default_rng(0)
    structures = []
    for i in range(60):
        formula = {1: int(rng.integers(1, 6)), 6: int(rng.integers(1, 5)), 8: i % 3}
        formula = {z: n for z, n in formula.items() if n}
        size = sum(formula.values())
        energy = -13.6 * formula[1] - 1035.0 * formula[6] - 2042.0 * formula.get(8, 0)
        forces = rng.normal(0, 0.7, (size, 3))
        structures.append(make(formula, energy + rng.normal(0, 0.3), forces))
    return structures


def test_finds_the_elements_share(noisy):
    references = References.fit(noisy)
    found = references.element_energies[[1, 6, 8]]
    np.testing.assert_allclose(found, [-13.6, -1035.0, -2042.0], atol=0.2)
    assert references.seen.nonzero()[0].tolist() == [1, 6, 8]
    assert references.energy_scale == pytest.approx(0.3, rel=0.3)
    assert references.force_scale == pytest.approx(0.7, rel=0.05)


def test_normalised_labels_have_unit_size_and_come_back(noisy):
    references = References.fit(noisy)
    energies = np.array([references.normalize_energy(s) for s in noisy])
    assert np.sqrt(np.mean(energies**2)) == pytest.approx(1.0)
    for structure, value in zip(noisy, energies, strict=True):
        assert structure.energy is not None
        back = references.energy(structure.atomic_numbers, value)
        assert back == pytest.approx(structure.energy, abs=1e-9)
        np.testing.assert_allclose(
            references.forces(references.normalize_forces(structure)), structure.forces
        )


def test_one_scale_for_a_conservative_head(noisy):
    references = References.fit(noisy, conservative=True)
    assert references.energy_scale == references.force_scale == References.fit(noisy).force_scale
    energies_only = [make({1: 1 + i % 4}, -13.0 * (1 + i % 4) + i) for i in range(9)]
    scales = References.fit(energies_only, conservative=True)
    assert scales.energy_scale == scales.force_scale > 1.0


def test_a_linear_set_is_predicted_in_raw_units_whatever_the_model_says():
    structures = [make({1: i + 1, 8: (i * i) % 5 + 1}, 0.0) for i in range(12)]
    structures = [
        make({1: i + 1, 8: (i * i) % 5 + 1}, -13.6 * (i + 1) - 2041.3 * ((i * i) % 5 + 1))
        for i in range(12)
    ]
    references = References.fit(structures)
    rng = np.random.default_rng(1)
    for structure in structures:
        predicted = references.energy(structure.atomic_numbers, rng.normal())
        assert predicted == pytest.approx(structure.energy, abs=1e-4)


def test_one_composition_shares_by_atoms():
    molecules = [make({6: 6, 1: 6}, -6000.0 + 0.1 * i) for i in range(11)]
    references = References.fit(molecules)
    assert references.element_energies[6] == pytest.approx(references.element_energies[1])
    assert references.reference_energy([6] * 6 + [1] * 6) == pytest.approx(-5999.5)
    assert references.energy_scale == pytest.approx(np.std(0.1 * np.arange(11)))


def test_elements_that_the_fit_cannot_tell_apart_are_named() -> None:
    """Water clusters alone, and NaCl alone: OH and a vacancy are no combinations of them."""
    water = [make({8: n, 1: 2 * n}, -2060.0 * n) for n in (1, 2, 3)]
    with pytest.warns(ReferencesWarning, match="do not tell H and O apart"):
        references = References.fit(water)
    assert references.outside_span([8, 1, 1] * 7) is None
    problem = references.outside_span([8, 1])
    assert problem is not None
    assert "H and O apart, and HO" in problem
    with pytest.warns(ReferencesWarning, match="Na and Cl"):
        salt = References.fit([make({11: n, 17: n}, -10.0 * n) for n in (1, 4)])
    assert salt.outside_span([11, 17] * 8) is None
    assert salt.outside_span([11] * 8 + [17] * 7) is not None
    again = References.from_dict(json.loads(json.dumps(references.to_dict())))
    np.testing.assert_array_equal(again.undetermined, references.undetermined)
    old = {k: v for k, v in references.to_dict().items() if k != "undetermined"}
    assert References.from_dict(old).outside_span([8, 1]) is None


def test_a_full_fit_leaves_nothing_open(noisy: list[Structure]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert References.fit(noisy).outside_span([1, 8]) is None


def test_the_span_of_an_extensive_property() -> None:
    water = [make({8: n, 1: 2 * n}, targets={"u0": -2.0 * n, "gap": 1.0}) for n in (1, 2)]
    with pytest.warns(ReferencesWarning, match="H and O"):
        scale = PropertyScale.fit(water, "u0", extensive=True)
    again = PropertyScale.from_dict(json.loads(json.dumps(scale.to_dict())))
    assert again.outside_span([8, 1]) is not None
    assert PropertyScale.fit(water, "gap").outside_span([8, 1]) is None


def test_too_few_structures_to_tell_a_scale():
    assert References.fit([make({1: 2}, -30.0)]).energy_scale == 1.0


def test_fixed_atoms_do_not_set_the_force_scale():
    forces = np.array([[100.0, 0, 0], [1.0, 1.0, 1.0]])
    structure = make({29: 2}, 1.0, forces, fixed=[True, False])
    assert References.fit([structure]).force_scale == pytest.approx(1.0)


def test_forces_that_vanish_by_symmetry_set_no_scale():
    """Strained primitive cells: the rounding of their forces is no unit of energies."""
    strained = [
        Structure(
            atomic_numbers=[29],
            positions=np.zeros((1, 3)),
            cell=np.eye(3) * (2.5 + 0.01 * i),
            pbc=True,
            energy=-3.0 + 0.002 * i**2,
            forces=np.full((1, 3), 4e-15),
        )
        for i in range(16)
    ]
    together = References.fit(strained, conservative=True)
    assert together.energy_scale == together.force_scale > 0.05
    apart = References.fit(strained)
    assert apart.force_scale == 1.0
    assert apart.energy_scale == together.energy_scale


def test_forces_alone_are_enough():
    references = References.fit([make({29: 1}, None, [[2.0, 0.0, 0.0]])])
    assert references.force_scale == pytest.approx(2.0 / np.sqrt(3))
    assert references.reference_energy([29]) == 0.0


def test_unseen_element_is_an_error_that_names_it(noisy):
    references = References.fit(noisy)
    with pytest.raises(ReferencesError, match=r"no reference for N, Pt: .*only H, C, O"):
        references.energy([1, 7, 78], 0.0)


def test_missing_labels_are_errors(noisy):
    references = References.fit(noisy)
    with pytest.raises(ReferencesError, match=r"bare\.xyz:1.*no energy"):
        references.normalize_energy(make({1: 2}, identifier="bare.xyz:1"))
    with pytest.raises(ReferencesError, match="no forces"):
        references.normalize_forces(make({1: 2}))
    with pytest.raises(ReferencesError, match="none of the 1 structures"):
        References.fit([make({1: 2})])


def test_json_round_trip_is_exact(noisy):
    references = References.fit(noisy)
    again = References.from_dict(json.loads(json.dumps(references.to_dict())))
    np.testing.assert_array_equal(again.element_energies, references.element_energies)
    np.testing.assert_array_equal(again.seen, references.seen)
    assert again.energy_scale == references.energy_scale
    assert again.force_scale == references.force_scale


def test_a_damaged_dict_is_refused(noisy):
    values = References.fit(noisy).to_dict()
    with pytest.raises(ReferencesError, match=r"missing: \['energy_mean'\]"):
        References.from_dict({k: v for k, v in values.items() if k != "energy_mean"})
    with pytest.raises(ReferencesError, match="energy_scale must be positive"):
        References.from_dict({**values, "energy_scale": 0.0})


def test_intensive_property():
    structures = [make({1: 1 + i}, targets={"gap": 2.0 * i}) for i in range(5)]
    scale = PropertyScale.fit(structures, "gap")
    assert (scale.mean, scale.std) == (4.0, pytest.approx(np.std([0, 2, 4, 6, 8])))
    values = [scale.normalize(s) for s in structures]
    assert np.mean(values) == pytest.approx(0.0)
    assert np.std(values) == pytest.approx(1.0)
    assert scale.value([118], values[3]) == pytest.approx(6.0)


def test_extensive_property_takes_the_elements_out():
    rng = np.random.default_rng(2)
    counts = [(1 + i % 4, 1 + i % 3) for i in range(24)]
    structures = [
        make({1: h, 6: c}, targets={"u0": -16.0 * h - 1036.0 * c + rng.normal(0, 0.1)})
        for h, c in counts
    ]
    scale = PropertyScale.fit(structures, "u0", extensive=True)
    assert scale.std < 0.2
    again = PropertyScale.from_dict(json.loads(json.dumps(scale.to_dict())))
    for structure in structures:
        value = again.normalize(structure)
        back = again.value(structure.atomic_numbers, value)
        assert back == pytest.approx(structure.targets["u0"], abs=1e-9)
    with pytest.raises(ReferencesError, match="no reference for N"):
        scale.value([7], 0.0)


def test_a_missing_target_names_structure_and_alternatives():
    structure = make({1: 1}, targets={"gap": 1.0}, identifier="a.db:7")
    with pytest.raises(ReferencesError, match=r"'homo', such as .*a\.db:7.*have: gap"):
        PropertyScale.fit([structure], "homo")


def test_logarithms_are_undone() -> None:
    structures = [make({1: 2, 8: 1}, targets={"gap": gap}) for gap in (0.5, 2.0, 8.0)]
    scale = PropertyScale.fit(structures, "gap", transform="log")
    assert scale.mean == pytest.approx(np.log(2.0))
    assert scale.std == pytest.approx(np.std(np.log([0.5, 2.0, 8.0])))
    normalized = [scale.normalize(s) for s in structures]
    assert np.mean(normalized) == pytest.approx(0.0)
    numbers = structures[2].atomic_numbers
    assert scale.value(numbers, normalized[2]) == pytest.approx(8.0)
    again = PropertyScale.from_dict(json.loads(json.dumps(scale.to_dict())))
    assert again.value(numbers, normalized[0]) == pytest.approx(0.5)
    # As checkpoints of before say it.
    before = scale.to_dict()
    del before["transform"]
    assert PropertyScale.from_dict(before).transform == "identity"
    with pytest.raises(ReferencesError, match="target 'gap' is 0, which has no logarithm"):
        PropertyScale.fit([*structures, make({1: 1}, targets={"gap": 0.0})], "gap", transform="log")


def test_a_scale_that_leaves_zero_where_it_is():
    structures = [
        Structure(atomic_numbers=[1], positions=[[0, 0, 0]], targets={"mu": value})
        for value in (3.0, 4.0)
    ]
    scale = PropertyScale.fit(structures, "mu", centered=False)
    assert scale.mean == 0
    assert scale.std == pytest.approx(np.sqrt(12.5))
    assert scale.value([1], scale.normalize(structures[0])) == pytest.approx(3.0)
