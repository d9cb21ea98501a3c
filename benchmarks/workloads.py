"""Workloads of the training benchmarks: batches, and the compiled step on each of them.

molecules   8 organic molecules of 9 to 14 atoms, in the image of ANI-1x; direct forces
slabs       2 metal slabs of 46 and 77 atoms with adsorbates, in the image of OC20
mixed       both together, as one batch of a multi-task pretraining with a head for each
dynamics    4 frames of aspirin, in the image of rMD17; conservative forces
"""

import functools
import time
from dataclasses import dataclass
from typing import Any

import ase.build
import jax
import jax.numpy as jnp
import numpy as np

from atomjax.graphs import pack_structures
from atomjax.models import HeadConfig, build_model, init_variables, predict
from atomjax.models.gemnet_oc import PUBLISHED_GRAPH
from atomjax.structures import Structure
from atomjax.training.settings import BatchingSettings, TrainSettings
from atomjax.training.update.optimizer import make_optimizer
from atomjax.training.update.state import create_state, data_mesh, place, place_batch
from atomjax.training.update.step import CountedFunction, make_train_step
from atomjax.training.update.tasks import Task

MOLECULES = (
    *("CH3CH2OH", "C3H8", "trans-butane", "C4H4NH"),
    *("C6H6", "isobutane", "CH3COCH3", "C5H5N"),
)
# Aspirin near rest, written out so that a node without RDKit can be measured.
ASPIRIN = ase.Atoms(
    "C2O2C7O2H8",
    [
        *[(3.44, 0.08, -0.17), (2.06, -0.27, 0.29), (1.76, -0.54, 1.44), (1.20, -0.24, -0.81)],
        *[(-0.13, -0.46, -0.46), (-0.63, -1.76, -0.65), (-1.96, -2.04, -0.35)],
        *[(-2.79, -1.03, 0.14), (-2.29, 0.27, 0.32), (-0.96, 0.57, 0.01), (-0.43, 1.95, 0.17)],
        *[(0.68, 2.35, -0.13), (-1.34, 2.79, 0.71), (3.44, 1.06, -0.65), (3.81, -0.69, -0.86)],
        *[(4.11, 0.12, 0.70), (0.02, -2.54, -1.03), (-2.35, -3.04, -0.49), (-3.83, -1.25, 0.38)],
        *[(-2.96, 1.04, 0.69), (-0.86, 3.64, 0.77)],
    ],
)
SLABS = (("Cu", (3, 3, 5)), ("Ag", (3, 5, 5)))
KINDS = ("molecules", "slabs", "mixed", "dynamics")


def labelled(atoms: ase.Atoms, rng: np.random.Generator, tags: np.ndarray | None) -> Structure:
    """Shaken atoms with random labels: speed does not depend on the values."""
    return Structure(
        atomic_numbers=atoms.numbers,
        positions=atoms.positions + rng.normal(0, 0.05, atoms.positions.shape),
        cell=atoms.cell.array if atoms.pbc.any() else None,
        pbc=atoms.pbc,
        tags=tags,
        energy=float(rng.normal()),
        forces=rng.normal(size=atoms.positions.shape),
    )


def molecules(rng: np.random.Generator) -> list[Structure]:
    """Eight molecules of 9 to 14 atoms."""
    return [labelled(ase.build.molecule(name), rng, None) for name in MOLECULES]


def slabs(rng: np.random.Generator) -> list[Structure]:
    """Two metal slabs of 46 and 77 atoms with an oxygen atom or carbon monoxide on top."""
    structures = []
    for i, (metal, size) in enumerate(SLABS):
        atoms = ase.build.fcc111(metal, size, vacuum=8.0, periodic=True)
        guest = ase.Atoms("CO", [(0, 0, 0), (0, 0, 1.15)]) if i % 2 else ase.Atoms("O")
        ase.build.add_adsorbate(atoms, guest, 1.6, "fcc")
        # ASE numbers the layers from the top: 1 is the surface, 0 the adsorbate.
        tags = np.choose(np.minimum(atoms.get_tags(), 2), [2, 1, 0])
        structures.append(labelled(atoms, rng, tags))
    return structures


def dynamics(rng: np.random.Generator) -> list[Structure]:
    """Four frames of aspirin, 21 atoms."""
    return [labelled(ASPIRIN, rng, None) for _ in range(4)]


