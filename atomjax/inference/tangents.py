"""Posterior variances of a trained model, by its neural tangent kernel of energies and forces.

Near its parameters a network is linear in them, with the derivatives of its outputs as features, so
that what is left uncertain of a structure after training on others is the posterior variance of
Bayesian linear regression in these features: in the neural tangent kernel, here of energies and
forces together, as in arXiv:2605.13788 (written from its description; its code was not compared).
A few random directions of the parameters stand for all of them. They keep the kernel on average,
and one pass through the network gives the derivatives of a whole batch along a direction.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from atomjax.graphs import GraphBatch
from atomjax.inference.predict import Predictor
from atomjax.models import AtomicModel, predict
from atomjax.structures import Structure
from atomjax.training.update.step import CountedFunction

# Variance of the labels' noise where the outputs of a structure have variance 1 beforehand.
NOISE = 0.01


def tangent_products(
    structures: Sequence[Structure],
    predictor: Predictor,
    dataset: str | None = None,
    *,
    directions: int = 64,
    seed: int = 0,
    told: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Products of the derivatives of each structure's outputs, mean over the outputs.

    Energies (per atom) and forces each have a trace of 1/2 on average over the structures, so that
    they count alike whatever their units.

    Args:
        structures: S structures, whose labels are not read.
        predictor: the model.
        dataset: data set whose head predicts; may be left out if there is one head.
        directions: q, random directions of the parameters.
        seed: seed of the directions.
        told: called after each batch with its number of structures.

    Returns:
        [S, q, q], float32: 16 kB a structure for 64 directions, and twice that on the way.

    Raises:
        ValueError: the head predicts neither energies nor forces, or there is no such head.
        GraphError: the graph of a structure cannot be built.
    """
    head = predictor.head(dataset)
    if head.config.kind == "scalar":
        raise ValueError(f"head {head.config.name!r} predicts neither energies nor forces")
    compute = CountedFunction(
        functools.partial(tangents, predictor.network, head.config.name, directions, seed)
    )
    # Of energies and of forces.
    products = np.zeros((2, len(structures), directions, directions), np.float32)
    for group, batch in predictor.batches(structures, head):
        found = jax.device_get(compute(predictor.variables, batch))
        first = 0
        for i, place in enumerate(group):
            size = len(structures[place])
            if "energy" in found:
                energy = found["energy"][:, i] / size
                products[0, place] = np.outer(energy, energy)
            if "forces" in found:
                forces = found["forces"][:, first : first + size].reshape(directions, -1)
                products[1, place] = forces @ forces.T / forces.shape[1]
            first += size
        if told is not None:
            told(len(group))
    for one in products:
        scale = np.trace(one, axis1=1, axis2=2).mean()
        one *= 0.5 / scale if scale else 0.0
    return products.sum(axis=0)


def select_least_known(products: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Structures picked one by one, each with the largest posterior variance given the others.

    Costs S q² operations a pick.

    Args:
        products: [S, q, q] as of `tangent_products`.
        size: number of structures to pick, at most S.

    Returns:
        [size] places in the order of picking, and the variances [S] before the first pick.
    """
    rows = products.reshape(len(products), -1)
    known = NOISE * np.eye(products.shape[1])
    first = np.trace(products, axis1=1, axis2=2)
    chosen = np.empty(size, np.int64)
    for pick in range(size):
        # NOISE · tr(Φ known⁻¹ Φᵀ), where known = NOISE + the sum of ΦᵀΦ over those picked.
        variances = rows @ (NOISE * np.linalg.inv(known)).astype(np.float32).ravel()
        variances[chosen[:pick]] = -np.inf
        best = chosen[pick] = np.argmax(variances)
        known = known + products[best]
    return chosen, first


def tangents(
    model: AtomicModel,
    head: str,
    directions: int,
    seed: int,
    variables: Mapping[str, Any],
    batch: GraphBatch,
) -> dict[str, jax.Array]:
    """Derivatives of a batch's outputs along random directions of the parameters.

    Args:
        model: network with heads.
        head: name of the head.
        directions: q.
        seed: seed of the directions, whose components have variance 1/q.
        variables: {"params", "scale_factors"}.
        batch: one batch of G structures and N atoms.

    Returns:
        "energy" [q, G] and "forces" [q, N, 3], those that the head has.
    """

    def outputs(params: Any) -> dict[str, jax.Array]:
        found = predict(model, {**variables, "params": params}, batch)[head]
        both = {"energy": found.energy, "forces": found.forces}
        return {name: value for name, value in both.items() if value is not None}

    # The backward pass is linear in its argument, so its own backward pass is the derivative along
    # a direction. (The network's operations have no forward derivatives.)
    found, backward = jax.vjp(outputs, variables["params"])
    _, along = jax.vjp(backward, jax.tree.map(jnp.zeros_like, found))
    leaves, structure = jax.tree.flatten(variables["params"])

    def derivatives(key: jax.Array) -> dict[str, jax.Array]:
        keys = jax.random.split(key, len(leaves))
        drawn = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
        (found,) = along((jax.tree.unflatten(structure, drawn),))
        return jax.tree.map(lambda x: x / directions**0.5, found)

    return jax.lax.map(derivatives, jax.random.split(jax.random.key(seed), directions))
