"""The device batch: many structures as one padded graph of static shape.

Shape letters, used in names and docstrings throughout the project:

    N   atoms of the batch, the last at least one of which is padding
    G   structures ("graphs") of the batch, the last of which holds the padding atoms
    E   main edges            K   main neighbour slots of an atom
    A   a2ee2a edges          J   a2ee2a neighbour slots of an atom
    P   a2a neighbour slots of an atom
    Q   atoms that take part in quadruplets, and B their qint neighbour slots
    R   readers of a row in a reverse table (see ``atomjax.ops.gather``)
    M   atoms of the largest structure

All vectors point from sender to receiver, in Å: ``x_receiver - x_sender - offset @ cell``.
They are computed on the host in float64 and then rounded, so that large coordinates cost no
precision; derivatives go through the displacement argument of the models instead of positions.
Edges are sorted by receiver. Out-of-range indices mean "nothing".
"""

from typing import Any, cast

import jax
import jax.numpy as jnp
import jraph
from flax import struct

from atomjax.ops.gather import Slots, TieredSlots

# Batches are declared to hold jax arrays; on the host numpy arrays stand in for them.
Leaf = Any


@struct.dataclass
class AtomToEdgeGraph:
    """The a2ee2a graph of atom-to-edge and edge-to-atom messages, flat edges.

    Attributes:
        senders: [A] sending atom; N - 1 (a padding atom) for padding edges.
        vector: [A, 3] Å.
        image: [A] code of the periodic image offset (equal codes, equal images; codes add).
        slots: [N, J] slots of the receivers.
        reverse: [N, R] the edges that each atom sends.
    """

    senders: jax.Array
    vector: jax.Array
    image: jax.Array
    slots: Slots
    reverse: jax.Array


@struct.dataclass
class Tiers:
    """Slots of atoms sorted by their number of neighbours; see ``atomjax.graphs.tiers``.

    Attributes:
        atoms: [N] the atoms of all tiers, one tier after the other.
        place: [N] place of each atom in ``atoms``.
        main: slots of the main edges.
        a2ee2a: slots of the a2ee2a edges, or None.
    """

    atoms: jax.Array
    place: jax.Array
    main: TieredSlots
    a2ee2a: TieredSlots | None


@struct.dataclass
class AtomToAtomGraph:
    """The a2a graph of atom-to-atom messages, dense slots.

    Attributes:
        senders: [N, P] sending atom; N where the slot is empty.
        vector: [N, P, 3] Å; zero where empty.
        reverse: [N, R] flat slots that each atom sends to; N * P for none.
    """

    senders: jax.Array
    vector: jax.Array
    reverse: jax.Array


@struct.dataclass
class QuadrupletGraph:
    """The qint graph: middle edges b→a of the quadruplets d→b→a←c, dense over the atoms a.

    Attributes:
        atom: [Q] the atoms a with at least one middle edge; N for padding.
        inverse: [N] place of each atom in ``atom``; Q where it has no middle edge.
        senders: [Q, B] atom b; N where the slot is empty.
        vector: [Q, B, 3] Å; zero where empty.
        image: [Q, B] code of the periodic image offset.
        reverse: [N, R] flat slots that each atom b sends to; Q * B for none.
    """

    atom: jax.Array
    inverse: jax.Array
    senders: jax.Array
    vector: jax.Array
    image: jax.Array
    reverse: jax.Array


@struct.dataclass
class Targets:
    """Labels, in the units the model is trained on (normalised), zero where absent.

    Attributes:
        energy: [G] referenced and scaled energy.
        energy_mask: [G] bool, true where a real structure has an energy.
        forces: [N, 3] scaled forces.
        force_mask: [N] bool, true where an atom has a force and counts (not padding; fixed ones
            only if the data set says so).
        properties: name → [G] scaled property.
        property_masks: name → [G] bool, true where a real structure has the property.
        dataset: [G] index of each structure's dataset (the task whose heads it trains).
        structure: [G] index of each structure in its dataset, to name it in reports; -1: padding.
        stress: [G, 3, 3] scaled stress (model units of the energy per Å³), or None in batches
            that train none.
        stress_mask: [G] bool, true where a real structure has a stress, or None.
    """

    energy: jax.Array
    energy_mask: jax.Array
    forces: jax.Array
    force_mask: jax.Array
    properties: dict[str, jax.Array]
    property_masks: dict[str, jax.Array]
    dataset: jax.Array
    structure: jax.Array
    stress: jax.Array | None = None
    stress_mask: jax.Array | None = None


