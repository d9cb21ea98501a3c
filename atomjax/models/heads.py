"""Heads: from backbone features to energies, forces and scalar properties.

All outputs are in the normalised units that the model is trained in; ``References`` turn them into
eV and eV/Å.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from atomjax.graphs.batch import GraphBatch
from atomjax.graphs.masses import ATOMIC_MASSES
from atomjax.models.features import Features
from atomjax.models.initializers import uniform
from atomjax.models.layers import drop, scaled_silu
from atomjax.models.precision import widened
from atomjax.ops import sum_slots, to_slots
from atomjax.ops.safe import safe_norm

Kind = Literal["energy_forces", "energy", "scalar"]
Forces = Literal["direct", "conservative"]
Pooling = Literal["sum", "mean", "max", "dipole", "extent"]
# Pooled with positions, so only for structures that do not repeat.
MOMENTS = ("dipole", "extent")


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """One property of structures that a head predicts.

    Attributes:
        name: name of the property among the structures' targets.
        pooling: combination of the atoms' contributions; "dipole" and "extent" take them as charges
            and as spreads of charge (see :func:`pool`).
        num_classes: number of classes, of each of which it predicts a score; 0 for a number.
        dropout: rate at the input of its network, in training.
    """

    name: str
    pooling: Pooling = "sum"
    num_classes: int = 0
    dropout: float = 0.0

    def __post_init__(self):
        """Raises ValueError on an unknown pooling, or one that scores of classes cannot have."""
        allowed = get_args(Pooling)
        if self.num_classes:
            allowed = tuple(one for one in allowed if one not in MOMENTS)
        _check_choice(f"target {self.name!r}", "pooling", self.pooling, allowed)


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """One task's head. Head i serves the structures of data set i.

    Attributes:
        name: name of the head, the key of its parameters and predictions.
        kind: "energy_forces", "energy" or "scalar" (no energy, properties alone).
        forces: "direct" (from edge features) or "conservative" (-dE/dR); for "energy_forces" only.
        pooling: combination of the atoms' contributions to the energy.
        targets: properties that it predicts, beside the energy or alone.
        num_layers: linear layers of the head.
        hidden_channels: width of its networks of energies and properties; None: the backbone's.
            This field and the next are EquiformerV2's, ``num_layers`` is GemNet-OC's.
        force_hidden_channels: the same of its network of direct forces.
        stress: also predict the stress, by the energy's derivative; with conservative forces only.
    """

    name: str
    kind: Kind = "energy_forces"
    forces: Forces | None = None
    pooling: Pooling = "sum"
    targets: tuple[TargetConfig, ...] = ()
    num_layers: int = 5
    hidden_channels: int | None = None
    force_hidden_channels: int | None = None
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
            _check_choice(f"head {self.name!r}", field, value, allowed)
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
        if self.kind == "scalar" and not self.targets:
            raise ValueError(f"head {self.name!r}: kind='scalar' needs targets.")
        if len({target.name for target in self.targets}) < len(self.targets):
            raise ValueError(f"head {self.name!r}: two of its targets share a name.")
        if self.num_layers < 1:
            raise ValueError(f"head {self.name!r}: num_layers must be at least 1.")

    @property
    def direct_forces(self) -> bool:
        """Whether the head reads edge features."""
        return self.forces == "direct"

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """A head from the plain values of a checkpoint, also of when it had one target or none."""
        fields = dict(fields)
        target = fields.pop("target", None)
        if target is not None:
            fields["targets"] = [{"name": target, "pooling": fields.pop("pooling", "sum")}]
        targets = tuple(TargetConfig(**target) for target in fields.pop("targets", ()))
        return cls(**fields, targets=targets)


def _check_choice(owner: str, field: str, value: Any, allowed: Sequence[Any]) -> None:
    if value not in allowed:
        raise ValueError(f"{owner}: {field}={value!r} is not one of {allowed}.")


def value_key(place: int) -> str:
    """Key of the parameters of a head's target; the first has that of a head with one."""
    return f"value_{place}" if place else "value"


