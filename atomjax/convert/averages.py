"""Exponential averages of the weights, which the originals save as lists without names.

The order is that of the parameters in the model, which for the published codes is that of the
state_dict without what is no parameter. Every shape is compared, so a list in another order is
found out (unless the parameters that changed places have one shape).
"""

import fnmatch
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from atomjax.convert.errors import ConvertError
from atomjax.convert.nesting import Contents

# "all": every parameter's average. "jmp": as JMP's own loader leaves them, see `leave_unaveraged`.
# "none": the parameters themselves.
Averages = Literal["all", "jmp", "none"]


def find_averages(contents: Contents, parameters: Sequence[str]) -> dict[str, np.ndarray] | None:
    """Name → average of every trained parameter; None where the file has no averages.

    Args:
        contents: contents of the file.
        parameters: names of the trained parameters in the order of the file, each once.

    Raises:
        ConvertError: the averages do not fit the parameters.
    """
    values, order = (
        _fairchem(contents, parameters) or _lightning(contents, parameters) or (None, ())
    )
    if values is None:
        return None
    if len(values) != len(order):
        raise ConvertError(
            f"the file has averages of {len(values)} parameters, its state_dict has {len(order)}; "
            "convert the weights alone with --averages none"
        )
    for name, value in zip(order, values, strict=True):
        if not isinstance(value, np.ndarray) or value.shape != contents.tensors[name].shape:
            raise ConvertError(
                f"the average that should be of {name} has shape {getattr(value, 'shape', None)}, "
                f"the parameter {contents.tensors[name].shape}: the averages are in an unknown "
                "order; convert the weights alone with --averages none"
            )
    return dict(zip(order, values, strict=True))


def _fairchem(contents: Contents, parameters: Sequence[str]) -> tuple[Any, Sequence[str]] | None:
    """fairchem's: {"ema": {"shadow_params": [...]}}."""
    ema = contents.parts.get("ema")
    if not isinstance(ema, dict) or not isinstance(ema.get("shadow_params"), list):
        return None
    return ema["shadow_params"], parameters


def _lightning(contents: Contents, parameters: Sequence[str]) -> tuple[Any, Sequence[str]] | None:
    """JMP's: {"optimizer_states": [{"ema": (...), "opt": ...}]}, in the optimiser's groups."""
    states = contents.parts.get("optimizer_states")
    if not isinstance(states, list) or not states or not isinstance(states[0], dict):
        return None
    averages = states[0].get("ema")
    if not isinstance(averages, list | tuple) or not averages:
        return None
    if len(states) > 1:
        raise ConvertError(f"the file has averages of one of {len(states)} optimisers; use "
                           "--averages none")  # fmt: skip
    optimizer = states[0].get("opt")
    groups = optimizer.get("param_groups", []) if isinstance(optimizer, dict) else []
    return averages, _group(parameters, groups)


def _group(parameters: Sequence[str], groups: Sequence[dict[str, Any]]) -> list[str]:
    """The parameters in the order of the optimiser's groups.

    Finetuning in JMP gives blocks their own learning rates. A group's name is then its patterns
    with commas between them, except for the last, "rest".
    """
    if len(groups) < 2:
        return list(parameters)
    left, ordered = list(parameters), []
    for group in groups:
        patterns = str(group.get("name", "rest")).split(",")
        if patterns == ["rest"]:
            chosen = left
        else:
            chosen = [n for n in left if any(fnmatch.fnmatchcase(n, p) for p in patterns)]
        left = [name for name in left if name not in set(chosen)]
        if len(chosen) != len(group.get("params", [])):
            raise ConvertError(
                f"the optimiser's group {','.join(patterns)} has {len(group.get('params', []))} "
                f"parameters, the state_dict {len(chosen)}: the averages' order is unknown; "
                "convert the weights alone with --averages none"
            )
        ordered += chosen
    return ordered
