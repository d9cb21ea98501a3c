"""A backbone with its heads, and the pure functions that apply it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from atomjax.graphs.batch import GraphBatch
from atomjax.models.backbone import Network
from atomjax.models.displacement import displaced, strained
from atomjax.models.features import Features
from atomjax.models.heads import HeadConfig, Prediction
from atomjax.models.precision import exact_products, product_precision, widened

Variables = Mapping[str, Any]


class AtomicModel(nn.Module):
    """A backbone and its heads.

    Attributes:
        backbone: network, whose ``config.precision`` is the policy of all; its parameters lie under
            ``backbone``.
        heads: head i serves data set i; their parameters lie under ``head_<name>``.
    """

    backbone: Network
    heads: tuple[HeadConfig, ...]

    def setup(self):
        """Heads."""
        for config in self.heads:
            setattr(self, head_key(config.name), self.backbone.head(config))

    def __call__(
        self,
        batch: GraphBatch,
        displacement: jax.Array | None = None,
        strain: jax.Array | None = None,
    ):
        """Head name → its predictions, but for derivatives of the energy."""
        with product_precision(self.backbone.config.precision):
            features = self.features(batch, displacement, strain)
            return {c.name: getattr(self, head_key(c.name))(features, batch) for c in self.heads}

    def features(
        self,
        batch: GraphBatch,
        displacement: jax.Array | None = None,
        strain: jax.Array | None = None,
    ) -> Features:
        """Backbone features of the batch, its atoms displaced (Å) and its structures strained."""
        with exact_products():
            batch = strained(displaced(batch, displacement), strain)
        with product_precision(self.backbone.config.precision):
            return self.backbone(batch)


def head_key(name: str) -> str:
    """Key of a head's parameters."""
    return f"head_{name}"


def predict(
    model: AtomicModel,
    variables: Variables,
    batch: GraphBatch,
    *,
    train: bool = False,
    rngs: Mapping[str, jax.Array] | None = None,
) -> dict[str, Prediction]:
    """Predictions of every head, differentiable and to be jit-compiled by the caller.

    Args:
        model: result of ``build_model``.
        variables: {"params", "scale_factors"}.
        batch: one unstacked batch.
        train: switches dropout on; needs ``rngs={"dropout": key}``.
        rngs: random streams.

    Returns:
        Head name → Prediction in normalised units.

    Raises:
        ValueError: if training is asked for without a dropout key.
    """
    if train and not (rngs and "dropout" in rngs):
        raise ValueError("predict(train=True) needs rngs={'dropout': key}.")
    streams = dict(rngs or {}) if train else {}

    def apply(displacement=None, strain=None) -> Any:
        return model.apply(variables, batch, displacement, strain, rngs=streams)

    conservative = [c for c in model.heads if c.forces == "conservative"]
    if not conservative:
        return apply()
    at_rest = [jnp.zeros_like(batch.positions)]
    if any(c.stress for c in conservative):
        at_rest.append(jnp.zeros((*batch.num_atoms.shape, 3, 3), batch.positions.dtype))
    outputs, backward = jax.vjp(apply, *at_rest)
    predictions: dict[str, Prediction] = dict(outputs)
    for c in conservative:
        seed = jax.tree.map(jnp.zeros_like, outputs)
        ones = jnp.ones_like(outputs[c.name].energy)
        seed[c.name] = dataclasses.replace(seed[c.name], energy=ones)
        gradient, *of_strain = backward(seed)
        stress = per_volume(of_strain[0], batch.volumes) if c.stress else None
        own = dataclasses.replace(outputs[c.name], forces=-gradient, stress=stress)
        predictions[c.name] = own
    return predictions


def per_volume(derivative: jax.Array, volumes: jax.Array) -> jax.Array:
    """The stress σ = dE/dε / V, [G, 3, 3]; zero where there is no volume [G]."""
    positive = (volumes > 0)[:, None, None]
    return jnp.where(positive, derivative / jnp.where(positive, volumes[:, None, None], 1), 0)


def features(model: AtomicModel, variables: Variables, batch: GraphBatch) -> Features:
    """Features of the backbone's last layer (the inputs of the heads), in at least float32."""
    value: Any = model.apply(variables, batch, method="features")
    edge = None if value.edge is None else widened(value.edge)
    return dataclasses.replace(value, node=widened(value.node), edge=edge)
