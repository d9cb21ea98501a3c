"""Heads: from backbone features to energies, forces and scalar properties.

All outputs are in the normalised units that the model is trained in; ``References`` turn them into
eV and eV/Å.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from atomjax.graphs.batch import GraphBatch
from atomjax.graphs.masses import ATOMIC_MASSES
from atomjax.models.features import Features
from atomjax.models.initializers import uniform
from atomjax.models.layers import scaled_silu
from atomjax.models.precision import widened
from atomjax.ops import sum_slots, to_slots
from atomjax.ops.safe import safe_norm

Kind = Literal["energy_forces", "energy", "scalar"]
Forces = Literal["direct", "conservative"]
Pooling = Literal["sum", "mean", "max", "dipole", "extent"]
# Pooled with positions, so only for structures that do not repeat.
MOMENTS = ("dipole", "extent")


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """One task's head. Head i serves the structures of data set i.

    Attributes:
        name: name of the head, the key of its parameters and predictions.
        kind: "energy_forces", "energy" or "scalar" (any property of a structure).
        forces: "direct" (from edge features) or "conservative" (-dE/dR); for "energy_forces" only.
        pooling: combination of the atoms' contributions; "dipole" and "extent" take them as charges
            and as spreads of charge (see :func:`pool`).
        target: name of the property that a scalar head predicts.
        num_layers: linear layers of the head.
        stress: also predict the stress, by the energy's derivative; with conservative forces only.
    """

    name: str
    kind: Kind = "energy_forces"
    forces: Forces | None = None
    pooling: Pooling = "sum"
    target: str | None = None
    num_layers: int = 5
    stress: bool = False

    def __post_init__(self):
        """Fills in the default force kind.

        Raises:
            ValueError: on an unknown or contradictory setting.
        """
        for field, value, allowed in (
            ("kind", self.kind, get_args(Kind)),
            ("forces", self.forces, (None, *get_args(Forces))),
            ("pooling", self.pooling, get_args(Pooling)),
        ):
            if value not in allowed:
                raise ValueError(f"head {self.name!r}: {field}={value!r} is not one of {allowed}.")
        if self.kind == "energy_forces" and self.forces is None:
            object.__setattr__(self, "forces", "direct")
        if self.kind != "energy_forces" and self.forces is not None:
            raise ValueError(
                f"head {self.name!r}: forces={self.forces!r} needs kind='energy_forces', "
                f"not {self.kind!r}."
            )
        if self.stress and self.forces != "conservative":
            raise ValueError(
                f"head {self.name!r}: stress=True is the energy's derivative and needs "
                f"forces='conservative', not {self.forces!r}."
            )
        if (self.kind == "scalar") != (self.target is not None):
            raise ValueError(
                f"head {self.name!r}: kind='scalar' and target go together "
                f"(kind={self.kind!r}, target={self.target!r})."
            )
        if self.num_layers < 1:
            raise ValueError(f"head {self.name!r}: num_layers must be at least 1.")

    @property
    def direct_forces(self) -> bool:
        """Whether the head reads edge features."""
        return self.forces == "direct"


class HeadMLP(nn.Module):
    """Linear layers of the input's width with activations between; the last has one output."""

    num_layers: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[rows, C] → [rows]."""
        width = x.shape[-1]
        init = uniform(1 / math.sqrt(width))  # of kernels and biases
        for i in range(self.num_layers - 1):
            layer = nn.Dense(
                width, kernel_init=init, bias_init=init, dtype=x.dtype, name=f"dense_{i}"
            )
            x = scaled_silu(layer(x))
        last = nn.Dense(1, use_bias=False, kernel_init=init, name=f"dense_{self.num_layers - 1}")
        return last(widened(x))[..., 0]


def pool(x: jax.Array, batch: GraphBatch, pooling: Pooling) -> jax.Array:
    """Atom values [N] pooled over each structure, [G]; zero for padding structures.

    "dipole" is |Σ x_i (r_i - c)| and "extent" Σ x_i |r_i - c|², with c the centre of mass: the
    forms of the dipole moment and of the electronic spatial extent <R²> of QM9 (Schütt et al.,
    ICML 2021, section 3.3), which JMP's <R²> head has too. Positions in Å.
    """
    if pooling in MOMENTS:
        arms = _from_center_of_mass(batch)
        if pooling == "dipole":
            return safe_norm(sum_slots(x[:, None] * arms, batch.atoms))
        return sum_slots(x * jnp.sum(arms * arms, axis=-1), batch.atoms)
    if pooling == "sum":
        return sum_slots(x, batch.atoms)
    if pooling == "mean":
        return sum_slots(x, batch.atoms) / jnp.maximum(batch.num_atoms, 1)
    values = to_slots(x, batch.atoms)
    real = batch.atoms.index < x.shape[0]
    highest = jnp.max(jnp.where(real, values, -jnp.inf), axis=1, initial=-jnp.inf)
    return jnp.where(real.any(axis=1), highest, 0)


def _from_center_of_mass(batch: GraphBatch) -> jax.Array:
    """[N, 3] Å, positions relative to the centre of mass of their structure."""
    masses = jnp.asarray(ATOMIC_MASSES, batch.positions.dtype)[batch.atomic_numbers]
    total = sum_slots(masses, batch.atoms)
    # Relative to the first atom, so that little is lost far from the origin.
    first = batch.atoms.index[:, 0].clip(max=batch.positions.shape[0] - 1)
    local = batch.positions - batch.positions[first][batch.node_graph]
    weighted = sum_slots(masses[:, None] * local, batch.atoms)
    center = weighted / jnp.where(total > 0, total, 1)[:, None]
    return local - center[batch.node_graph]


class Head(nn.Module):
    """The head of one task."""

    config: HeadConfig

    @nn.compact
    def __call__(
        self, features: Features, batch: GraphBatch
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Atom contributions [N], their pool [G], and direct forces [N, 3] or None."""
        c = self.config
        name = "value" if c.kind == "scalar" else "energy"
        contributions = HeadMLP(c.num_layers, name=name)(features.node)
        pooled = pool(contributions, batch, c.pooling)
        forces = None
        if c.direct_forces:
            if features.edge is None:
                raise ValueError(
                    f"head {c.name!r} predicts direct forces, but the backbone computes no edge "
                    "features: set edge_output=True in the model's config."
                )
            strength = HeadMLP(c.num_layers, name="forces")(features.edge)
            forces = sum_slots(strength[:, None] * features.edge_unit, batch.slots)
        return contributions, pooled, forces
