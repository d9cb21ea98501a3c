"""The properties every model must have, as functions of a model and its variables.

Every registered backbone is in the suite (see ``conftest.py``), in its smallest size; all
structures share one padded shape, so that a model compiles once.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial

import ase.build
import jax
import jax.numpy as jnp
import numpy as np

from atomjax.graphs import (
    Capacity,
    GraphConfig,
    Sizes,
    build_many,
    fit_capacity,
    pack_structures,
)
from atomjax.models import AtomicModel, Prediction, predict
from atomjax.structures import Structure

CONFIG = GraphConfig(cutoff=4.0, cutoff_a2ee2a=3.7, cutoff_qint=3.3, cutoff_a2a=5.0)
NEAREST = dataclasses.replace(CONFIG, kind="nearest")
# Limits that bite in nearly all samples and in copper, there between two shells and within one.
LIMITS = {
    "whole shells, union": {"symmetrization": "union", "shells": "keep"},
    "fewer shells, intersection": {"symmetrization": "intersection", "shells": "leave"},
}


def structure(atoms: ase.Atoms, tags: np.ndarray | None = None) -> Structure:
    """An ASE structure as ours."""
    return Structure(
        atomic_numbers=atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell.array if atoms.pbc.any() else None,
        pbc=atoms.pbc,
        tags=tags if tags is not None else np.full(len(atoms), 2),
        identifier=atoms.get_chemical_formula(),
    )


def samples() -> dict[str, Structure]:
    """Structures that between them meet every special case."""
    rng = np.random.default_rng(3)
    methanol = ase.build.molecule("CH3OH")
    methanol.rattle(0.05, seed=1)
    slab = ase.build.fcc111("Cu", (2, 2, 2), vacuum=6.0)
    ase.build.add_adsorbate(slab, "O", 1.2, "fcc")
    slab.pbc = True
    slab.rattle(0.05, seed=2)
    salt = ase.build.bulk("NaCl", "rocksalt", a=5.6)
    salt.set_cell(salt.cell.array @ (np.eye(3) + 0.1 * rng.normal(size=(3, 3))), scale_atoms=True)
    return {
        "one atom": structure(ase.Atoms("Ar")),
        "no neighbours": structure(ase.Atoms("ArNe", [[0, 0, 0], [0, 0, 40]])),
        "two atoms": structure(ase.build.molecule("CO")),
        "three atoms": structure(ase.build.molecule("H2O")),
        "linear": structure(ase.build.molecule("CO2")),
        "methanol": structure(methanol),
        "slab": structure(slab, tags=np.array([0] * 4 + [1] * 4 + [2])),
        "crystal": structure(salt, tags=np.ones(2, int)),
    }


class Suite:
    """A model with variables in float64, compiled for one shape."""

    def __init__(self, model: AtomicModel, variables, graph: GraphConfig):
        self.model, self.graph = model, graph
        self.variables = jax.tree.map(lambda x: np.asarray(x, np.float64), variables)
        self.samples = samples()
        self.capacity = capacity_of(list(self.samples.values()), graph)
        self.run = jax.jit(partial(predict, model))

    def loss(self, variables, batch) -> tuple[jax.Array, dict[str, Prediction]]:
        """A loss on the energies and forces of the head "direct", and all outputs."""
        out = predict(self.model, variables, batch)
        energies = jnp.where(batch.graph_mask, jnp.sin(out["direct"].energy), 0)
        forces = jnp.where(batch.node_mask[:, None], jnp.cos(out["direct"].forces), 0)
        return energies.sum() + forces.sum(), out

    def limited(self, limits: str, most: int) -> GraphConfig:
        """The suite's graph with limits, at most ``most`` neighbours, fewer in other graphs."""
        fields = {"max_neighbors": most, "max_neighbors_a2ee2a": most - 1}
        fields["max_neighbors_qint"] = most - 1
        return dataclasses.replace(self.graph, **fields, **LIMITS[limits])

    def pack(
        self,
        *structures: Structure,
        capacity: Capacity | None = None,
        graph: GraphConfig | None = None,
    ):
        """A float64 batch of the suite's shape and graph."""
        graph, capacity = graph or self.graph, capacity or self.capacity
        return pack_structures(structures, graph, capacity, dtype=np.float64)

    def predict(
        self,
        *structures: Structure,
        capacity: Capacity | None = None,
        head="direct",
        graph: GraphConfig | None = None,
    ):
        """Per structure: (energy, forces)."""
        out = self.run(self.variables, self.pack(*structures, capacity=capacity, graph=graph))
        return by_structure(out, structures, head)


def by_structure(out: dict[str, Prediction], structures: Sequence[Structure], head: str):
    """Per structure of a batch: (energy, forces)."""
    energies, forces = jax.device_get((out[head].energy, out[head].forces))
    ends = np.cumsum([len(s) for s in structures])
    parts = np.split(forces[: ends[-1]], ends[:-1])
    return [(float(energy), part) for energy, part in zip(energies, parts, strict=False)]


def capacity_of(structures: list[Structure], config: GraphConfig, slack: int = 3) -> Capacity:
    """A shape that holds all structures together."""
    sizes = Sizes.measure(build_many(structures, config))
    return fit_capacity(sizes.needs([np.arange(len(structures))])).enlarged(slack)


def moved(s: Structure, rotation=None, shift=None, order=None) -> Structure:
    """The structure rotated, translated, and with its atoms in another order."""
    rotation = np.eye(3) if rotation is None else rotation
    order = np.arange(len(s)) if order is None else order
    return dataclasses.replace(
        s,
        atomic_numbers=s.atomic_numbers[order],
        positions=(s.positions @ rotation.T + (0 if shift is None else shift))[order],
        cell=s.cell @ rotation.T,
        tags=s.tags[order],
        fixed=s.fixed[order],
    )


def copper() -> dict[str, Structure]:
    """One crystal, fcc copper, in three cells."""
    primitive, cubic = (ase.build.bulk("Cu", "fcc", a=3.6, cubic=cubic) for cubic in (False, True))
    cells = {"primitive": primitive, "cubic": cubic, "3 × 3 × 3": primitive * (3, 3, 3)}
    return {name: structure(atoms) for name, atoms in cells.items()}


def random_rotation(seed: int) -> np.ndarray:
    """A proper rotation."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))