@struct.dataclass
class GraphBatch:
    """One padded batch.

    Attributes:
        graph: the main graph as a ``jraph.GraphsTuple`` in jraph's padding convention.
            ``nodes``: {"atomic_numbers": [N] int32, 0 for padding; "tags": [N] int32;
            "positions": [N, 3] Å, for reference only}; ``edges``: {"vector": [E, 3] Å,
            "image": [E] int32}; ``senders``, ``receivers`` [E], N - 1 for padding edges;
            ``n_node``, ``n_edge`` [G]; ``globals``: {"cell": [G, 3, 3] Å}.
        slots: [N, K] slots of the main edges at their receivers.
        swap: [E] the reverse of each main edge (an involution; padding maps to itself), or None
            where the main graph is directed.
        reverse: [N, R] the main edges that each atom sends, or None where ``swap`` is given.
        atoms: [G, M] slots of the atoms in their structures (padding atoms in none).
        node_graph: [N] structure of each atom; G - 1 for padding atoms.
        a2ee2a: atom-to-edge graph, or None where ``GraphConfig.kind`` has none.
        a2a: atom-to-atom graph, or None.
        quadruplets: quadruplet graph, or None.
        targets: labels.
        tiers: slots of the main and a2ee2a edges in tiers, or None for graphs of kind "nearest".
    """

    graph: jraph.GraphsTuple
    slots: Slots
    swap: jax.Array | None
    reverse: jax.Array | None
    atoms: Slots
    node_graph: jax.Array
    a2ee2a: AtomToEdgeGraph | None
    a2a: AtomToAtomGraph | None
    quadruplets: QuadrupletGraph | None
    targets: Targets
    tiers: Tiers | None = None

    # jraph types its fields as any tree or None; these give them their type back.
    @property
    def atomic_numbers(self) -> jax.Array:
        """[N] atomic numbers, 0 for padding."""
        return cast(dict[str, jax.Array], self.graph.nodes)["atomic_numbers"]

    @property
    def positions(self) -> jax.Array:
        """[N, 3] Å, for reference: models read the edge vectors."""
        return cast(dict[str, jax.Array], self.graph.nodes)["positions"]

    @property
    def senders(self) -> jax.Array:
        """[E] sending atom of each main edge."""
        return cast(jax.Array, self.graph.senders)

    @property
    def receivers(self) -> jax.Array:
        """[E] receiving atom of each main edge, in ascending order."""
        return cast(jax.Array, self.graph.receivers)

    @property
    def volumes(self) -> jax.Array:
        """[G] Å³, zero where there is no cell."""
        a, b, c = jnp.moveaxis(cast(dict[str, jax.Array], self.graph.globals)["cell"], 1, 0)
        return jnp.abs((a * jnp.cross(b, c)).sum(axis=-1))

    @property
    def edge_vectors(self) -> jax.Array:
        """[E, 3] Å, from sender to receiver."""
        return cast(dict[str, jax.Array], self.graph.edges)["vector"]

    @property
    def edge_images(self) -> jax.Array:
        """[E] codes of the periodic image offsets of the main edges."""
        return cast(dict[str, jax.Array], self.graph.edges)["image"]

    @property
    def node_mask(self) -> jax.Array:
        """[N] bool, true for real atoms."""
        return self.atomic_numbers > 0

    @property
    def edge_mask(self) -> jax.Array:
        """[E] bool, true for real main edges."""
        return self.slots.position < self.slots.index.size

    @property
    def graph_mask(self) -> jax.Array:
        """[G] bool, true for real structures."""
        return self.targets.structure >= 0

    @property
    def num_atoms(self) -> jax.Array:
        """[G] number of atoms of each structure (0 for the padding structure)."""
        return jnp.where(self.graph_mask, self.graph.n_node, 0)
