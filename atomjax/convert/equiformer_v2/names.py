"""Names and layouts of EquiformerV2 parameters in the published PyTorch checkpoints.

Names are those of the OC20 checkpoints after their prefix ("module.module.") is taken off. The
buffers of such a checkpoint (grids, index tables, Gaussians) are constants here.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import flax.traverse_util
import numpy as np

from atomjax.convert.family import Path
from atomjax.models.heads import HeadConfig
from atomjax.models.network import head_key

# Heads of ours and their counterparts.
_HEADS = {"energy": "energy_block", "value": "energy_block", "forces": "force_block"}

# Parts of a path → parts of a name. Modules that only group are not in the original.
_RENAMED = {
    "messages": "",
    "elements": "",
    "source": "source_embedding.weight",
    "target": "target_embedding.weight",
    "sphere_embedding": "sphere_embedding.weight",
    "affine": "affine_weight",
    "scale": "weight",
    "kernel": "weight",
    "m0": "fc_m0",
    "scalar_mlp": "scalar_mlp.0",
}

# A radial network is a list of layers with activations between, and so is the MLP on the grid.
_RADIAL = {"dense_0": 0, "norm_0": 1, "dense_1": 3, "norm_1": 4, "dense_2": 6}
_GRID_MLP = {"dense_0": 0, "dense_1": 2, "dense_2": 4}


def checkpoint_name(path: Path, heads: tuple[HeadConfig, ...]) -> str:
    """Name of a parameter in a checkpoint.

    Args:
        path: path of the parameter in ``params``, as in ("backbone", "blocks_0", ...).
        heads: the model's heads; a checkpoint holds one.

    Raises:
        KeyError: if the path belongs to no known part.
        ValueError: if the model has more than one head.
    """
    if len(heads) != 1:
        names = ", ".join(head.name for head in heads)
        raise ValueError(
            f"An EquiformerV2 checkpoint holds one head, the model has {len(heads)} ({names}); "
            "build it with one."
        )
    top, *rest = path
    if top == "backbone":
        return _name(rest)
    if top == head_key(heads[0].name) and rest[0] in _HEADS:
        return f"{_HEADS[rest[0]]}.{_name(rest[1:])}"
    raise KeyError(f"{'/'.join(path)} belongs to no part of an EquiformerV2 checkpoint")


def _name(path: list[str]) -> str:
    parts, parent = [], ""
    for name in path:
        if name == "radial":
            # The original keeps the radial network of a convolution inside it.
            part = "so2_conv_1.rad_func.net" if parts[-1:] != ["edge_degree_embedding"] else ""
            part = part or "rad_func.net"
        elif parent == "radial":
            part = str(_RADIAL[name])
        elif parent == "grid_mlp":
            part = str(_GRID_MLP[name])
        elif block := re.fullmatch(r"blocks_(\d+)", name):
            part = f"blocks.{block[1]}"
        elif order := re.fullmatch(r"m([1-9]\d*)", name):
            part = f"so2_m_conv.{int(order[1]) - 1}.fc"
        else:
            part = _RENAMED.get(name, name)
        parts.append(part)
        parent = name
    return ".".join(part for part in parts if part)


def to_checkpoint_layout(name: str, value: np.ndarray) -> np.ndarray:
    """A parameter of ours in the layout of the checkpoint entry ``name``, or the other way."""
    if name.endswith(("embedding.weight", "affine_weight", "alpha_dot")):
        return value
    return value.swapaxes(-1, -2) if value.ndim > 1 else value


def checkpoint_entries(
    variables: Mapping[str, Any], heads: tuple[HeadConfig, ...]
) -> Iterator[tuple[str, Path, str, tuple[int, ...]]]:
    """Every parameter as (collection, path, checkpoint name, checkpoint shape)."""
    leaves: dict[Path, Any] = flax.traverse_util.flatten_dict(variables["params"])
    for path, leaf in leaves.items():
        name = checkpoint_name(path, heads)
        shape = to_checkpoint_layout(name, np.empty(leaf.shape, np.bool_)).shape
        yield "params", path, name, shape
