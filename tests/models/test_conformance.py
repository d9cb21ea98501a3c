"""Every model: symmetries, padding, batching, derivatives, special cases."""

import dataclasses

import ase
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atomjax.models import predict
from tests.models.conformance import (
    LIMITS,
    by_structure,
    capacity_of,
    copper,
    moved,
    random_rotation,
    samples,
    structure,
)

pytestmark = pytest.mark.usefixtures("x64")
NAMES = sorted(samples())
# Collinear image edges of the crystal leave rounding of order 1e-9 in some angles.
CLOSE = {"crystal": 1e-6}
# Å, of two structures on either side of where something changes.
STEP = 1e-6


def close(value, expected, name="", scale=1.0):
    """Equal to rounding, relative to the larger of one and the expected size."""
    tolerance = CLOSE.get(name, 1e-10) * max(scale, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance)


def assert_smooth(before, after, work):
    """Two structures side by side differ by the work of the forces between them, and no more."""
    (energy, forces), (other, other_forces) = before, after
    expected = energy - work((forces + other_forces) / 2)
    assert other == pytest.approx(expected, rel=0, abs=1e-11 * max(1, abs(energy)))
    np.testing.assert_allclose(other_forces, forces, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def copper_capacity(suite):
    """A shape for each of the cells alone, the same for all limits."""
    return capacity_of([max(copper().values(), key=len)], suite.graph)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("head", ["direct", "conservative"])
def test_rotation_and_translation_carry_forces_along(suite, name, head):
    s = suite.samples[name]
    rotation = random_rotation(5)
    ((energy, forces),) = suite.predict(s, head=head)
    ((turned, turned_forces),) = suite.predict(moved(s, rotation, [1.0, -2.0, 3.0]), head=head)
    close(turned, energy, name)
    close(turned_forces, forces @ rotation.T, name)
    assert np.isfinite(forces).all()


@pytest.mark.parametrize("name", NAMES)
def test_permutation_carries_forces_along(suite, name):
    s = suite.samples[name]
    order = np.random.default_rng(7).permutation(len(s))
    ((energy, forces),) = suite.predict(s)
    ((permuted, permuted_forces),) = suite.predict(moved(s, order=order))
    close(permuted, energy, name)
    close(permuted_forces, forces[order], name)


def test_batching_and_padding_change_nothing(suite, in_a_wider_shape):
    structures = list(suite.samples.values())
    together = suite.predict(*structures)
    wider = by_structure(in_a_wider_shape[1], structures, "direct")
    for name, s, (energy, forces), (wide, wide_forces) in zip(
        suite.samples, structures, together, wider, strict=True
    ):
        ((alone, alone_forces),) = suite.predict(s)
        close(energy, alone, name)
        close(forces, alone_forces, name)
        close(wide, energy, name)
        close(wide_forces, forces, name)


def test_gradients_do_not_see_padding(suite, in_a_wider_shape):
    batch = suite.pack(*suite.samples.values())
    narrow = jax.jit(jax.grad(lambda v: suite.loss(v, batch)[0]))(suite.variables)["params"]
    wide = in_a_wider_shape[0]["params"]
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(narrow))
    for a, b in zip(jax.tree.leaves(narrow), jax.tree.leaves(wide), strict=True):
        close(b, a, "crystal", scale)


def test_a_batch_of_padding_is_finite_and_zero(suite):
    out = suite.run(suite.variables, suite.pack())
    for leaf in jax.tree.leaves(jax.tree.map(np.asarray, out)):
        assert np.isfinite(leaf).all()
    np.testing.assert_array_equal(out["direct"].energy, 0)
    np.testing.assert_array_equal(out["direct"].forces[:-1], 0)


