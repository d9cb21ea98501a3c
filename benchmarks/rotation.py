"""Rotation error of EquiformerV2 at several resolutions of its grid, with the cost of each.

    python -m benchmarks.rotation

Energies and forces of a molecule and of a slab that are rotated at random are compared in float64
with those that they should have, root mean square over rotations, relative to the largest. The
weights are random ones of the size that training gives, by the rule of the parity check.
"""

import argparse
import dataclasses

import ase.build
import jax
import numpy as np

from atomjax.convert.equiformer_v2.convert import EquiformerV2Family
from atomjax.convert.equiformer_v2.names import checkpoint_entries
from atomjax.convert.family import fill
from atomjax.graphs import GraphConfig, Sizes, build_many, fit_capacity, pack_structures
from atomjax.graphs.batch import GraphBatch
from atomjax.models import AtomicModel, HeadConfig, build_model, predict
from atomjax.models.equiformer_v2 import published_graph
from atomjax.parity.equiformer_v2 import random_rotation, rule_weight
from atomjax.parity.result import relative_error
from atomjax.structures import Structure
from benchmarks.extract import from_ase, slab
from benchmarks.measure import machine, seconds

PUBLISHED = 18
HEAD = HeadConfig(name="task", kind="energy_forces", forces="direct")


def rule_variables(model: AtomicModel, batch: GraphBatch) -> dict:
    """Weights of the parity check's rule with salt 0."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
    entries = {
        name: rule_weight(name, shape, 0)
        for _, _, name, shape in checkpoint_entries(shapes, model.heads)
    }
    filled = fill(shapes, model.heads, EquiformerV2Family(), entries)
    return jax.tree.map(lambda x: x.astype(np.float64), filled)


def rotated(structure: Structure, rotation: np.ndarray) -> Structure:
    """The structure with its cell turned by [3, 3]."""
    turned = structure.positions @ rotation.T
    return dataclasses.replace(structure, positions=turned, cell=structure.cell @ rotation.T)


def errors(
    model: AtomicModel, structures: list[Structure], graph: GraphConfig, rotations: int
) -> tuple[np.ndarray, float]:
    """[structures, (energy, forces)] relative errors and the seconds of one evaluation."""
    sizes = Sizes.measure(build_many(structures, graph))
    capacity = fit_capacity(sizes.needs([np.array([i]) for i in range(len(structures))]))

    def pack(structure: Structure) -> GraphBatch:
        return pack_structures([structure], graph, capacity, dtype=np.dtype(np.float64))

    variables = rule_variables(model, pack(structures[0]))
    apply = jax.jit(lambda batch: predict(model, variables, batch)[HEAD.name])
    found = []
    for structure in structures:
        plain = jax.device_get(apply(pack(structure)))
        for seed in range(rotations):
            rotation = random_rotation(seed)
            turned = jax.device_get(apply(pack(rotated(structure, rotation))))
            atoms = slice(len(structure))
            energy = relative_error(turned.energy[:1], plain.energy[:1])
            forces = relative_error(turned.forces[atoms] @ rotation, plain.forces[atoms])
            found.append((energy, forces))
    squares = np.square(found).reshape(len(structures), rotations, 2)
    batch = pack(structures[-1])
    return np.sqrt(squares.mean(1)), min(seconds(lambda: apply(batch)) for _ in range(3))


def main() -> None:
    """Prints one line a resolution."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="equiformer_v2_31M")
    parser.add_argument("--rotations", type=int, default=3)
    parser.add_argument("--grid", type=int, nargs="+", default=[PUBLISHED, 24, 30, 36, 48])
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(f"{options.model}, float64, {machine()}")
    ethanol = from_ase(ase.build.molecule("CH3CH2OH"))
    structures = [ethanol, slab((2, 2, 3))]
    first = None
    for resolution in options.grid:
        config = {"name": options.model, "grid_resolution": resolution, "exact_grid": True}
        graph = published_graph()
        model = build_model(config, [HEAD])
        found, taken = errors(model, structures, graph, options.rotations)
        first = first or taken
        energy, forces = found.max(axis=0)
        print(
            f"grid {resolution:3d}  energy {energy:.1e}  forces {forces:.1e}  "
            f"{taken:6.2f} s a slab of 14 atoms, {taken / first:.2f} × the first",
            flush=True,
        )


if __name__ == "__main__":
    main()
