"""Names and layouts of GemNet-OC parameters in the published PyTorch checkpoints."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import flax.traverse_util
import numpy as np

from atomjax.convert.family import Path
from atomjax.models.heads import HeadConfig
from atomjax.models.network import head_key

# The two-step ("bilinear") layers of the original hold their dense layer one level deeper.
_BILINEAR = {
    "trip_interaction": "mlp_cbf",
    "atom_edge_interaction": "mlp_cbf",
    "edge_atom_interaction": "mlp_cbf",
    "quad_interaction": "mlp_sbf",
}

# Basis weights that the original holds itself instead of in a linear layer.
_WITHOUT_LINEAR = ("mlp_cbf", "mlp_sbf", "mlp_rbf_aint")

# Outputs of our heads under the names of the original's, which predict properties as energies.
_OUTPUTS = {"energy": "energy", "value": "energy", "forces": "forces"}

# Modules under another name than ours.
_RENAMED = {"out_mlp_energy": "out_mlp_E", "out_mlp_forces": "out_mlp_F"}


def checkpoint_name(path: Path, heads: tuple[HeadConfig, ...]) -> str:
    """Name of a parameter in a JMP checkpoint.

    Args:
        path: path in ``params`` or ``scale_factors``, as in ("backbone", "bases", ...).
        heads: the model's heads; head i is the checkpoint's task i.

    Raises:
        KeyError: if the path belongs to no known part.
    """
    top, *rest = path
    if top == "backbone":
        return _backbone_name(tuple(rest))
    for task, head in enumerate(heads):
        if top == head_key(head.name):
            output, layer, leaf = rest
            index = 2 * int(layer.removeprefix("dense_"))
            leaf = "weight" if leaf == "kernel" else leaf
            return f"output.out_{_OUTPUTS[output]}.{task}.{index}.{leaf}"
    raise KeyError(f"{'/'.join(path)} belongs to no part of a GemNet-OC checkpoint")


def _backbone_name(path: Path) -> str:
    if path == ("embedding",):
        return "embedding.atom_embedding.weight"
    if path[0] == "edge_emb":
        path = ("bases", *path)
    if path[0] == "bases" and path[1].startswith(_WITHOUT_LINEAR):
        return f"backbone.bases.{path[1]}.weight"
    parts = ["backbone"]
    for parent, name in zip((None, *path), path, strict=False):
        if name == "kernel":
            parts.append("linear.weight")
        elif numbered := re.fullmatch(r"(.+)_(\d+)", name):
            stem, index = numbered.groups()
            if stem == "dense":
                stem = "dense_mlp"
            elif parent in _RENAMED:
                stem = "out_mlp"
            parts.append(f"{stem}.{index}")
        elif name == _BILINEAR.get(parent or ""):
            parts.append(f"{name}.bilinear")
        else:
            parts.append(_RENAMED.get(name, name))
    return ".".join(parts)


def to_checkpoint_layout(name: str, value: np.ndarray) -> np.ndarray:
    """A parameter of ours in the layout of the checkpoint entry ``name``, or the other way."""
    if value.ndim == 3:  # [R, I, L] holds the same memory as the original's [R, L, I]
        return value.reshape(value.shape[0], value.shape[2], value.shape[1])
    return value if name.startswith("embedding.") else value.T


def checkpoint_entries(
    variables: Mapping[str, Any], heads: tuple[HeadConfig, ...]
) -> Iterator[tuple[str, Path, str, tuple[int, ...]]]:
    """Every parameter and scale factor as (collection, path, checkpoint name, checkpoint shape)."""
    for collection in ("params", "scale_factors"):
        leaves: dict[Path, Any] = flax.traverse_util.flatten_dict(variables.get(collection, {}))
        for path, leaf in leaves.items():
            name = checkpoint_name(path, heads)
            shape = to_checkpoint_layout(name, np.empty(leaf.shape, np.bool_)).shape
            yield collection, path, name, shape