@pytest.mark.parametrize("name", ["two atoms", "three atoms", "methanol", "slab"])
def test_conservative_forces_are_the_slope_of_the_energy(suite, name):
    s = suite.samples[name]
    ((_, forces),) = suite.predict(s, head="conservative")
    step = 1e-5
    for atom, axis in ((0, 0), (len(s) - 1, 2), (len(s) // 2, 1)):
        shift = np.zeros_like(s.positions)
        shift[atom, axis] = step
        up, down = (
            suite.predict(
                dataclasses.replace(s, positions=s.positions + sign * shift), head="conservative"
            )[0][0]
            for sign in (1, -1)
        )
        assert forces[atom, axis] == pytest.approx(-(up - down) / (2 * step), abs=2e-7)


def test_stress_is_the_slope_of_the_energy_under_strain(suite):
    crystal, slab, water = (suite.samples[name] for name in ("crystal", "slab", "three atoms"))

    def predicted(*structures):
        out = suite.run(suite.variables, suite.pack(*structures))["conservative"]
        return np.asarray(out.energy), np.asarray(out.stress)

    _, stress = predicted(crystal, slab, water)
    np.testing.assert_array_equal(stress[2:], 0)  # without a cell, and padding
    step = 1e-5
    for index, s in enumerate((crystal, slab)):
        volume = abs(np.linalg.det(s.cell))
        close(stress[index], stress[index].T)
        for i, j in ((0, 0), (1, 2)):
            ends = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[i, j] += sign * step / 2
                strain[j, i] += sign * step / 2
                bent = dataclasses.replace(s, positions=s.positions @ strain, cell=s.cell @ strain)
                ends.append(predicted(bent)[0][0])
            slope = (ends[0] - ends[1]) / (2 * step)
            assert volume * stress[index, i, j] == pytest.approx(slope, abs=1e-6)
        assert np.abs(stress[index]).max() > 1e-6
    rotation = random_rotation(5)
    _, turned = predicted(moved(crystal, rotation))
    close(turned[0], rotation @ stress[0] @ rotation.T, "crystal")


def test_a_loss_on_conservative_forces_has_finite_gradients(suite):
    batch = suite.pack(*suite.samples.values())

    @jax.jit
    def gradient(variables):
        def loss(variables):
            head = predict(suite.model, variables, batch)["conservative"]
            forces = jnp.where(batch.node_mask[:, None], head.forces, 0)
            return jnp.sum(forces**2) + 100 * jnp.sum(jnp.asarray(head.stress) ** 2)

        return jax.value_and_grad(loss)(variables)

    value, grads = gradient(suite.variables)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(grads["params"]["backbone"])]
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert sum(np.abs(leaf).sum() for leaf in leaves) > 0
    # The slope along one direction, by finite difference.
    direction = jax.tree.map(np.zeros_like, suite.variables)
    for leaf in jax.tree.leaves(direction["params"]["head_conservative"]):
        leaf[...] = 1
    step = 1e-5
    shifted = lambda sign: jax.tree.map(  # noqa: E731
        lambda v, d: v + sign * step * d, suite.variables, direction
    )
    slope = (gradient(shifted(1))[0] - gradient(shifted(-1))[0]) / (2 * step)
    ours = sum(leaf.sum() for leaf in jax.tree.leaves(grads["params"]["head_conservative"]))
    assert float(ours) == pytest.approx(float(slope), rel=1e-5)
    assert float(value) > 0


def test_energies_and_forces_are_smooth_where_a_neighbour_leaves_a_graph(suite):
    def dimer(distance):
        atoms = ase.Atoms("OHOH", [[0, 0, 0], [0, 0, 1], [distance, 0, 0], [distance, 0, 1]])
        return suite.predict(structure(atoms), head="conservative")[0]

    for end in set(suite.graph.cutoffs(periodic=False).values()):
        inside, outside = dimer(end - STEP), dimer(end + STEP)
        assert_smooth(inside, outside, lambda forces: 2 * STEP * forces[2:, 0].sum())
    assert dimer(2.5)[0] != pytest.approx(dimer(6.0)[0], abs=1e-5)


def swapped(suite, shift, graph=None):
    """Two neighbours of an atom, at 2 Å, the first of them nearer by ``shift``."""
    atoms = ase.Atoms("COH", [[0, 0, 0], [2 - shift / 2, 0, 0], [0, 2 + shift / 2, 0]])
    return suite.predict(structure(atoms), head="conservative", graph=graph)[0]


def test_energies_and_forces_are_smooth_where_neighbours_change_rank(suite):
    moved_by = lambda forces: STEP * (forces[2, 1] - forces[1, 0])  # noqa: E731
    assert_smooth(swapped(suite, -STEP), swapped(suite, STEP), moved_by)


@pytest.mark.parametrize("limits", LIMITS)
def test_energies_step_where_a_limit_changes_its_mind(suite, limits):
    graph = suite.limited(limits, 2)
    graph = dataclasses.replace(graph, max_neighbors=1)
    end = graph.shell_tolerance
    inside, outside = swapped(suite, end - STEP, graph), swapped(suite, end + STEP, graph)
    assert inside[0] != pytest.approx(outside[0], abs=1e-6)
    # But not where the two are equally far away.
    inside, outside = swapped(suite, -STEP, graph), swapped(suite, STEP, graph)
    assert_smooth(inside, outside, lambda forces: STEP * (forces[2, 1] - forces[1, 0]))


@pytest.mark.parametrize("limits", LIMITS)
def test_a_limit_does_not_see_the_order_of_the_atoms(suite, limits):
    graph = suite.limited(limits, 4)
    for name in ("methanol", "slab", "crystal"):
        s = suite.samples[name]
        order = np.random.default_rng(7).permutation(len(s))
        ((free, _),) = suite.predict(s)
        ((energy, forces),) = suite.predict(s, graph=graph)
        ((permuted, permuted_forces),) = suite.predict(moved(s, order=order), graph=graph)
        assert energy != pytest.approx(free, abs=1e-6)
        close(permuted, energy, name)
        close(permuted_forces, forces[order], name)


@pytest.mark.parametrize("limits", [None, *LIMITS])
def test_the_choice_of_cell_changes_nothing(suite, copper_capacity, limits):
    graph = suite.limited(limits, 14) if limits else None
    energies = []
    for s in copper().values():
        ((energy, forces),) = suite.predict(s, capacity=copper_capacity, graph=graph)
        energies.append(energy / len(s))
        np.testing.assert_allclose(forces, 0, atol=1e-8)
    np.testing.assert_allclose(energies, energies[0], rtol=0, atol=1e-8)


def test_far_apart_fragments_do_not_interact(suite):
    water = suite.samples["three atoms"]
    numbers = np.concatenate([water.atomic_numbers] * 2)
    positions = np.concatenate([water.positions, water.positions + np.array([60.0, 0, 0])])
    both = structure(ase.Atoms(numbers, positions))
    ((energy, forces),) = suite.predict(both, head="conservative")
    ((alone, alone_forces),) = suite.predict(water, head="conservative")
    close(energy, 2 * alone)
    close(forces, np.concatenate([alone_forces] * 2))
