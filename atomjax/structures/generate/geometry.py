"""Geometry of molecules: bonds, springs, relaxation, paths. Å, eV."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from scipy.optimize import minimize

from atomjax.structures.generate.errors import LabelError
from atomjax.structures.generate.labels import Label, Labeler
from atomjax.structures.units import BOLTZMANN

# A pair nearer than this multiple of its covalent radii is bonded.
BOND_REACH = 1.25
# A pair nearer than this multiple is an accident of the drawing, not a geometry.
CLASH_REACH = 0.6
# Å; one step of a relaxation.
MAX_STEP = 0.2
# eV/Å²: a bond's, and the least that any vibration gets, since pairs of atoms do not feel those out
# of the plane of a molecule. By GFN2-xTB molecules then have about twice the temperature's energy.
BOND_STIFFNESS = 30.0
SMALLEST_STIFFNESS = 3.0
# Share of the widest extent below which a molecule has none, as across the line of a linear one.
FLAT = 1e-3


@dataclass(frozen=True)
class Restraint:
    """A spring that drives the distance of two atoms to `length` Å; `stiffness` eV/Å²."""

    first: int
    second: int
    length: float
    stiffness: float = 20.0


def distances(positions: np.ndarray) -> np.ndarray:
    """[N, N] distances without periodic images; the diagonal is infinite."""
    delta = positions[:, None] - positions[None]
    lengths = np.sqrt((delta**2).sum(axis=-1))
    np.fill_diagonal(lengths, np.inf)
    return lengths


def contact_lengths(atomic_numbers: np.ndarray) -> np.ndarray:
    """[N, N] sums of covalent radii, Å."""
    radii = covalent_radii[atomic_numbers]
    return radii[:, None] + radii[None]


def bonds(atomic_numbers: np.ndarray, positions: np.ndarray) -> set[tuple[int, int]]:
    """Bonded pairs (i < j), judged by distance."""
    near = distances(positions) < BOND_REACH * contact_lengths(atomic_numbers)
    return {(int(i), int(j)) for i, j in np.argwhere(np.triu(near))}


def check_clashes(atomic_numbers: np.ndarray, positions: np.ndarray) -> None:
    """Raise LabelError where two atoms are nearer than in any molecule."""
    if (distances(positions) < CLASH_REACH * contact_lengths(atomic_numbers)).any():
        raise LabelError("atoms too close")


def spring_hessian(atomic_numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """[3N, 3N] eV/Å²: a stiffness guess from distances alone.

    Every pair is a spring along its line, of stiffness falling like a Gaussian of the distance
    over the covalent radii, so that bonds, angles and torsions come out stiff, softer and soft.
    """
    count = len(positions)
    lengths = distances(positions)
    reach = np.maximum(contact_lengths(atomic_numbers), 1.0)
    stiffness = BOND_STIFFNESS * np.exp(1.0 - (lengths / reach) ** 2)
    delta = positions[:, None] - positions[None]
    unit = delta / lengths[..., None]
    blocks = -stiffness[..., None, None] * unit[..., :, None] * unit[..., None, :]
    diagonal = np.arange(count)
    blocks[diagonal, diagonal] = -blocks.sum(axis=1)
    return blocks.transpose(0, 2, 1, 3).reshape(3 * count, 3 * count)


def rigid_motions(positions: np.ndarray) -> np.ndarray:
    """[3N, 6] orthonormal shifts and rotations of a molecule; 5 of a linear one, 3 of an atom."""
    axes = np.eye(3)
    arms = positions - positions.mean(axis=0)
    turns = [np.cross(axis, arms).ravel() for axis in axes]
    shifts = [np.tile(axis, len(arms)) for axis in axes]
    # Rotations in the units of shifts.
    size = max(float(np.abs(arms).max()), 1e-9)
    vectors, lengths, _ = np.linalg.svd(
        np.array([*shifts, *(turn / size for turn in turns)]).T, full_matrices=False
    )
    return vectors[:, lengths > FLAT * lengths.max()]


class ThermalMotion:
    """Displacements that a harmonic molecule shows at a temperature.

    Drawn from exp(-x·H·x / 2kT) with the springs' stiffness H, without shift or rotation.

    Args:
        atomic_numbers: [N].
        positions: [N, 3] Å, the rest geometry.
    """

    def __init__(self, atomic_numbers: np.ndarray, positions: np.ndarray) -> None:
        rigid = rigid_motions(positions)
        free = np.eye(len(rigid)) - rigid @ rigid.T
        springs = free @ spring_hessian(atomic_numbers, positions) @ free
        # Stiffer than all vibrations, rigid motions come last.
        values, vectors = np.linalg.eigh(springs + 1e6 * rigid @ rigid.T)
        self._vectors = vectors[:, : -rigid.shape[1]]
        self._stiffness = np.maximum(values[: -rigid.shape[1]], SMALLEST_STIFFNESS)

    def displacement(self, temperature: float, rng: np.random.Generator) -> np.ndarray:
        """[N, 3] Å at `temperature` K."""
        amplitudes = np.sqrt(BOLTZMANN * temperature / self._stiffness)
        return (self._vectors @ (amplitudes * rng.normal(size=len(amplitudes)))).reshape(-1, 3)


def relax(
    labeler: Labeler,
    atomic_numbers: np.ndarray,
    positions: np.ndarray,
    *,
    max_force: float,
    steps: int,
    restraints: Sequence[Restraint] = (),
    must_converge: bool = True,
) -> tuple[np.ndarray, Label]:
    """Descend to a nearby minimum by BFGS that starts from the springs' Hessian.

    Args:
        labeler: gives forces.
        atomic_numbers: [N].
        positions: [N, 3] Å, where to begin.
        max_force: eV/Å, the largest force on an atom at which to stop.
        steps: the most steps to take.
        restraints: springs on top of the physics.
        must_converge: whether running out of steps is an error.

    Returns:
        Positions [N, 3] and the label there (without the restraints).

    Raises:
        LabelError: a label fails, or the steps run out.
    """
    hessian = spring_hessian(atomic_numbers, positions) + np.eye(positions.size)
    label = labeler.label(positions)
    forces = label.forces + _restraining_forces(positions, restraints)
    for _ in range(steps):
        if np.linalg.norm(forces, axis=1).max() < max_force:
            return positions, label
        step = _bounded_step(hessian, forces)
        positions = positions + step
        label = labeler.label(positions)
        moved = label.forces + _restraining_forces(positions, restraints)
        hessian = _bfgs_update(hessian, step.ravel(), (forces - moved).ravel())
        forces = moved
    if must_converge and np.linalg.norm(forces, axis=1).max() >= max_force:
        raise LabelError("relaxation did not converge")
    return positions, label


def _bounded_step(hessian: np.ndarray, forces: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(hessian)
    # Uphill directions are turned downhill.
    step = vectors @ ((vectors.T @ forces.ravel()) / np.maximum(np.abs(values), 1e-2))
    step = step.reshape(-1, 3)
    return step * min(1.0, MAX_STEP / np.linalg.norm(step, axis=1).max())


def _bfgs_update(hessian: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Curvature along `step` set from the gradient's `change`."""
    along, pushed = change @ step, hessian @ step
    if abs(along) < 1e-9:
        return hessian
    return (
        hessian
        + np.outer(change, change) / along
        - np.outer(pushed, pushed) / max(step @ pushed, 1e-9)
    )


