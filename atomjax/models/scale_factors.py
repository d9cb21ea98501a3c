"""Fitting and checking the scale factors that are part of a GemNet-OC model, and of no other.

A GemNet whose factors are not fitted trains badly and predicts nonsense without any error, the
commonest trap of the original code; here such a model is refused.
"""

from collections.abc import Iterable
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from atomjax.graphs.batch import GraphBatch
from atomjax.models.network import AtomicModel


class ScaleFactorError(ValueError):
    """A model's scale factors are missing or not fitted."""


def check_fitted(variables: Any) -> None:
    """Refuses variables with unfitted scale factors.

    Args:
        variables: {"params", "scale_factors"}; models without factors have an empty collection.

    Raises:
        ScaleFactorError: names the factors that are zero or not finite.
    """
    factors = flax.traverse_util.flatten_dict(dict(variables.get("scale_factors", {})), sep="/")
    unfitted = [
        name
        for name, value in factors.items()
        if not np.isfinite(np.asarray(value)) or float(np.asarray(value)) == 0.0
    ]
    if unfitted:
        shown = ", ".join(unfitted[:3]) + (", ..." if len(unfitted) > 3 else "")
        raise ScaleFactorError(
            f"{len(unfitted)} of {len(factors)} scale factors are not fitted ({shown}). Load a "
            "checkpoint that has them, or fit them from data with "
            "atomjax.models.fit_scale_factors(model, variables, batches)."
        )


def fit_scale_factors(
    model: AtomicModel, variables: dict[str, Any], batches: Iterable[GraphBatch]
) -> dict[str, Any]:
    """Fits every scale factor so that a layer's output varies as much as its input.

    Factors are fitted in the order of the forward pass, each with those before it in place, from
    the variances summed over the batches seen so far.

    Args:
        model: the model.
        variables: {"params", "scale_factors"} with any factors; they are fitted anew.
        batches: unstacked batches of real data; a few suffice.

    Returns:
        ``variables`` with new scale factors; as they are for a model without any.

    Raises:
        ScaleFactorError: if there is no batch, or some interaction occurs in none of them.
    """
    if not variables["scale_factors"]:
        return variables

    # The parameters are an argument: as constants they would make a new program of every seed.
    @jax.jit
    def observe(params, state, batch):
        _, updated = model.apply(
            {"params": params, **state},
            batch,
            mutable=["scale_factors", "scale_statistics"],
        )
        return updated

    state: dict[str, Any] = {"scale_factors": variables["scale_factors"]}
    for batch in batches:
        if "scale_statistics" not in state:
            # Sums begin at zero. Given from the start, all batches are one program.
            shapes = jax.eval_shape(observe, variables["params"], state, batch)
            state["scale_statistics"] = jax.tree.map(
                lambda x: jnp.zeros(x.shape, x.dtype), shapes["scale_statistics"]
            )
        state = dict(observe(variables["params"], state, batch))
    fitted = {**variables, "scale_factors": state["scale_factors"]}
    try:
        check_fitted(fitted)
    except ScaleFactorError as error:
        raise ScaleFactorError(
            "The given batches do not determine every scale factor: give batches of structures "
            "with at least four atoms, in which every interaction occurs. " + str(error)
        ) from error
    return fitted