@struct.dataclass
class Prediction:
    """Predictions of one head for a batch, in normalised units; None for those that it lacks.

    Attributes:
        energy: [G].
        forces: [N, 3].
        atom_contributions: [N] whose pool the energy is, or the first property without energies.
        values: name of each property → [G], or [G, C] scores of its classes.
        stress: [G, 3, 3] model units of the energy per Å³; zero for structures without a cell.
    """

    energy: jax.Array | None
    forces: jax.Array | None
    atom_contributions: jax.Array
    values: dict[str, jax.Array] = struct.field(default_factory=dict)
    stress: jax.Array | None = None


class HeadMLP(nn.Module):
    """Linear layers of the input's width with activations between.

    Attributes:
        num_layers: number of the layers.
        num_classes: outputs of the last; 0 for one without an axis of its own.
    """

    num_layers: int
    num_classes: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[rows, C] → [rows], or [rows, num_classes]."""
        width = x.shape[-1]
        init = uniform(1 / math.sqrt(width))  # of kernels and biases
        for i in range(self.num_layers - 1):
            layer = nn.Dense(
                width, kernel_init=init, bias_init=init, dtype=x.dtype, name=f"dense_{i}"
            )
            x = scaled_silu(layer(x))
        last = nn.Dense(
            self.num_classes or 1,
            use_bias=False,
            kernel_init=init,
            name=f"dense_{self.num_layers - 1}",
        )
        outputs = last(widened(x))
        return outputs if self.num_classes else outputs[..., 0]


def pool(x: jax.Array, batch: GraphBatch, pooling: Pooling) -> jax.Array:
    """Atom values [N] or [N, C] pooled over each structure, [G] or [G, C]; zero for padding ones.

    "dipole" is |Σ x_i (r_i - c)| and "extent" Σ x_i |r_i - c|², with c the centre of mass: the
    forms of the dipole moment and of the electronic spatial extent <R²> of QM9 (Schütt et al.,
    ICML 2021, section 3.3), which JMP's <R²> head has too. Positions in Å.
    """
    if x.ndim > 1:
        return jax.vmap(lambda one: pool(one, batch, pooling), in_axes=1, out_axes=1)(x)
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
    def __call__(self, features: Features, batch: GraphBatch) -> Prediction:
        """Predictions, but for what is a derivative of the energy."""
        c = self.config

        def contributions(name: str, target: TargetConfig | None) -> jax.Array:
            x, classes = features.node, 0
            if target is not None:
                x, classes = drop(self, x, target.dropout), target.num_classes
            return HeadMLP(c.num_layers, classes, name=name)(x)

        prediction = pooled_prediction(c, contributions, batch)
        if not c.direct_forces:
            return prediction
        if features.edge is None:
            raise ValueError(
                f"head {c.name!r} predicts direct forces, but the backbone computes no edge "
                "features: set edge_output=True in the model's config."
            )
        strength = HeadMLP(c.num_layers, name="forces")(features.edge)
        forces = sum_slots(strength[:, None] * features.edge_unit, batch.slots)
        return dataclasses.replace(prediction, forces=forces)


def pooled_prediction(
    config: HeadConfig,
    contributions: Callable[[str, TargetConfig | None], jax.Array],
    batch: GraphBatch,
    sum_divisor: float = 1.0,
) -> Prediction:
    """Energy and properties of a head.

    Args:
        config: the head.
        contributions: key of an output, "energy" or :func:`value_key`, and the property, if it is
            one → contributions [N], or [N, C] to scores of classes.
        batch: atoms to pool.
        sum_divisor: divisor of contributions that are summed.
    """
    atoms: list[jax.Array] = []

    def pooled(key: str, pooling: Pooling, target: TargetConfig | None = None) -> jax.Array:
        atoms.append(contributions(key, target) / (sum_divisor if pooling == "sum" else 1.0))
        return pool(atoms[-1], batch, pooling)

    energy = None if config.kind == "scalar" else pooled("energy", config.pooling)
    values = {t.name: pooled(value_key(i), t.pooling, t) for i, t in enumerate(config.targets)}
    return Prediction(energy=energy, forces=None, values=values, atom_contributions=atoms[0])