def _restraining_forces(positions: np.ndarray, restraints: Sequence[Restraint]) -> np.ndarray:
    forces = np.zeros_like(positions)
    for spring in restraints:
        delta = positions[spring.first] - positions[spring.second]
        length = max(float(np.linalg.norm(delta)), 1e-6)
        pull = -spring.stiffness * (length - spring.length) * delta / length
        forces[spring.first] += pull
        forces[spring.second] -= pull
    return forces


def align(positions: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """`positions` [N, 3] turned and shifted to lie on `onto` [N, 3] (Kabsch, no mirror)."""
    centre, goal = positions.mean(axis=0), onto.mean(axis=0)
    left, _, right = np.linalg.svd((positions - centre).T @ (onto - goal))
    handedness = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    return (positions - centre) @ (left @ handedness @ right) + goal


def interpolate_pairs(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """The image `share` of the way along a path of linearly changing pair distances; [N, 3] Å.

    The image-dependent pair potential of Smidstrup et al., J. Chem. Phys. 140, 214106 (2014),
    with each image taken for itself, from the straight line.
    """
    before, after = distances(start), distances(end)
    np.fill_diagonal(before, 1.0)
    np.fill_diagonal(after, 1.0)
    goal = (1.0 - share) * before + share * after
    weights = goal**-4
    np.fill_diagonal(weights, 0.0)

    def misfit(flat: np.ndarray) -> tuple[float, np.ndarray]:
        delta = flat.reshape(-1, 1, 3) - flat.reshape(1, -1, 3)
        lengths = np.maximum(np.sqrt((delta**2).sum(axis=-1)), 1e-6)
        error = weights * (lengths - goal)
        value = float((error * (lengths - goal)).sum()) / 2.0
        gradient = 2.0 * ((error / lengths)[..., None] * delta).sum(axis=1)
        return value, gradient.ravel()

    line = (1.0 - share) * start + share * end
    found = minimize(misfit, line.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 40})
    return align(found.x.reshape(-1, 3), line)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """[3, 3] rotation, uniform over all of them."""
    matrix, triangle = np.linalg.qr(rng.normal(size=(3, 3)))
    matrix = matrix * np.sign(np.diag(triangle))
    return matrix * np.sign(np.linalg.det(matrix))
