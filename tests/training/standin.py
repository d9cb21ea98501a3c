"""A model and batches small enough to reason about, for tests of the training code."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph
import numpy as np

from atomjax.graphs.batch import GraphBatch, Targets
from atomjax.models import Prediction
from atomjax.ops import sum_slots
from atomjax.ops.gather import Slots
from atomjax.training.update.tasks import Task


@dataclass
class Labelled:
    """One structure with labels in model units; None and NaN where absent."""

    atomic_numbers: np.ndarray
    positions: np.ndarray
    energy: float | None = None
    forces: np.ndarray | None = None
    fixed: np.ndarray | None = None
    properties: dict[str, float] = field(default_factory=dict)
    dataset: int = 0
    index: int = 0


def random_structures(count: int, seed: int = 0, datasets: int = 1) -> list[Labelled]:
    """Structures of 1 to 6 atoms; some without energy, some without forces, some atoms fixed."""
    rng = np.random.default_rng(seed)
    structures = []
    for i in range(count):
        n = int(rng.integers(1, 7))
        structures.append(
            Labelled(
                atomic_numbers=rng.integers(1, 9, n),
                positions=rng.normal(size=(n, 3)),
                energy=None if i % 5 == 4 else float(rng.normal()),
                forces=None if i % 7 == 6 else rng.normal(size=(n, 3)),
                fixed=rng.random(n) < 0.2,
                properties={"gap": float(rng.normal())},
                dataset=i % datasets,
                index=i,
            )
        )
    return structures


def make_batch(
    structures: Sequence[Labelled], *, graphs: int, nodes: int, slots: int = 6
) -> GraphBatch:
    """A batch without edges, of G ``graphs``, N ``nodes`` and M ``slots``."""
    counts = [len(s.atomic_numbers) for s in structures]
    assert len(counts) < graphs
    assert sum(counts) < nodes
    numbers: Any = np.zeros(nodes, np.int32)
    positions: Any = np.zeros((nodes, 3), np.float32)
    n_node: Any = np.zeros(graphs, np.int32)
    index: Any = np.full((graphs, slots), nodes, np.int32)
    place: Any = np.full(nodes, graphs * slots, np.int32)
    node_graph: Any = np.full(nodes, graphs - 1, np.int32)
    energy: Any = np.zeros(graphs, np.float32)
    energy_mask: Any = np.zeros(graphs, bool)
    forces: Any = np.zeros((nodes, 3), np.float32)
    force_mask: Any = np.zeros(nodes, bool)
    gap: Any = np.zeros(graphs, np.float32)
    gap_mask: Any = np.zeros(graphs, bool)
    dataset: Any = np.zeros(graphs, np.int32)
    no_slots: Any = np.zeros((nodes, 0), np.int32)
    structure: Any = np.full(graphs, -1, np.int32)
    start = 0
    for g, item in enumerate(structures):
        n = counts[g]
        atoms = slice(start, start + n)
        numbers[atoms], positions[atoms] = item.atomic_numbers, item.positions
        n_node[g], node_graph[atoms] = n, g
        index[g, :n], place[atoms] = np.arange(start, start + n), g * slots + np.arange(n)
        dataset[g], structure[g] = item.dataset, item.index
        gap[g], gap_mask[g] = item.properties.get("gap", 0.0), "gap" in item.properties
        if item.energy is not None:
            energy[g], energy_mask[g] = item.energy, True
        if item.forces is not None:
            forces[atoms] = item.forces
            force_mask[atoms] = True if item.fixed is None else ~item.fixed
        start += n
    n_node[-1] = nodes - start
    empty: Any = np.zeros(0, np.int32)
    return GraphBatch(
        graph=jraph.GraphsTuple(
            nodes={"atomic_numbers": numbers, "positions": positions},
            edges={},
            senders=empty,
            receivers=empty,
            n_node=n_node,
            n_edge=np.zeros_like(n_node),
            globals={},
        ),
        slots=Slots(index=no_slots, position=empty),
        swap=empty,
        reverse=None,
        atoms=Slots(index=index, position=place),
        node_graph=node_graph,
        a2ee2a=None,
        a2a=None,
        quadruplets=None,
        targets=Targets(
            energy=energy,
            energy_mask=energy_mask,
            forces=forces,
            force_mask=force_mask,
            properties={"gap": gap},
            property_masks={"gap": gap_mask},
            dataset=dataset,
            structure=structure,
        ),
    )


def stack(batches: Sequence[GraphBatch]) -> GraphBatch:
    """Batches of one shape on a leading device axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *batches)


class Model(nn.Module):
    """Features from the element and the position of each atom; a head for each task."""

    tasks: tuple[Task, ...]
    dropout: float = 0.0

    @nn.compact
    def __call__(self, batch: GraphBatch, train: bool = False) -> dict[str, Prediction]:
        scale = self.param("scale", nn.initializers.ones, ())
        factor = self.variable("scale_factors", "factor", lambda: jnp.ones(()))
        nodes: Any = batch.graph.nodes
        h = nn.Embed(20, 8, name="backbone")(nodes["atomic_numbers"])
        h = h + jnp.sin(nn.Dense(8, name="geometry")(nodes["positions"])) * factor.value
        h = nn.Dropout(self.dropout, deterministic=not train)(h)
        predictions = {}
        for task in self.tasks:
            atoms = nn.Dense(1, name=f"head_{task.name}")(h)[:, 0] * scale
            forces = nn.Dense(3, name=f"forces_{task.name}")(h)
            pooled = sum_slots(atoms, batch.atoms)
            predictions[task.name] = Prediction(
                energy=None if task.kind == "scalar" else pooled,
                forces=forces if task.kind == "energy_forces" else None,
                values={target.name: pooled for target in task.targets},
                atom_contributions=atoms,
            )
        return predictions

    def as_function(self) -> Any:
        """The model with the signature of ``atomjax.models.predict``."""

        def apply(variables, batch, *, train=False, rngs=None):
            return self.apply(variables, batch, train, rngs=rngs)

        return apply


def init(model: Model, batch: GraphBatch, seed: int = 0) -> dict[str, Any]:
    """Fresh variables."""
    variables: Any = jax.jit(model.init)(jax.random.key(seed), batch)
    return dict(variables)