def structures_of(kind: str, copies: int = 1) -> list[Structure]:
    """The structures of a batch, ``copies`` times as many, each shaken anew."""
    rng = np.random.default_rng(0)
    make = {"molecules": [molecules], "slabs": [slabs], "dynamics": [dynamics]}
    makers = make.get(kind, [molecules, slabs])
    return [s for _ in range(copies) for maker in makers for s in maker(rng)]


@dataclass
class Workload:
    """Inputs of a training step, before anything is computed.

    Attributes:
        structures: structures of the batch.
        batch: batch of numpy arrays, for one device.
        network: the model with a head for each task.
        tasks: tasks of the loss.
    """

    structures: list[Structure]
    batch: Any
    network: Any
    tasks: list[Task]

    @property
    def num_edges(self) -> int:
        """Main edges of the batch."""
        return int(self.batch.edge_mask.sum())

    def step(self, params: Any, mesh: jax.sharding.Mesh) -> tuple[Any, CountedFunction]:
        """The optimiser and the step of training on a mesh."""
        batching = BatchingSettings(batch_size=len(self.structures))
        settings = TrainSettings(batching=batching, epochs=1)
        optimizer = make_optimizer(settings, params, 1000, ())
        apply = functools.partial(predict, self.network)
        return optimizer, make_train_step(apply, self.tasks, optimizer, mesh)


def workload(kind: str, model: dict[str, Any], copies: int = 1) -> Workload:
    """A model and a batch for it.

    Args:
        kind: one of ``KINDS``.
        model: config of the model, {"name": ..., **overrides}.
        copies: times the batch's size.
    """
    structures = structures_of(kind, copies)
    batch: Any = pack_structures(structures, PUBLISHED_GRAPH)
    names = ["molecules", "slabs"] if kind == "mixed" else [kind]
    if kind == "mixed":
        periodic = np.array([s.pbc is not None and np.any(s.pbc) for s in structures])
        dataset = np.zeros_like(batch.targets.dataset)
        dataset[: len(structures)] = periodic
        batch = batch.replace(targets=batch.targets.replace(dataset=dataset))
    forces = "conservative" if kind == "dynamics" else "direct"
    network = build_model(model, [HeadConfig(name=name, forces=forces) for name in names])
    return Workload(structures, batch, network, [Task(name=name) for name in names])


@dataclass
class Training:
    """A compiled training step with the state and batch that it is to be called on.

    Attributes:
        structures: structures of the batch.
        num_edges: main edges of the batch.
        parameters: number of the model's, heads included.
        compiled: (state, batch) → (state, metrics).
        state: consumed by a call.
        batch: placed.
        trace_seconds, compile_seconds: wall time.
    """

    structures: list[Structure]
    num_edges: int
    parameters: int
    compiled: Any
    state: Any
    batch: Any
    trace_seconds: float
    compile_seconds: float

    def run(self) -> Any:
        """Starts one step, and returns its metrics."""
        self.state, metrics = self.compiled(self.state, self.batch)
        return metrics


def training(kind: str, model: dict[str, Any], copies: int = 1) -> Training:
    """Compiles a step of a model on a batch; arguments as of :func:`workload`."""
    made = workload(kind, model, copies)
    variables = init_variables(made.network, jax.random.key(0), made.batch)
    # Any factors do for speed; fitting them compiles the model once more.
    variables["scale_factors"] = jax.tree.map(jnp.ones_like, variables["scale_factors"])

    mesh = data_mesh(jax.devices()[:1])
    optimizer, step = made.step(variables["params"], mesh)
    state = place(create_state(variables, optimizer, seed=0), mesh)
    placed = place_batch(jax.tree.map(lambda x: np.asarray(x)[None], made.batch), mesh)
    begin = time.perf_counter()
    lowered = step.lower(state, placed)
    traced = time.perf_counter()
    compiled = lowered.compile()
    return Training(
        structures=made.structures,
        num_edges=made.num_edges,
        parameters=sum(x.size for x in jax.tree.leaves(variables["params"])),
        compiled=compiled,
        state=state,
        batch=placed,
        trace_seconds=traced - begin,
        compile_seconds=time.perf_counter() - traced,
    )
