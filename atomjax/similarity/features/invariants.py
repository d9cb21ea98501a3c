"""Features that do not turn with the structure.

Features of degree l > 0 rotate when the structure does, so a distance between sets of them depends
on how the structures of a set happen to be oriented.
"""

import jax
import jax.numpy as jnp

from atomjax.ops import safe_norm

INVARIANTS = ("scalars", "norms")


def invariant_features(features: jax.Array, lmax: int, kind: str = "scalars") -> jax.Array:
    """Rotation-invariant part of equivariant features.

    Args:
        features: [N, (lmax + 1)² · C], for each degree l and order m (``l² + l + m``) C channels.
        lmax: largest degree.
        kind: "scalars", the channels of degree 0; or "norms", those and the norm of every channel
            over the orders of each higher degree.

    Returns:
        [N, C] scalars, or [N, (lmax + 1) · C] norms.

    Raises:
        ValueError: the kind is unknown, or the width does not fit ``lmax``.
    """
    if kind not in INVARIANTS:
        raise ValueError(f"kind={kind!r} is not known; use one of {', '.join(INVARIANTS)}")
    rows, width = features.shape
    components = (lmax + 1) ** 2
    if width % components:
        raise ValueError(
            f"{width} features are not (lmax + 1)² = {components} components of some channels; "
            "give the lmax of the backbone, or use features without degrees as they are"
        )
    by_component = features.reshape(rows, components, -1)
    if kind == "scalars":
        return by_component[:, 0]
    parts = [by_component[:, 0]]
    for degree in range(1, lmax + 1):
        orders = by_component[:, degree**2 : (degree + 1) ** 2]
        parts.append(safe_norm(orders, axis=1))
    return jnp.concatenate(parts, axis=1)
